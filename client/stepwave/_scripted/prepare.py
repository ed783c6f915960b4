"""Prepares a scripted run: reads its workflow, checks its script, and calls it outside any running event loop."""

import asyncio
import contextvars
import inspect
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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

__all__ = ["WorkflowLike", "by_action", "call_off_loop", "located_errors", "read_workflow", "with_functions"]

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


def by_action(script: Mapping[str, ActionScript], workflow: workflow_pb2.Workflow) -> dict[str, ActionScript]:
    """Return a script with each key that is the id of a step under the name of its action.

    Under the empty name are steps of workflows that are chosen during the run: their actions are not known yet.

    Raises:
        ValueError: The workflow lacks an action or a step of the script. A misspelt name would replace nothing.
    """
    steps = dict(_steps_by_path(workflow, ""))
    actions = defaultdict[str, list[str]](list)
    for path, step in steps.items():
        for name in _actions_of(step):
            actions[name].append(path)
    dynamic = tuple(f"{path}/" for path in actions[_WORKFLOW_ACTION] if not steps[path].HasField("workflow"))
    if not actions[_WORKFLOW_ACTION]:
        del actions[_WORKFLOW_ACTION]
    found: dict[str, ActionScript] = {}
    for name, given in script.items():
        if name in actions or (dynamic and declared_id(name) not in steps and "/" not in name):
            _check_steps(name, given, steps, actions[name], dynamic)
            entries = found.setdefault(name, ActionScript({})).entries
            entries.update({**given.entries, **entries})
            found[name].partial = False
        else:
            _add_step(found, name, given, steps, actions, dynamic)
    return found


_WORKFLOW_ACTION = "core.workflow"


def _steps_by_path(workflow: workflow_pb2.Workflow, before: str) -> Iterator[tuple[str, workflow_pb2.Step]]:
    """Yield the steps of a workflow, and of those within it, by the path to them without the indexes of items."""
    for step in workflow.steps:
        yield before + step.id, step
        if step.HasField("workflow"):
            yield from _steps_by_path(step.workflow, f"{before}{step.id}/")


def _actions_of(step: workflow_pb2.Step) -> Iterator[str]:
    if not step.HasField("workflow"):
        yield step.action
    if step.fallback.HasField("action"):
        yield step.fallback.action.action


def _check_steps(
    name: str,
    script: ActionScript,
    steps: Mapping[str, workflow_pb2.Step],
    own: Sequence[str],
    dynamic: tuple[str, ...],
) -> None:
    for step_id in script.entries:
        path = declared_id(step_id)
        if step_id and path not in own and not path.startswith(dynamic or "//"):
            raise ValueError(
                f"the script of {name!r} has the step {step_id!r}, which does not have this action"
                f"{_suggestion(step_id, own)}"
            )
        _check_indexes(step_id, steps)


def _add_step(
    found: dict[str, ActionScript],
    step_id: str,
    given: ActionScript,
    steps: Mapping[str, workflow_pb2.Step],
    actions: Mapping[str, Sequence[str]],
    dynamic: tuple[str, ...],
) -> None:
    """Add the entries of a step to the script of its action."""
    path = declared_id(step_id)
    if path in steps and not steps[path].HasField("workflow"):
        action = steps[path].action
    elif path.startswith(dynamic or "//"):
        action = ""
    elif path in steps:
        raise ValueError(f"the script has the step {step_id!r}, which runs a workflow: name steps of that")
    else:
        raise ValueError(
            f"the script has the action {step_id!r}, but no step of the workflow has it"
            f"{_suggestion(step_id, [*actions, *steps])}"
        )
    if "" not in given.entries:
        raise ValueError(f"the script of step {step_id!r}: `ByStep` is for actions")
    _check_indexes(step_id, steps)
    found.setdefault(action, ActionScript({}, partial=True)).entries[step_id] = given.entries[""]


def _check_indexes(step_id: str, steps: Mapping[str, workflow_pb2.Step]) -> None:
    """Check that only children of lists have an index."""
    end = step_id.find("[")
    while end >= 0:
        step = steps.get(declared_id(step_id[:end]))
        if step is not None and not step.HasField("for_each"):
            raise ValueError(f"the script has {step_id!r}, but {step_id[:end]!r} runs over no list")
        end = step_id.find("[", end + 1)


def with_functions(
    actions: Iterable[object], workflow: WorkflowLike, script: Mapping[str, ActionScript]
) -> list[object]:
    """Return actions, and the functions and classes of a workflow. A class that the script replaces is left out.

    A function that the script replaces serves to check inputs. A class would be instantiated for that.
    """
    given = workflow.actions if isinstance(workflow, Workflow) else ()
    replaced = {name for name, one in script.items() if not one.partial}
    return [*actions, *(item for item in given if not (inspect.isclass(item) and name_of(item) in replaced))]


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(set(known)))}"


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
