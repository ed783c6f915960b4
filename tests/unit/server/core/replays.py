"""Runs in which anything happens, to be replayed."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import strategies as st

from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    Event,
    Input,
    StopRequested,
)
from stepwave_server.core.model import (
    SECOND,
    Failure,
    FailureCause,
    Reason,
    Workflow,
)
from stepwave_server.core.replay import ReplayDiverged, replay
from stepwave_server.core.state import CORE_VERSION
from unit.server.core.build import flow
from unit.server.core.driver import EVALUATOR, Drive
from unit.server.core.snapshot import snapshot
from unit.server.core.strategies import DEEPEST, answers, batches, step_lists

__all__ = ["STOPPED", "assert_replays", "begun", "diverged", "growing", "walk"]

STOPPED = Failure(Reason.INTERRUPTED, "the server was told to fail what it found", cause=FailureCause.SERVER_STOPPED)


def likely(drive: Drive) -> Iterator[Input]:
    """Yield the inputs that may come next, restarts of the server included."""
    run = drive.run
    for step_id in drive.waiting():
        yield AttemptStarted(step_id, run.steps[step_id].attempt + 1)
    for step_id, running in run.running.items():
        yield from answers(drive, step_id)
        if not running.waits:
            attempt = running.attempt
            broke = Failure(Reason.INTERRUPTED, "broke", step_id=step_id, attempt=attempt)
            yield AttemptFailed(step_id, attempt, broke)
            yield AttemptLost(step_id, attempt)
            yield AttemptLost(step_id, attempt, drained=True)
    for interrupt in drive.interrupts():
        step_id, attempt = interrupt.step_id, interrupt.attempt
        if step_id in run.running and run.steps[step_id].attempt == attempt:
            yield AttemptInterrupted(step_id, attempt, interrupt.failure, abandoned=False)
            yield AttemptInterrupted(step_id, attempt, interrupt.failure, abandoned=True)


def walk(drive: Drive, data: st.DataObject, additions: Sequence[AddSteps] = ()) -> Drive:
    """Let anything happen that can, until nothing can or the run is left alone."""
    to_add = list(additions)
    stop_after = data.draw(st.none() | st.integers(1, 12), label="stop after")
    left_after = data.draw(st.none() | st.integers(1, 20), label="left after")
    while drive.run.finished is None and left_after != len(drive.inputs):
        drive.now += data.draw(st.sampled_from([1, 0, -2])) * SECOND
        choices = list(likely(drive))
        timer = drive.next_timer()
        if stop_after == len(drive.inputs):
            drive.feed(StopRequested(STOPPED))
        elif to_add and drive.run.open and data.draw(st.booleans()):
            drive.feed(to_add.pop(0))
        elif timer is not None and (not choices or data.draw(st.integers(0, 4)) == 0):
            drive.fire(timer)
        elif choices:
            drive.feed(data.draw(st.sampled_from(choices)))
    return drive


def begun(workflow: Workflow, data: st.DataObject, *, is_open: bool = False, version: int = CORE_VERSION) -> Drive:
    drive = Drive.begun(workflow, is_open=is_open, checked=False, version=version)
    if data.draw(st.integers(0, 5)) == 0:
        drive.cancel("why not")
    return drive


@st.composite
def growing(draw: st.DrawFn) -> tuple[Workflow, list[AddSteps]]:
    """Draw a workflow and what is added to it."""
    parts = draw(batches(draw(step_lists(depth=DEEPEST))))
    return flow(go_on=draw(st.booleans())), [*(AddSteps(part) for part in parts), AddSteps((), seal=True)]


def assert_replays(drive: Drive) -> None:
    assert snapshot(replay(drive.new_run(), drive.events, EVALUATOR)) == snapshot(drive.run)


def diverged(drive: Drive, events: Sequence[Event]) -> ReplayDiverged:
    with pytest.raises(ReplayDiverged) as caught:
        replay(drive.new_run(), events, EVALUATOR)
    return caught.value
