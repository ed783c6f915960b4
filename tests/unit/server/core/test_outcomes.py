"""The final states of steps, as in the table of DESIGN §4."""

import pytest

from stepwave_server.core.messages import AttemptFailed, Interrupt
from stepwave_server.core.model import Failure, FailureCause, Join, Reason, SkipCause, State
from unit.server.core.build import NOWHERE, flow, step
from unit.server.core.driver import Drive


def test_a_step_with_an_output_has_succeeded() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.succeed("a", '{"n": 9007199254740993}')
    event = drive.finished("a")
    assert (event.state, event.output, event.attempts) == (State.SUCCEEDED, '{"n": 9007199254740993}', 1)
    assert (event.failure, event.skip, event.abandoned) == (None, None, False)


def test_a_step_whose_attempts_are_used_up_has_failed_with_its_failure() -> None:
    drive = Drive.begun(flow(step("a")))
    failure = Failure(Reason.RATE_LIMITED, "slow down", retryable=True, step_id="a", attempt=1)
    drive.start("a")
    drive.feed(AttemptFailed("a", 1, failure))
    event = drive.finished("a")
    assert (event.state, event.failure, event.attempts) == (State.FAILED, failure, 1)
    assert (event.output, event.skip) == (None, None)


def test_a_step_that_took_too_long_has_failed() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    drive.wait(5)
    assert drive.end_interrupted("a") == ["a failed", "wave 0 finished", "run failed"]
    failure = drive.finished("a").failure
    assert failure is not None
    assert failure.reason is Reason.TIMEOUT


def test_a_step_whose_binding_has_no_value_has_failed_without_an_attempt() -> None:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,))))
    event = drive.finished("a")
    assert (event.state, event.attempts, event.start_time) == (State.FAILED, 0, None)
    assert event.failure == Failure(
        Reason.INVALID_INPUT, 'the run\'s input has no "/nowhere"', step_id="a", cause=FailureCause.INPUT
    )
    assert event.ready_time == drive.now
    assert drive.invoked() == {}


def test_a_step_whose_join_cannot_be_met_is_skipped_for_the_dependency() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), go_on=True))
    drive.fail("a")
    event = drive.finished("b")
    assert (event.state, event.attempts, event.output, event.failure) == (State.SKIPPED, 0, None, None)
    assert event.skip is not None
    assert (event.skip.cause, event.skip.step_id) == (SkipCause.DEPENDENCY, "a")


def test_a_step_that_a_failure_elsewhere_prevented_is_skipped_for_it() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), max_parallelism=1))
    drive.fail("a")
    skip = drive.skip("b")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.FAIL_FAST, "a")


def test_a_step_that_a_cancel_prevented_is_skipped_for_it() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.cancel()
    skip = drive.skip("a")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.CANCELLED, "")


def test_a_step_that_the_runs_timeout_prevented_is_skipped_for_it() -> None:
    drive = Drive.begun(flow(step("a"), timeout=5))
    drive.wait(5)
    skip = drive.skip("a")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.TIMEOUT, "")


def test_a_step_that_was_interrupted_while_it_ran_is_cancelled() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.cancel("enough")
    drive.end_interrupted("a")
    event = drive.finished("a")
    assert (event.state, event.attempts, event.abandoned) == (State.CANCELLED, 1, False)
    assert event.failure == Failure(
        Reason.CANCELLED, "cancelled: enough", step_id="a", attempt=1, cause=FailureCause.CANCEL_REQUESTED
    )
    assert (event.output, event.skip) == (None, None)


def test_a_step_whose_clean_up_outlasts_its_grace_is_cancelled_and_abandoned() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.cancel()
    drive.end_interrupted("a", abandoned=True)
    event = drive.finished("a")
    assert (event.state, event.abandoned) == (State.CANCELLED, True)


def test_a_step_that_took_too_long_and_does_not_end_has_failed_and_is_abandoned() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    drive.wait(5)
    drive.end_interrupted("a", abandoned=True)
    event = drive.finished("a")
    assert (event.state, event.abandoned) == (State.FAILED, True)


def test_a_running_step_that_lost_a_join_is_cancelled() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY)))
    drive.start("a", "b")
    drive.succeed("a")
    drive.end_interrupted("b")
    event = drive.finished("b")
    assert event.state is State.CANCELLED
    assert event.failure is not None
    assert event.failure.message == 'no longer needed: step "a" answered'


def test_a_waiting_step_that_lost_a_join_is_skipped_as_not_needed() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY)))
    drive.succeed("a")
    skip = drive.skip("b")
    assert skip is not None
    assert (skip.cause, skip.step_id) == (SkipCause.NOT_NEEDED, "a")


@pytest.mark.parametrize("why", ["cancel", "timeout", "fail fast", "join", "attempt timeout"])
def test_an_output_that_arrives_after_an_interruption_counts(why: str) -> None:
    steps = (step("a", timeout=7), step("b"), step("c", "a", "b", join=Join.ANY), step("d"))
    drive = Drive.begun(flow(*steps, timeout=9))
    drive.start("a", "b", "d")
    match why:
        case "cancel":
            drive.cancel()
        case "timeout":
            drive.wait(9)
        case "fail fast":
            drive.fail("d")
        case "join":
            drive.succeed("b")
        case _:
            drive.wait(7)
    assert "a" in {interrupt.step_id for interrupt in drive.interrupts()}
    assert drive.succeed("a", '"all the same"')[0] == "a succeeded"
    assert drive.finished("a").output == '"all the same"'


def test_a_late_outcome_of_an_abandoned_attempt_is_ignored() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), go_on=True))
    drive.start("a", "b")
    drive.cancel()
    drive.end_interrupted("a", abandoned=True)
    assert drive.send(AttemptFailed("a", 1, Failure(Reason.ACTION_ERROR, "late"))) == []
    assert drive.state("a") is State.CANCELLED


def test_an_interruption_names_the_attempt_and_why() -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("a", "b")
    drive.fail("b")
    failure = Failure(Reason.CANCELLED, 'step "b" failed', step_id="a", attempt=1, cause=FailureCause.STEP_FAILED)
    assert drive.interrupts() == [Interrupt("a", 1, failure)]


def test_an_invoked_step_that_has_not_started_is_withdrawn_when_it_is_skipped() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.cancel()
    (interrupt,) = drive.interrupts()
    assert (interrupt.step_id, interrupt.attempt) == ("a", 1)
    assert drive.start("a") == []
