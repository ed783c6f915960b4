"""What is recorded of a run is decided alike again, or the first difference is named."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptInterrupted,
    AttemptLost,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    Input,
    RunFinished,
    RunStarted,
    RunStopping,
    Started,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    StopRequested,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    MAX_MESSAGE_CONTENT,
    SECOND,
    Binding,
    Failure,
    FallbackAction,
    Join,
    OnInterrupt,
    Reason,
    State,
    Step,
    Workflow,
)
from stepwave_server.core.replay import ReplayDiverged, replay
from stepwave_server.core.result import reusable
from stepwave_server.core.state import RunOptions
from unit.server.core.build import NOWHERE, flow, retry, step
from unit.server.core.driver import EVALUATOR, NOON, Drive
from unit.server.core.effort import effort
from unit.server.core.snapshot import snapshot
from unit.server.core.strategies import batches, failures, soak, step_lists, workflows

STOPPED = Failure(Reason.INTERRUPTED, "the server was told to fail what it found")


# Runs in which anything happens.


def next_inputs(drive: Drive) -> Iterator[Input]:
    """Yield what may be told next, restarts of the server included."""
    run = drive.run
    for step_id in drive.waiting():
        yield AttemptStarted(step_id, run.steps[step_id].attempt + 1)
    for step_id, running in run.running.items():
        attempt = running.attempt
        yield AttemptSucceeded(step_id, attempt, f'"{step_id}"')
        yield AttemptFailed(step_id, attempt, Failure(Reason.INTERRUPTED, "broke", step_id=step_id, attempt=attempt))
        for failure in failures(step_id, attempt):
            yield AttemptFailed(step_id, attempt, failure)
        yield AttemptLost(step_id, attempt)
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
        choices = list(next_inputs(drive))
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


def begun(workflow: Workflow, data: st.DataObject, *, is_open: bool = False) -> Drive:
    drive = Drive.begun(workflow, is_open=is_open, checked=False)
    if data.draw(st.integers(0, 5)) == 0:
        drive.cancel("why not")
    return drive


@st.composite
def growing(draw: st.DrawFn) -> tuple[Workflow, list[AddSteps]]:
    """Draw a workflow and what is added to it."""
    parts = draw(batches(draw(step_lists())))
    return flow(go_on=draw(st.booleans())), [*(AddSteps(part) for part in parts), AddSteps((), seal=True)]


def assert_replays(drive: Drive) -> None:
    assert snapshot(replay(drive.new_run(), drive.events, EVALUATOR)) == snapshot(drive.run)


def diverged(drive: Drive, events: Sequence[Event]) -> ReplayDiverged:
    with pytest.raises(ReplayDiverged) as caught:
        replay(drive.new_run(), events, EVALUATOR)
    return caught.value


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
    """Change what the core decided in an event, and no input told."""
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
            return replace(event, failure=Failure(Reason.CANCELLED, "cancelled", step_id="a"))
        case RunFinished():
            return replace(event, failure_count=event.failure_count + 1)


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


# What an event's cause is.


def test_outputs_of_a_run_may_come_in_any_order() -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.finish()
    result = drive.result()
    replay(drive.new_run(), [*drive.events[:-1], replace(result, outputs=result.outputs[::-1])], EVALUATOR)
    lost = replace(result, outputs=result.outputs[:1])
    assert diverged(drive, [*drive.events[:-1], lost]).got == result


@pytest.mark.parametrize("reason", ["", "why not", ": ", "cancelled: again"])
def test_a_cancelled_run_replays(reason: str) -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("a")
    drive.cancel(reason)
    drive.end_interrupted("a", abandoned=True)
    assert_replays(drive)


def test_a_run_that_times_out_replays() -> None:
    drive = Drive.begun(flow(step("a", timeout=60), timeout=3))
    drive.start("a")
    drive.wait(4)
    drive.end_interrupted("a")
    assert_replays(drive)


@pytest.mark.parametrize("abandoned", [False, True])
def test_an_attempt_that_times_out_replays(abandoned: bool) -> None:
    drive = Drive.begun(flow(step("a", timeout=3)))
    drive.start("a")
    drive.wait(4)
    drive.end_interrupted("a", abandoned=abandoned)
    assert_replays(drive)


def test_a_clean_up_that_takes_too_long_replays() -> None:
    drive = Drive.begun(flow(step("a"), step("b", join=Join.ALL_DONE)))
    drive.start("b")
    drive.fail("a")
    drive.wait(31)
    drive.end_interrupted("b")
    assert_replays(drive)


def test_a_run_that_its_server_ends_replays() -> None:
    drive = Drive.begun(flow(step("a")), checked=False)
    drive.feed(StopRequested(STOPPED))
    assert drive.of(RunStopping) == [RunStopping(NOON, STOPPED)]
    assert_replays(drive)


def test_a_step_without_an_input_replays() -> None:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,)), step("b", "a"), step("c"), go_on=True))
    drive.finish()
    assert_replays(drive)


def lose(drive: Drive, times: int) -> Drive:
    for attempt in range(1, times + 1):
        drive.feed(AttemptStarted("a", attempt))
        drive.feed(AttemptLost("a", attempt))
    return drive


@pytest.mark.parametrize("times", [1, 3, 4])
def test_a_step_that_lost_attempts_replays(times: int) -> None:
    assert_replays(lose(Drive.begun(flow(step("a")), checked=False), times))


def test_how_often_a_step_may_lose_attempts_is_proved() -> None:
    once = flow(replace(step("a"), on_interrupt=OnInterrupt.FAIL))
    drive = lose(Drive.begun(once, checked=False), 1)
    with pytest.raises(ReplayDiverged) as caught:
        replay(Drive(flow(step("a"))).run, drive.events, EVALUATOR)
    assert isinstance(caught.value.got, StepRetrying)


def begin_all() -> Iterator[Drive]:
    """Yield runs in which failures are handled, each in another way."""
    policy = retry(3, pause=2, jitter=0.5)
    told = {
        "retried": step("a", retry=policy),
        "timed out": step("a", retry=policy, timeout=1),
        "run out": step("a", retry=policy, total_timeout=5),
        "by a value": step("a", fallback='"kept"', total_timeout=5),
        "by an action": step("a", fallback=FallbackAction("other"), total_timeout=5),
    }
    for seed, one in told.items():
        drive = Drive(flow(one), options=RunOptions(seed=seed))
        drive.begin()
        yield drive


def test_attempts_that_are_tried_again_replay() -> None:
    for drive in begin_all():
        while drive.run.finished is None:
            if drive.run.backing_off:
                drive.wait(2)
            else:
                drive.fail_retryably("a")
        assert_replays(drive)


@pytest.mark.parametrize("abandoned", [False, True])
def test_attempts_that_took_too_long_replay_whatever_follows(abandoned: bool) -> None:
    for drive in begin_all():
        while drive.run.finished is None:
            if drive.run.backing_off:
                drive.wait(2)
                continue
            drive.start("a")
            drive.wait(600)
            if drive.run.running:
                drive.end_interrupted("a", abandoned=abandoned)
        assert_replays(drive)


def test_steps_that_ran_out_of_time_before_they_began_replay() -> None:
    for drive in begin_all():
        drive.wait(5)
        if drive.run.finished is None:
            drive.fail("a")
        assert_replays(drive)


def test_attempts_that_are_let_in_too_late_replay() -> None:
    for drive in begin_all():
        drive.now += 5 * SECOND
        drive.send(AttemptStarted("a", 1))
        assert_replays(drive)


def test_lost_attempts_of_a_fallback_replay() -> None:
    *_, drive = begin_all()
    drive.fail("a")
    for _ in range(4):
        drive.start("a")
        drive.lose("a")
    assert drive.finished("a").attempts == 5
    assert_replays(drive)


def test_another_draw_is_found() -> None:
    drive, *_ = begin_all()
    drive.fail_retryably("a")
    other = new_run(drive.workflow, "null", RunOptions(seed="another"))
    with pytest.raises(ReplayDiverged) as caught:
        replay(other, drive.events, EVALUATOR)
    assert isinstance(caught.value.got, StepRetrying)


def test_outputs_that_no_such_step_can_have_are_found() -> None:
    drive = Drive(flow(step("a"), step("b", "a")), checked=False)
    drive.feed(Started((("a", "1"),), "the-first"))
    start, taken = drive.events
    assert isinstance(taken, StepFinished)
    for wrong in (replace(taken, step_id="z"), replace(taken, output=None)):
        assert diverged(drive, [start, wrong]).sequence == 2
    assert diverged(drive, [start, taken, replace(taken, output="2")]).sequence == 3


# Large runs.


def long_step(number: int, *depends_on: str) -> Step:
    return step(f"{number:05}".rjust(120, "s"), *depends_on, payload=f'"{"x" * 400}"')


def test_a_large_addition_replays() -> None:
    drive = Drive.begun(flow(step("a")), is_open=True, checked=False)
    first = long_step(0)
    steps = [step("b", bindings=(NOWHERE,)), first, *(long_step(number, first.id) for number in range(1, 10_000))]
    drive.feed(AddSteps(tuple(steps), seal=True))
    assert len(drive.of(StepsAdded)) > 6
    assert drive.state("b") is State.FAILED
    assert_replays(drive)


def test_additions_at_the_same_time_replay_each_for_itself() -> None:
    drive = Drive.begun(flow(), is_open=True, checked=False)
    drive.feed(AddSteps((step("a"),)))
    drive.feed(AddSteps((step("b"), step("c"))))
    drive.feed(AddSteps((), seal=True))
    assert_replays(drive)


@pytest.mark.parametrize("later", [0, SECOND])
@pytest.mark.parametrize("bindings", [(), (NOWHERE,)])
def test_an_addition_that_fills_its_part_replays_with_the_next(bindings: tuple[Binding, ...], later: int) -> None:
    drive = Drive.begun(flow(go_on=True), is_open=True, checked=False)
    large = f'"{"x" * 600_000}"'
    drive.feed(AddSteps((step("a", payload=large), step("b", bindings=bindings))))
    drive.now += later
    drive.feed(AddSteps((step("c", payload=large), step("d", "b")), seal=True))
    assert len(drive.of(StepsAdded)) == 2
    assert_replays(drive)


def waited_for(count: int, *added: Step, seal: bool) -> Drive:
    """Return a run in which long steps get their wave by a short one, `late`, that is added afterwards."""
    drive = Drive.begun(flow(go_on=True), is_open=True, checked=False)
    drive.feed(AddSteps(tuple(step(f"{number:05}".rjust(124, "s"), "late") for number in range(count))))
    drive.feed(AddSteps(added, seal=seal))
    if not seal:
        drive.feed(AddSteps((), seal=True))
    return drive


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("count", [MAX_MESSAGE_CONTENT // 128, 9_000])
def test_an_addition_whose_waves_need_several_parts_replays(count: int, seal: bool) -> None:
    """With the smaller number, the first part is full, and the second has nothing left to tell."""
    drive = waited_for(count, step("late"), seal=seal)
    ends = [(bool(event.waves), event.sealed) for event in drive.of(StepsAdded) if not event.steps]
    assert ends == [(count == 9_000, seal)] + [(False, True)] * (not seal)
    assert_replays(drive)


def test_an_addition_whose_parts_and_waves_are_many_replays() -> None:
    large = f'"{"x" * 600_000}"'
    added = step("late", payload=large), step("b", bindings=(NOWHERE,)), step("c", payload=large)
    drive = waited_for(9_000, *added, seal=True)
    assert [len(event.steps) for event in drive.of(StepsAdded)][-3:] == [2, 0, 1]
    assert_replays(drive)


def test_a_plan_of_several_events_replays() -> None:
    steps = [step(f"{number:05}".rjust(120, "s")) for number in range(20_000)]
    drive = Drive(flow(*steps), checked=False)
    drive.feed(Started(tuple((one.id, "1") for one in steps[:10_000]), "the-first"))
    assert len(drive.of(RunStarted)) == 3
    assert_replays(drive)


def chain(count: int) -> Workflow:
    return flow(step("s0"), *(step(f"s{n}", f"s{n - 1}") for n in range(1, count)))


def played(workflow: Workflow) -> Drive:
    drive = Drive.begun(workflow, checked=False)
    for one in workflow.steps:
        drive.feed(AttemptStarted(one.id, 1))
        drive.feed(AttemptSucceeded(one.id, 1, "1"))
    return drive


def test_a_chain_of_20000_steps_replays() -> None:
    assert sys.getrecursionlimit() < 20_000
    drive = played(chain(20_000))
    run = replay(drive.new_run(), iter(drive.events), EVALUATOR)
    assert (run.sequence, run.finished) == (len(drive.events), drive.run.finished)


def test_replaying_takes_work_for_events_alone() -> None:
    def work(count: int) -> int:
        drive = played(chain(count))
        return effort(lambda: replay(drive.new_run(), drive.events, EVALUATOR))

    assert work(240) < 4.6 * work(60)
