"""A step's total timeout bounds all its attempts, pauses and waiting together."""

import pytest

from stepwave_server.core.messages import AttemptStarted, Interrupt, StartTimer, StepStarted, Timer, TimerFired
from stepwave_server.core.model import SECOND, Failure, Reason, State
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import NOON, Drive

TOO_LONG = "the step took longer than its total timeout of 5 s"


def only(*, times: int = 10, pause: int = 1, timeout: int | None = None) -> Drive:
    """Return a run of one step that has five seconds in all."""
    policy = retry(times, pause=pause, factor=1.0)
    return Drive.begun(flow(step("a", total_timeout=5, timeout=timeout, retry=policy)))


def test_it_counts_from_when_the_step_is_ready() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", total_timeout=5)))
    drive.now += 60 * SECOND
    drive.succeed("a")
    assert drive.outstanding["total", "b"] == StartTimer(Timer("total", "b"), NOON + 65 * SECOND)


def test_an_attempts_timeout_never_reaches_beyond() -> None:
    drive = only(timeout=3)
    drive.start("a")
    drive.now += 2 * SECOND
    drive.fail_retryably("a")
    drive.wait(1)
    drive.start("a")
    assert [event.deadline for event in drive.of(StepStarted)] == [NOON + 3 * SECOND, NOON + 5 * SECOND]


def test_an_attempt_that_it_ends_is_the_last() -> None:
    drive = only()
    drive.start("a")
    drive.wait(5)
    assert drive.end_interrupted("a")[0] == "a failed"
    assert drive.finished("a").failure == Failure(Reason.TIMEOUT, TOO_LONG, step_id="a", attempt=1)


def test_an_attempt_that_takes_too_long_before_is_tried_again() -> None:
    drive = only(timeout=2)
    drive.start("a")
    drive.wait(2)
    (interrupt,) = drive.interrupts()
    assert interrupt.failure.message == "the attempt took longer than the step's timeout of 2 s"
    assert drive.end_interrupted("a") == ["a retrying"]


def test_waiting_for_admission_counts() -> None:
    drive = only()
    assert drive.wait(5)[0] == "a failed"
    event = drive.finished("a")
    assert (event.attempts, event.start_time, event.state) == (0, None, State.FAILED)
    assert event.failure == Failure(Reason.TIMEOUT, TOO_LONG, step_id="a")
    assert drive.interrupts() == [Interrupt("a", 1, Failure(Reason.TIMEOUT, TOO_LONG, step_id="a"))]


def test_waiting_for_a_place_counts() -> None:
    drive = Drive.begun(flow(step("a"), step("b", total_timeout=5), step("c"), max_parallelism=1, go_on=True))
    drive.start("a")
    assert drive.wait(5) == ["b failed"]
    assert drive.interrupts() == []
    drive.succeed("a")
    assert drive.waiting() == ["c"]


def test_waiting_for_ones_wave_does_not_count() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", total_timeout=5), by_waves=True))
    drive.succeed("a")
    assert drive.wait(60) == []
    drive.succeed("b")
    assert drive.wait(5)[0] == "c failed"


def test_a_pause_that_would_outlast_it_is_not_waited_for() -> None:
    drive = only(pause=3)
    drive.fail_retryably("a")
    drive.wait(3)
    assert drive.fail_retryably("a")[0] == "a failed"
    failure = drive.finished("a").failure
    assert failure is not None
    assert (failure.reason, failure.message, failure.attempt) == (Reason.UNAVAILABLE, "a failed for now", 2)
    assert failure.details == (("not_retried", "the pause would outlast the step's total timeout of 5 s"),)


def test_no_attempt_starts_when_it_is_over_though_its_timer_is_late() -> None:
    drive = only()
    drive.now += 5 * SECOND
    assert drive.send(AttemptStarted("a", 1)) == ["a failed", "run failed"]
    assert [one.step_id for one in drive.interrupts()] == ["a"]


def test_it_ends_a_step_whose_place_is_gone_after_a_pause() -> None:
    drive = Drive.begun(flow(step("a", total_timeout=5, retry=retry(3)), step("b"), max_parallelism=1, go_on=True))
    drive.fail_retryably("a")
    drive.start("b")
    assert drive.wait(5) == ["a ready", "a failed"]
    assert drive.finished("a").failure == Failure(Reason.TIMEOUT, TOO_LONG, step_id="a", attempt=1)


def test_it_counts_the_time_that_a_server_was_down() -> None:
    drive = only()
    drive.start("a")
    drive.now += 60 * SECOND
    commands = drive.recover()
    assert StartTimer(Timer("total", "a"), NOON + 5 * SECOND) in commands
    assert drive.lose("a") == ["a retrying"]
    assert drive.send(TimerFired(Timer("total", "a")))[0] == "a failed"


def test_while_an_attempt_runs_its_own_timer_sees_to_it() -> None:
    drive = only()
    drive.start("a")
    drive.now += 5 * SECOND
    assert drive.feed(TimerFired(Timer("total", "a"))).events == []


def test_a_step_that_ends_in_time_is_left_alone() -> None:
    drive = only()
    drive.succeed("a")
    assert drive.result().state is State.SUCCEEDED
    assert drive.next_timer() is None


@pytest.mark.parametrize("step_id", ["b", "z"])
def test_a_timer_of_a_step_that_is_not_ready_does_nothing(step_id: str) -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", total_timeout=5)))
    assert drive.send(TimerFired(Timer("total", step_id))) == []
