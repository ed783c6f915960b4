"""The end of a run, and how it is ended early."""

import pytest

from stepwave_server.core.decide import decide
from stepwave_server.core.messages import CancelRequested, RunFinished, RunStopping, Started, StepStarted
from stepwave_server.core.model import Failure, FailureCause, Join, Reason, Skip, SkipCause, State
from unit.server.core.build import flow, step
from unit.server.core.driver import EVALUATOR, NOON, Drive


def test_a_run_whose_steps_all_answered_has_succeeded() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.finish()
    assert drive.result().state is State.SUCCEEDED


@pytest.mark.parametrize("go_on", [False, True])
def test_a_run_with_an_unhandled_failure_has_failed(go_on: bool) -> None:
    drive = Drive.begun(flow(step("a"), step("b"), go_on=go_on))
    drive.start("b")
    drive.fail("a")
    drive.succeed("b")
    assert drive.result().state is State.FAILED


def test_a_cancelled_run_is_cancelled_and_says_why() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.cancel("no longer wanted")
    result = drive.result()
    assert result.state is State.CANCELLED
    assert result.failures == (
        Failure(Reason.CANCELLED, "cancelled: no longer wanted", cause=FailureCause.CANCEL_REQUESTED),
    )


def test_a_cancel_needs_no_reason() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.cancel()
    assert drive.of(RunStopping)[0].failure == Failure(
        Reason.CANCELLED, "cancelled", cause=FailureCause.CANCEL_REQUESTED
    )


def test_a_cancelled_run_is_cancelled_even_where_a_step_failed_before() -> None:
    drive = Drive.begun(flow(step("a"), step("b")))
    drive.start("b")
    drive.fail("a")
    drive.cancel()
    drive.end_interrupted("b")
    assert drive.result().state is State.CANCELLED
    assert [failure.step_id for failure in drive.result().failures] == ["a", ""]


def test_a_cancelled_run_is_cancelled_even_where_every_step_answered_all_the_same() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.cancel()
    drive.succeed("a")
    assert drive.states() == {"a": State.SUCCEEDED}
    assert drive.result().state is State.CANCELLED


def test_a_run_that_took_too_long_has_failed_and_names_its_timeout() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a"), timeout=90))
    drive.start("a")
    assert drive.wait(89) == []
    assert drive.wait(1) == ["run stopping"]
    assert drive.end_interrupted("a") == ["a cancelled", "b skipped", "wave 0 finished", "run failed"]
    failure = Failure(Reason.TIMEOUT, "the run took longer than its timeout of 90 s", cause=FailureCause.RUN_TIMEOUT)
    assert drive.result().failures == (failure,)
    assert drive.result().state is State.FAILED
    assert drive.skip("b") == Skip(SkipCause.TIMEOUT)


def test_clean_up_does_not_run_in_a_run_that_stops() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=Join.ALL_DONE)))
    drive.start("a")
    drive.cancel()
    drive.end_interrupted("a")
    assert drive.skip("b") == Skip(SkipCause.CANCELLED)


# Cancel before, during and after.


def test_a_run_cancelled_before_it_began_starts_nothing() -> None:
    drive = Drive(flow(step("a"), step("b", "a"), timeout=5))
    assert drive.cancel() == ["run stopping"]
    assert drive.begin() == ["run started", "a skipped", "b skipped", "run cancelled"]
    assert drive.invoked() == {}


def test_a_run_cancelled_before_its_first_attempt_starts_nothing() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    assert drive.cancel() == ["run stopping", "a skipped", "b skipped", "run cancelled"]
    assert drive.of(StepStarted) == []


def test_a_cancelled_run_waits_for_the_interrupted_attempts() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b")))
    drive.succeed("a")
    drive.start("b")
    assert drive.cancel() == ["run stopping"]
    assert [interrupt.step_id for interrupt in drive.interrupts()] == ["b"]
    assert drive.end_interrupted("b") == ["b cancelled", "c skipped", "wave 0 finished", "run cancelled"]


def test_a_second_cancel_changes_nothing() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.start("a")
    drive.cancel("first")
    before = len(drive.commands)
    assert drive.cancel("second") == []
    assert drive.commands[before:] == []
    drive.end_interrupted("a")
    assert drive.result().failures[0].message == "cancelled: first"


def test_a_cancel_after_the_end_changes_nothing() -> None:
    drive = Drive.begun(flow(step("a")))
    drive.finish()
    assert drive.cancel() == []
    assert drive.result().state is State.SUCCEEDED


def test_a_timeout_after_a_cancel_changes_nothing() -> None:
    drive = Drive.begun(flow(step("a"), timeout=5))
    drive.start("a")
    drive.cancel()
    assert drive.wait(10) == []
    drive.end_interrupted("a")
    assert drive.result().state is State.CANCELLED


# Inputs at odd times.


def test_a_run_begins_once() -> None:
    drive = Drive.begun(flow(step("a")))
    assert drive.begin() == []


def test_a_run_has_one_terminal_event_and_nothing_after_it() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.finish()
    for given in [given for _, given in drive.inputs]:
        drive.feed(given)
    assert [event for event in drive.events if isinstance(event, RunFinished)] == [drive.events[-1]]


def test_inputs_may_be_decided_one_by_one_into_one_decision() -> None:
    drive = Drive(flow(step("a")))
    decision = decide(drive.run, Started(), NOON, EVALUATOR)
    again = decide(drive.run, CancelRequested(), NOON, EVALUATOR, decision)
    assert again is decision
    assert [type(event).__name__ for event in decision.events] == [
        "RunStarted",
        "RunStopping",
        "StepFinished",
        "RunFinished",
    ]
    assert [request.step_id for request in decision.requests] == ["a"]
    assert [type(command).__name__ for command in decision.commands] == ["Interrupt", "Finish"]
