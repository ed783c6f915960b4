"""Times never go back, deadlines are absolute, and failures name the timeout."""

import pytest

from stepwave_server.core.messages import (
    AttemptStarted,
    AttemptTimedOut,
    RunStarted,
    StartTimer,
    StepStarted,
    Timer,
)
from stepwave_server.core.model import SECOND, Reason
from stepwave_server.core.state import RunOptions
from unit.server.core.build import flow, step
from unit.server.core.driver import NOON, Drive


def test_event_times_never_go_back_though_the_clock_does() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    drive.now += 5 * SECOND
    drive.succeed("a")
    drive.now -= 60 * SECOND
    drive.succeed("b")
    times = [event.time for event in drive.events]
    assert times == sorted(times)
    assert times[-1] == NOON + 5 * SECOND


def test_a_step_has_the_times_when_it_became_ready_started_and_ended() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.now += SECOND
    drive.succeed("a")
    drive.now += SECOND
    drive.start("b")
    drive.now += SECOND
    drive.succeed("b")
    (_, started), finished = drive.of(StepStarted), drive.finished("b")
    assert (started.ready_time, started.time) == (NOON + SECOND, NOON + 2 * SECOND)
    assert (finished.ready_time, finished.start_time, finished.time) == tuple(NOON + n * SECOND for n in (1, 2, 3))


def test_a_step_that_never_became_ready_has_no_times() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.fail("a")
    finished = drive.finished("b")
    assert (finished.ready_time, finished.start_time) == (None, None)


def test_an_attempts_deadline_counts_from_its_start() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.now += 60 * SECOND
    drive.start("a")
    assert drive.of(StepStarted)[0].deadline == NOON + 65 * SECOND


def test_an_attempt_without_a_timeout_of_its_own_has_the_servers() -> None:
    drive = Drive(flow(step("a")), options=RunOptions(step_timeout=90 * SECOND))
    drive.begin()
    drive.start("a")
    assert drive.of(StepStarted)[0].deadline == NOON + 90 * SECOND


def test_the_servers_timeout_is_ten_minutes_unless_configured() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    assert drive.of(StepStarted)[0].deadline == NOON + 600 * SECOND


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (5, "the attempt took longer than the step's timeout of 5 s"),
        (None, "the attempt took longer than the server's default timeout of 600 s"),
    ],
)
def test_the_failure_of_an_attempts_timeout_names_its_length_and_origin(own: int | None, message: str) -> None:
    drive = Drive.begun(flow(step("a", timeout=own)))
    drive.start("a")
    drive.wait(600)
    (interrupt,) = drive.interrupts()
    assert (interrupt.step_id, interrupt.attempt) == ("a", 1)
    assert (interrupt.failure.reason, interrupt.failure.message) == (Reason.TIMEOUT, message)
    assert (interrupt.failure.step_id, interrupt.failure.attempt, interrupt.failure.retryable) == ("a", 1, True)


def test_a_timeout_of_a_fraction_of_a_second_is_named_in_full() -> None:
    drive = Drive(flow(step("a")), options=RunOptions(step_timeout=SECOND // 4))
    drive.begin()
    drive.start("a")
    drive.wait(1)
    assert drive.interrupts()[0].failure.message.endswith("timeout of 0.25 s")


def test_a_timer_that_fires_after_its_attempt_ended_does_nothing() -> None:
    drive = Drive.begun(flow(step("a", timeout=5), step("b")))
    drive.succeed("a")
    assert drive.feed(AttemptTimedOut("a", 1)).commands == []


def test_a_timer_of_another_attempt_does_nothing() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    assert drive.feed(AttemptTimedOut("a", 2)).commands == []


def test_the_start_of_another_attempt_than_the_next_does_nothing() -> None:
    drive = Drive.begun(flow(step("a")))
    assert drive.send(AttemptStarted("a", 2)) == []


def test_the_runs_deadline_counts_from_its_start_and_is_recorded() -> None:
    drive = Drive.begun(flow(step("a"), timeout=5))
    assert drive.of(RunStarted)[0].deadline == NOON + 5 * SECOND
    assert drive.outstanding["run", ""] == StartTimer(Timer("run"), NOON + 5 * SECOND)


def test_a_run_without_a_timeout_has_no_deadline() -> None:
    drive = Drive.begun(flow(step("a")))
    assert drive.of(RunStarted)[0].deadline is None
    assert [command for command in drive.commands if isinstance(command, StartTimer)] == []


def test_a_runs_timeout_comes_before_a_longer_one_of_an_attempt() -> None:
    drive = Drive.begun(flow(step("a", timeout=60), timeout=5))
    drive.start("a")
    assert drive.wait(5) == ["run stopping"]
    assert [interrupt.failure.reason for interrupt in drive.interrupts()] == [Reason.CANCELLED]
