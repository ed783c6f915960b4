"""Replay finds the input that led to an event, whatever that was."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import (
    AttemptLost,
    AttemptStarted,
    RunStopping,
    Started,
    StepFinished,
    StepRetrying,
    StopRequested,
)
from stepwave_server.core.model import (
    SECOND,
    FallbackAction,
    Join,
    OnInterrupt,
)
from stepwave_server.core.replay import ReplayDiverged, replay
from stepwave_server.core.state import RunOptions
from unit.server.core.build import NOWHERE, flow, retry, step
from unit.server.core.driver import EVALUATOR, NOON, Drive
from unit.server.core.replays import STOPPED, assert_replays, diverged


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
    scenarios = {
        "retried": step("a", retry=policy),
        "timed out": step("a", retry=policy, timeout=1),
        "run out": step("a", retry=policy, total_timeout=5),
        "by a value": step("a", fallback='"kept"', total_timeout=5),
        "by an action": step("a", fallback=FallbackAction("other"), total_timeout=5),
    }
    for seed, one in scenarios.items():
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
