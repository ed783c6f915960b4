"""The total timeout of a step limits all its attempts, backoffs and waiting together."""

import pytest

from stepwave_server.core.messages import AttemptStarted, Interrupt, StartTimer, StepStarted, Timer, TimerFired
from stepwave_server.core.model import SECOND, Failure, FailureCause, Reason, State
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import NOON, Drive

TOO_LONG = "the step took longer than its total timeout of 5 s"


def only(*, times: int = 10, pause: int = 1, timeout: int | None = None) -> Drive:
    """Return a run of one step with a total timeout of five seconds."""
    policy = retry(times, pause=pause, factor=1.0)
    return Drive.begun(flow(step("a", total_timeout=5, timeout=timeout, retry=policy)))


def test_a_total_timeout_counts_from_when_the_step_is_ready() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", total_timeout=5)))
    drive.now += 60 * SECOND
    drive.succeed("a")
    assert drive.outstanding["total", "b"] == StartTimer(Timer("total", "b"), NOON + 65 * SECOND)


def test_an_attempts_deadline_is_never_after_the_total_timeout() -> None:
    drive = only(timeout=3)
    drive.start("a")
    drive.now += 2 * SECOND
    drive.fail_retryably("a")
    drive.wait(1)
    drive.start("a")
    assert [event.deadline for event in drive.of(StepStarted)] == [NOON + 3 * SECOND, NOON + 5 * SECOND]


def test_an_attempt_that_a_total_timeout_ends_is_the_last() -> None:
    drive = only()
    drive.start("a")
    drive.wait(5)
    assert drive.end_interrupted("a")[0] == "a failed"
    assert drive.finished("a").failure == Failure(
        Reason.TIMEOUT, TOO_LONG, step_id="a", attempt=1, cause=FailureCause.TOTAL_TIMEOUT
    )


def test_an_attempt_that_times_out_before_the_total_timeout_is_retried() -> None:
    drive = only(timeout=2)
    drive.start("a")
    drive.wait(2)
    (interrupt,) = drive.interrupts()
    assert interrupt.failure.message == "the attempt took longer than the step's timeout of 2 s"
    assert drive.end_interrupted("a") == ["a retrying"]


def test_a_total_timeout_includes_waiting_for_admission() -> None:
    drive = only()
    assert drive.wait(5)[0] == "a failed"
    event = drive.finished("a")
    assert (event.attempts, event.start_time, event.state) == (0, None, State.FAILED)
    assert event.failure == Failure(Reason.TIMEOUT, TOO_LONG, step_id="a", cause=FailureCause.TOTAL_TIMEOUT)
    assert drive.interrupts() == [
        Interrupt("a", 1, Failure(Reason.TIMEOUT, TOO_LONG, step_id="a", cause=FailureCause.TOTAL_TIMEOUT))
    ]


def test_a_total_timeout_includes_waiting_for_a_place() -> None:
    drive = Drive.begun(flow(step("a"), step("b", total_timeout=5), step("c"), max_parallelism=1, go_on=True))
    drive.start("a")
    assert drive.wait(5) == ["b failed"]
    assert drive.interrupts() == []
    drive.succeed("a")
    assert drive.waiting() == ["c"]


def test_a_total_timeout_does_not_include_waiting_for_the_wave() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", total_timeout=5), by_waves=True))
    drive.succeed("a")
    assert drive.wait(60) == []
    drive.succeed("b")
    assert drive.wait(5)[0] == "c failed"


def test_a_backoff_that_would_exceed_the_total_timeout_is_not_waited_for() -> None:
    drive = only(pause=3)
    drive.fail_retryably("a")
    drive.wait(3)
    assert drive.fail_retryably("a")[0] == "a failed"
    failure = drive.finished("a").failure
    assert failure is not None
    assert (failure.reason, failure.message, failure.attempt) == (Reason.UNAVAILABLE, "a failed for now", 2)
    assert failure.details == (("not_retried", "the pause would outlast the step's total timeout of 5 s"),)


def test_no_attempt_starts_after_the_total_timeout_even_if_its_timer_is_late() -> None:
    drive = only()
    drive.now += 5 * SECOND
    assert drive.send(AttemptStarted("a", 1)) == ["a failed", "run failed"]
    assert [one.step_id for one in drive.interrupts()] == ["a"]


def test_a_total_timeout_ends_a_step_that_waits_for_a_place_after_a_backoff() -> None:
    drive = Drive.begun(flow(step("a", total_timeout=5, retry=retry(3)), step("b"), max_parallelism=1, go_on=True))
    drive.fail_retryably("a")
    drive.start("b")
    assert drive.wait(5) == ["a ready", "a failed"]
    assert drive.finished("a").failure == Failure(
        Reason.TIMEOUT, TOO_LONG, step_id="a", attempt=1, cause=FailureCause.TOTAL_TIMEOUT
    )


def test_a_total_timeout_includes_the_time_that_a_server_was_down() -> None:
    drive = only()
    drive.start("a")
    drive.now += 60 * SECOND
    commands = drive.recover()
    assert StartTimer(Timer("total", "a"), NOON + 5 * SECOND) in commands
    assert drive.lose("a") == ["a retrying"]
    assert drive.send(TimerFired(Timer("total", "a")))[0] == "a failed"


def test_while_an_attempt_runs_its_own_deadline_enforces_the_total_timeout() -> None:
    drive = only()
    drive.start("a")
    drive.now += 5 * SECOND
    assert drive.feed(TimerFired(Timer("total", "a"))).events == []


def test_the_total_timer_of_a_step_that_ended_does_nothing() -> None:
    drive = only()
    drive.succeed("a")
    assert drive.result().state is State.SUCCEEDED
    assert drive.next_timer() is None


@pytest.mark.parametrize("step_id", ["b", "z"])
def test_a_timer_of_a_step_that_is_not_ready_does_nothing(step_id: str) -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", total_timeout=5)))
    assert drive.send(TimerFired(Timer("total", step_id))) == []
