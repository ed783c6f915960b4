"""Attempts that a restart of the server interrupted."""

import pytest

from stepwave_server.core.messages import AttemptLost, Interrupt, Invoke, StepRetrying, StepStarted
from stepwave_server.core.model import SECOND, Failure, FailureCause, Join, OnInterrupt, Reason, SkipCause, State
from stepwave_server.core.state import RunOptions
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import NOON, Drive


def running(*step_ids: str, on_interrupt: OnInterrupt = OnInterrupt.RETRY) -> Drive:
    """Return a run of independent steps, all running."""
    drive = Drive.begun(flow(*(step(step_id, on_interrupt=on_interrupt) for step_id in step_ids)))
    drive.start(*step_ids)
    return drive


def test_a_lost_attempt_is_followed_by_another_with_the_same_input() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.succeed("a", '"kept"')
    drive.start("b")
    assert drive.lose("b") == ["b retrying"]
    assert drive.requests[-1] == Invoke("b", 2, "echo", '{"a":"kept"}')
    assert drive.start("b") == ["b started"]
    assert drive.succeed("b")[0] == "b succeeded"
    assert drive.finished("b").attempts == 2


def test_the_event_says_which_attempt_was_lost_and_that_another_may_start_now() -> None:
    drive = running("a")
    drive.now += SECOND
    drive.lose("a")
    (event,) = drive.of(StepRetrying)
    message = "the server stopped while the attempt ran"
    failure = Failure(
        Reason.INTERRUPTED, message, retryable=True, step_id="a", attempt=1, cause=FailureCause.ATTEMPT_LOST
    )
    assert event == StepRetrying(NOON + SECOND, "a", 1, failure, NOON + SECOND)


def test_the_new_attempt_has_a_timeout_of_its_own() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    drive.now += 60 * SECOND
    drive.lose("a")
    drive.start("a")
    assert drive.of(StepStarted)[-1].deadline == drive.now + 5 * SECOND


def test_the_timer_of_a_lost_attempt_interrupts_nothing() -> None:
    drive = Drive.begun(flow(step("a", timeout=5)))
    drive.start("a")
    timer = drive.next_timer()
    assert timer is not None
    drive.lose("a")
    drive.start("a")
    drive.fire(timer)
    assert drive.interrupts() == []


def test_the_fourth_interruption_fails_the_step() -> None:
    drive = running("a")
    for _ in range(3):
        assert drive.lose("a") == ["a retrying"]
        drive.start("a")
    drive.lose("a")
    failure = drive.finished("a").failure
    assert failure is not None
    assert (failure.reason, failure.retryable, failure.attempt) == (Reason.INTERRUPTED, False, 4)
    assert failure.message == "the server stopped while the attempt ran, as it had 3 times before"
    assert drive.result().state is State.FAILED


def test_interruptions_by_drains_do_not_count_as_crashes() -> None:
    drive = running("a")
    for _ in range(3):
        drive.lose("a", drained=True)
        drive.start("a")
        drive.lose("a")
        drive.start("a")
    assert drive.lose("a", drained=True) == ["a retrying"]
    drive.start("a")
    drive.lose("a")
    failure = drive.finished("a").failure
    assert failure is not None
    assert (failure.attempt, failure.cause) == (8, FailureCause.ATTEMPT_LOST)
    assert failure.message == "the server stopped while the attempt ran, as it had 3 times before"


def test_an_interruption_by_a_drain_says_so() -> None:
    drive = running("a")
    drive.lose("a", drained=True)
    (event,) = drive.of(StepRetrying)
    assert event.failure == Failure(
        Reason.INTERRUPTED,
        "the server was shut down while the attempt ran",
        retryable=True,
        step_id="a",
        attempt=1,
        cause=FailureCause.DRAINED,
    )


def test_the_loss_of_a_host_says_so() -> None:
    drive = running("a")
    for attempt in range(1, 5):
        drive.start("a")
        drive.send(AttemptLost("a", attempt, hosted=True))
    messages = [event.failure.message for event in drive.of(StepRetrying)]
    assert messages == ["the host stopped responding while the attempt ran"] * 3
    failure = drive.finished("a").failure
    assert failure is not None
    assert failure.message == "the host stopped responding while the attempt ran, as hosts had 3 times before"


def test_a_drain_of_a_host_says_so() -> None:
    drive = running("a")
    drive.send(AttemptLost("a", 1, drained=True, hosted=True))
    (event,) = drive.of(StepRetrying)
    assert event.failure.message == "the host was shut down while the attempt ran"


def test_an_interruption_by_a_drain_uses_up_no_attempt() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2))))
    drive.start("a")
    drive.lose("a", drained=True)
    assert drive.fail_retryably("a") == ["a retrying"]


def test_an_earlier_version_counts_interruptions_by_drains() -> None:
    drive = Drive(flow(step("a")), options=RunOptions(version=3))
    drive.begin()
    for _ in range(3):
        drive.start("a")
        drive.lose("a", drained=True)
    assert {event.failure.cause for event in drive.of(StepRetrying)} == {FailureCause.ATTEMPT_LOST}
    drive.start("a")
    drive.lose("a", drained=True)
    assert drive.finished("a").state is State.FAILED


def test_an_earlier_version_says_server_also_of_hosts() -> None:
    drive = Drive(flow(step("a")), options=RunOptions(version=3))
    drive.begin()
    drive.start("a")
    drive.send(AttemptLost("a", 1, hosted=True))
    (event,) = drive.of(StepRetrying)
    assert event.failure.message == "the server stopped while the attempt ran"


@pytest.mark.parametrize(
    ("drained", "message", "cause"),
    [
        (False, "the server stopped while the attempt ran", FailureCause.ATTEMPT_LOST),
        (True, "the server was shut down while the attempt ran", FailureCause.DRAINED),
    ],
    ids=["crash", "drain"],
)
def test_a_step_that_fails_on_interrupt_fails_at_once(drained: bool, message: str, cause: FailureCause) -> None:
    drive = running("a", on_interrupt=OnInterrupt.FAIL)
    drive.lose("a", drained=drained)
    failure = drive.finished("a").failure
    assert failure == Failure(Reason.INTERRUPTED, message, step_id="a", attempt=1, cause=cause)


def test_a_step_between_two_attempts_keeps_its_place() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), max_parallelism=1))
    drive.start("a")
    drive.lose("a")
    assert drive.waiting() == ["a"]
    assert drive.state("a") is State.RUNNING


def test_a_cancel_ends_a_step_between_two_attempts() -> None:
    drive = running("a")
    drive.lose("a")
    drive.cancel("enough")
    event = drive.finished("a")
    assert (event.state, event.attempts) == (State.CANCELLED, 1)
    assert event.failure == Failure(
        Reason.CANCELLED, "cancelled: enough", step_id="a", attempt=1, cause=FailureCause.CANCEL_REQUESTED
    )
    assert drive.result().state is State.CANCELLED


def test_a_step_between_two_attempts_is_withdrawn_from_admission() -> None:
    drive = running("a")
    drive.lose("a")
    drive.cancel()
    assert [(one.step_id, one.attempt) for one in drive.interrupts()] == [("a", 2)]


def test_an_attempt_that_was_to_end_and_is_lost_is_cancelled() -> None:
    drive = running("a")
    drive.cancel()
    drive.lose("a")
    assert drive.finished("a").state is State.CANCELLED


def test_a_loser_between_two_attempts_is_cancelled() -> None:
    drive = Drive.begun(flow(step("a"), step("b"), step("c", "a", "b", join=Join.ANY)))
    drive.start("a")
    drive.lose("a")
    drive.succeed("b")
    assert drive.finished("a").state is State.CANCELLED


@pytest.mark.parametrize("attempt", [0, 2])
def test_the_loss_of_another_attempt_changes_nothing(attempt: int) -> None:
    drive = running("a")
    assert drive.send(AttemptLost("a", attempt)) == []


def test_the_next_attempt_is_resumed_after_a_loss() -> None:
    drive = running("a")
    drive.lose("a")
    assert drive.recover() == [Invoke("a", 2, "echo", "null")]


def test_a_server_that_ends_a_run_fails_it_and_cancels_its_steps() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a")))
    drive.start("a")
    drive.stop(Failure(Reason.INTERRUPTED, "the server stopped"))
    assert [one for one in drive.commands if isinstance(one, Interrupt)] != []
    drive.end_interrupted("a")
    assert drive.states() == {"a": State.CANCELLED, "b": State.SKIPPED}
    skip = drive.skip("b")
    assert skip is not None
    assert skip.cause is SkipCause.CANCELLED
    assert drive.result().state is State.FAILED
    assert [failure.reason for failure in drive.result().failures] == [Reason.INTERRUPTED]
