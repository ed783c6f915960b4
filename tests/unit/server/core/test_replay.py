"""Recorded runs are decided alike again, or the first difference is named."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.messages import (
    AddSteps,
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    Started,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    Failure,
    FailureCause,
    Join,
    Reason,
    Workflow,
)
from stepwave_server.core.replay import replay
from stepwave_server.core.result import reusable
from unit.server.core.build import flow, step
from unit.server.core.driver import EVALUATOR, NOON, Drive
from unit.server.core.replays import assert_replays, begun, diverged, growing, walk
from unit.server.core.strategies import soak, workflows


@soak(200)
@given(workflows(), st.data())
def test_every_run_replays(workflow: Workflow, data: st.DataObject) -> None:
    assert_replays(walk(begun(workflow, data), data))


@soak(150)
@given(growing(), st.data())
def test_a_run_that_grows_replays(grown: tuple[Workflow, list[AddSteps]], data: st.DataObject) -> None:
    workflow, additions = grown
    assert_replays(walk(begun(workflow, data, is_open=True), data, additions))


@soak(100)
@given(workflows(), st.data())
def test_a_run_that_takes_over_outputs_replays(workflow: Workflow, data: st.DataObject) -> None:
    first = walk(begun(workflow, data), data)
    again = Drive(workflow, checked=False)
    again.feed(Started(reusable(workflow, first.of(StepFinished)), "the-first"))
    assert_replays(walk(again, data))


@soak(60)
@given(workflows(), st.data())
def test_every_prefix_of_a_run_replays(workflow: Workflow, data: st.DataObject) -> None:
    drive = walk(begun(workflow, data), data)
    ends = {0}
    for length in range(len(drive.events) + 1):
        run = replay(drive.new_run(), drive.events[:length], EVALUATOR)
        assert run.sequence >= length
        ends.add(run.sequence)
    assert len(drive.events) in ends


# Differences.


def changed(event: Event) -> Event:
    """Change a part of an event that the core decided, and that no input has."""
    match event:
        case StepStarted() | StepFinished() | WaveStarted() | WaveFinished():
            return replace(event, wave=event.wave + 1)
        case RunStarted():
            return replace(event, step_count=event.step_count + 1)
        case StepRetrying():
            return replace(event, next_time=event.next_time + 1)
        case StepReady():
            return replace(event, attempt=event.attempt + 1)
        case StepsAdded():
            return replace(event, waves=()) if event.waves else replace(event, sealed=not event.sealed)
        case RunStopping():
            cause = FailureCause.CANCEL_REQUESTED
            return replace(event, failure=Failure(Reason.CANCELLED, "cancelled", step_id="a", cause=cause))
        case RunFinished():
            return replace(event, failure_count=event.failure_count + 1)
        case StepExpanded():
            return replace(event, wave=event.wave + 1)
        case StepStopping():
            return replace(event, failure=replace(event.failure, retryable=True))
        case StepsReused():
            return replace(event, run_id=f"{event.run_id}-2")


@soak(150)
@given(workflows(), st.data())
def test_a_changed_event_is_found_and_named(workflow: Workflow, data: st.DataObject) -> None:
    drive = walk(begun(workflow, data), data)
    place = data.draw(st.integers(0, len(drive.events) - 1))
    expected = changed(drive.events[place])
    error = diverged(drive, [*drive.events[:place], expected, *drive.events[place + 1 :]])
    assert (error.sequence, error.expected) == (place + 1, expected)


@soak(100)
@given(growing(), st.data())
def test_a_changed_event_of_a_run_that_grows_is_found(
    grown: tuple[Workflow, list[AddSteps]], data: st.DataObject
) -> None:
    workflow, additions = grown
    drive = walk(begun(workflow, data, is_open=True), data, additions)
    place = data.draw(st.integers(0, len(drive.events) - 1))
    error = diverged(drive, [*drive.events[:place], changed(drive.events[place]), *drive.events[place + 1 :]])
    assert error.sequence == place + 1


@soak(100)
@given(workflows(), st.data())
def test_a_doubled_event_is_found(workflow: Workflow, data: st.DataObject) -> None:
    drive = walk(begun(workflow, data), data)
    place = data.draw(st.integers(0, len(drive.events) - 1))
    error = diverged(drive, [*drive.events[: place + 1], *drive.events[place:]])
    assert (error.sequence, error.expected) == (place + 2, drive.events[place])


def test_a_missing_event_is_found() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), step("c", "b", join=Join.ALL_DONE), go_on=True))
    drive.fail("a")
    drive.succeed("c")
    for place in range(len(drive.events) - 1):
        error = diverged(drive, [*drive.events[:place], *drive.events[place + 1 :]])
        assert error.sequence in (place, place + 1)


def test_what_an_input_told_may_have_been_anything() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.succeed("a", '"one"')
    events = [replace(event, output='"other"') if isinstance(event, StepFinished) else event for event in drive.events]
    assert replay(drive.new_run(), events, EVALUATOR).steps["a"].output == '"other"'


def test_a_difference_says_what_is_and_what_was() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    run_started, wave_started, step_started = drive.events
    assert isinstance(step_started, StepStarted)
    events = [run_started, wave_started, replace(step_started, wave=3)]
    assert str(diverged(drive, events)) == 'event 3: StepStarted of step "a": wave is 0, was 3'


def test_another_event_says_which() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.fail("a")
    finished = drive.result()
    error = diverged(drive, [event for event in drive.events if event != drive.finished("b")])
    assert (error.sequence, error.expected, error.got) == (5, WaveFinished(NOON, 0), drive.finished("b"))
    assert str(error) == 'event 5: recorded is WaveFinished of wave 0, the core decides StepFinished of step "b"'
    error = diverged(drive, [*drive.events, finished])
    assert (error.sequence, error.expected, error.got) == (len(drive.events) + 1, finished, None)
    assert str(error) == "event 8: recorded is RunFinished, the core decides nothing of the kind"


def test_a_difference_between_large_events_is_told_in_short() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a", f'"{"x" * 100_000}"')
    events = [*drive.events[:-1], replace(drive.result(), outputs=())]
    assert len(str(diverged(drive, events))) < 1_000
