"""Prepares a scripted run: reads its workflow, checks its script, and calls it outside any running event loop."""

import asyncio
import contextvars
import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TypeAlias, TypeVar

from stepwave._actions.action import name_of
from stepwave._building.workflow import Workflow
from stepwave._convert.paths import declared_id
from stepwave._files import LoadedWorkflow, load_workflow
from stepwave.exceptions import InvalidWorkflow
from stepwave.v1 import workflow_pb2

from .script import ActionScript

__all__ = ["WorkflowLike", "call_off_loop", "check_names", "located_errors", "read_workflow", "with_functions"]

# A workflow under construction, a message of the contract, or the path of a workflow file.
WorkflowLike: TypeAlias = "Workflow | workflow_pb2.Workflow | str | os.PathLike[str]"

T = TypeVar("T")


def read_workflow(workflow: WorkflowLike) -> tuple[workflow_pb2.Workflow, LoadedWorkflow | None]:
    """Return a workflow as a message, and as loaded if it is a file.

    Raises:
        InvalidWorkflow: The file is not a workflow.
        OSError: The file cannot be read.
    """
    if isinstance(workflow, Workflow):
        return workflow.to_proto(), None
    if isinstance(workflow, workflow_pb2.Workflow):
        return workflow, None
    loaded = load_workflow(workflow)
    return loaded.message, loaded


@contextmanager
def located_errors(loaded: LoadedWorkflow | None) -> Iterator[None]:
    """Add places in the workflow's file to the errors of the body.

    Raises:
        InvalidWorkflow: The body raised it.
    """
    try:
        yield
    except InvalidWorkflow as error:
        if loaded is None or not error.violations:
            raise
        raise loaded.locate(error.violations, error.hint) from None


def check_names(script: Mapping[str, ActionScript], workflow: workflow_pb2.Workflow) -> None:
    """Check that the workflow has every action and step of a script. A misspelt name would replace nothing.

    Raises:
        ValueError: The workflow lacks one.
    """
    steps: defaultdict[str, list[str]] = defaultdict(list)
    for action, step_id in _actions(workflow, ""):
        steps[action].append(step_id)
    for name, action_script in script.items():
        if name not in steps:
            raise ValueError(
                f"the script has the action {name!r}, but no step of the workflow has it{_suggestion(name, steps)}"
            )
        for step_id in action_script:
            if step_id and declared_id(step_id) not in steps[name]:
                raise ValueError(
                    f"the script of {name!r} has the step {step_id!r}, which does not have this action"
                    f"{_suggestion(step_id, steps[name])}"
                )


def _actions(workflow: workflow_pb2.Workflow, before: str) -> Iterator[tuple[str, str]]:
    """Yield the actions of a workflow's steps and fallbacks, and of those within them, each with the step's id."""
    for step in workflow.steps:
        step_id = before + step.id
        if step.HasField("workflow"):
            yield from _actions(step.workflow, f"{step_id}/")
        else:
            yield step.action, step_id
        if step.fallback.HasField("action"):
            yield step.fallback.action.action, step_id


def with_functions(
    actions: Iterable[object], workflow: WorkflowLike, script: Mapping[str, ActionScript]
) -> list[object]:
    """Return actions, and the functions and classes of a workflow. A class that the script replaces is left out.

    A function that the script replaces serves to check inputs. A class would be instantiated for that.
    """
    given = workflow.actions if isinstance(workflow, Workflow) else ()
    return [*actions, *(item for item in given if not (inspect.isclass(item) and name_of(item) in script))]


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"


def call_off_loop(call: Callable[[], T]) -> T:
    """Make a call that runs an event loop. If this thread's loop is running, use another thread and block the loop."""
    if not _loop_runs():
        return call()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, "stepwave-scripted") as threads:
        return threads.submit(context.run, call).result()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
