"""What a test asks for, made ready to run, and run where the test's own event loop is in nobody's way."""

import asyncio
import contextvars
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TypeAlias, TypeVar

from stepwave._building.workflow import Workflow
from stepwave._files import LoadedWorkflow, load_workflow
from stepwave.exceptions import InvalidWorkflow
from stepwave.v1 import workflow_pb2

from .entries import Part

__all__ = ["WorkflowLike", "apart", "check_names", "nanos", "placed", "read"]

# A workflow under construction, one as a message of the contract, or the path of the file that holds one.
WorkflowLike: TypeAlias = "Workflow | workflow_pb2.Workflow | str | os.PathLike[str]"

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read(workflow: WorkflowLike) -> tuple[workflow_pb2.Workflow, LoadedWorkflow | None]:
    """Return a workflow as a message, and the file it came from, if it did.

    Raises:
        InvalidWorkflow: The file is not a workflow.
        OSError: It cannot be read.
    """
    if isinstance(workflow, Workflow):
        return workflow.to_proto(), None
    if isinstance(workflow, workflow_pb2.Workflow):
        return workflow, None
    loaded = load_workflow(workflow)
    return loaded.message, loaded


@contextmanager
def placed(loaded: LoadedWorkflow | None) -> Iterator[None]:
    """Give what is wrong with a workflow its place in the file that it came from.

    Raises:
        InvalidWorkflow: Something is.
    """
    try:
        yield
    except InvalidWorkflow as error:
        if loaded is None or not error.violations:
            raise
        raise loaded.locate(error.violations) from None


def check_names(script: Mapping[str, Part], workflow: workflow_pb2.Workflow) -> None:
    """Check that every action and step of a script is one of the workflow's: a misspelt one would replace nothing.

    Raises:
        ValueError: One is not.
    """
    steps: defaultdict[str, list[str]] = defaultdict(list)
    for step in workflow.steps:
        steps[step.action].append(step.id)
        if step.fallback.HasField("action"):
            steps[step.fallback.action.action].append(step.id)
    for name, part in script.items():
        if name not in steps:
            raise ValueError(
                f"the script has the action {name!r}, and no step of the workflow does{_meant(name, steps)}"
            )
        for step_id in part:
            if step_id and step_id not in steps[name]:
                raise ValueError(
                    f"the script of {name!r} has the step {step_id!r}, which has not that action"
                    f"{_meant(step_id, steps[name])}"
                )


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(known))}"


def nanos(moment: datetime) -> int:
    """Return a point in time in nanoseconds since the epoch; without a zone, it is the local one."""
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * 1_000


def apart(call: Callable[[], T]) -> T:
    """Make a call that runs an event loop; on a thread of its own where one runs already, which stands still then."""
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
