"""Tests of steps that are completed from outside."""

import pytest

from stepwave_server.core.decide import Refused
from stepwave_server.core.messages import AttemptInterrupted, StepCompleted, StepStarted, Timer, TimerFired
from stepwave_server.core.model import SECOND, Failure, FailureCause, FallbackAction, Reason, State
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import Drive

DAY = 24 * 3600


def test_a_step_waits_for_days_and_takes_no_place() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait"), step("other"), max_parallelism=1))
    assert drive.log() == ["run started", "wave 0 started", "ok started"]
    assert drive.waiting() == ["other"]
    assert [event.deadline for event in drive.of(StepStarted)] == [None]
    drive.succeed("other")
    assert drive.wait(100 * DAY) == []
    assert drive.complete("ok", '"yes"') == ["ok succeeded", "wave 0 finished", "run succeeded"]
    assert drive.finished("ok").output == '"yes"'


def test_a_step_that_is_rejected_fails() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait"), step("end", "ok")))
    drive.send(StepCompleted("ok", failure=Failure(Reason.ACTION_ERROR, "no", step_id="ok", attempt=1)))
    assert drive.state("ok") is State.FAILED
    assert drive.state("end") is State.SKIPPED


def test_a_step_that_nobody_completes_fails_at_its_timeout() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait", timeout=DAY)))
    assert drive.wait(DAY - 1) == []
    drive.wait(1)
    failure = drive.finished("ok").failure
    assert failure is not None
    assert (failure.reason, failure.cause) == (Reason.TIMEOUT, FailureCause.ATTEMPT_TIMEOUT)
    assert failure.message == "nothing completed the step within its timeout of 86400 s"


def test_a_step_that_nobody_completes_fails_at_its_total_timeout() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait", total_timeout=DAY)))
    drive.wait(DAY)
    failure = drive.finished("ok").failure
    assert failure is not None
    assert failure.cause is FailureCause.TOTAL_TIMEOUT


def test_the_fallback_follows_when_nobody_completes_the_step() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait", timeout=5, fallback=FallbackAction("echo", "1"))))
    assert drive.wait(5) == ["ok retrying"]
    assert drive.waiting() == ["ok"]
    drive.succeed("ok", "2")
    assert drive.finished("ok").output == "2"


def test_a_step_may_wait_again_by_its_retry_policy() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait", timeout=5, retry=retry(2))))
    assert drive.wait(6) == ["ok retrying", "ok ready", "ok started"]
    drive.complete("ok")
    assert drive.finished("ok").attempts == 2


@pytest.mark.parametrize("step_id", ["running", "later", "nowhere"])
def test_a_step_that_does_not_wait_cannot_be_completed(step_id: str) -> None:
    drive = Drive.begun(flow(step("running"), step("later", "running", action="core.wait")))
    drive.start("running")
    with pytest.raises(Refused, match=f'step "{step_id}" does not wait to be completed'):
        drive.complete(step_id)


def test_a_cancelled_run_ends_what_waits() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait")))
    drive.cancel()
    (interrupt,) = drive.interrupts()
    drive.send(AttemptInterrupted("ok", 1, interrupt.failure))
    assert drive.state("ok") is State.CANCELLED


def test_a_wait_outlives_a_restart() -> None:
    drive = Drive.begun(flow(step("ok", action="core.wait", timeout=DAY)))
    drive.recover()
    drive.complete("ok")
    assert drive.result().state is State.SUCCEEDED


def test_the_items_of_a_list_can_wait() -> None:
    drive = Drive.begun(flow(step("ok", over="[1,2]", action="core.wait", at_once=1)))
    assert "ok[0]" in drive.run.running
    assert "ok[1]" not in drive.run.running
    drive.complete("ok[0]", "5")
    drive.complete("ok[1]", "6")
    assert drive.finished("ok").output == "[5,6]"


def test_a_step_that_pauses_before_it_waits_again_has_its_fallback_at_its_total_timeout() -> None:
    late = FallbackAction("echo", "1")
    drive = Drive.begun(flow(step("ok", action="core.wait", total_timeout=5, retry=retry(2, pause=4), fallback=late)))
    drive.send(StepCompleted("ok", failure=Failure(Reason.UNAVAILABLE, "no", True, step_id="ok", attempt=1)))
    drive.now += 9 * SECOND
    drive.send(TimerFired(Timer("total", "ok")))
    assert drive.waiting() == ["ok"]
    assert drive.run.backing_off == {}
