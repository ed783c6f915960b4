"""Retries of failed attempts, by their policy."""

from dataclasses import replace
from itertools import pairwise

import pytest

from stepwave_server.core.messages import Invoke, StartTimer, StepReady, StepRetrying, StepStarted, Timer, TimerFired
from stepwave_server.core.model import SECOND, Failure, FailureCause, Join, Reason, Retry, State
from stepwave_server.core.retries import MAX_PAUSE, draw, pause
from stepwave_server.core.state import RunOptions
from unit.server.core.build import flow, retry, step
from unit.server.core.driver import NOON, Drive


def only(policy: Retry | None, *, workflows: Retry | None = None, seed: str = "") -> Drive:
    """Return a run of one step with a retry policy."""
    drive = Drive(flow(step("a", retry=policy), retry=workflows), options=RunOptions(seed=seed))
    drive.begin()
    return drive


def pauses(drive: Drive) -> list[float]:
    """Return the length of each backoff, in seconds."""
    return [(event.next_time - event.time) / SECOND for event in drive.of(StepRetrying)]


def fail_repeatedly(drive: Drive, times: int) -> None:
    for _ in range(times):
        drive.fail_retryably("a")
        drive.wait(3_600)


# Number of attempts.


def test_a_failed_attempt_is_followed_by_another_after_its_pause() -> None:
    drive = only(retry(3))
    assert drive.fail_retryably("a") == ["a retrying"]
    assert drive.waiting() == []
    assert drive.wait(1) == ["a ready"]
    assert drive.requests[-1] == Invoke("a", 2, "echo", "null")
    drive.start("a")
    assert drive.succeed("a") == ["a succeeded", "wave 0 finished", "run succeeded"]
    assert drive.finished("a").attempts == 2


def test_max_attempts_counts_all_attempts() -> None:
    drive = only(retry(3))
    fail_repeatedly(drive, 3)
    event = drive.finished("a")
    assert (event.state, event.attempts) == (State.FAILED, 3)
    assert event.failure == Failure(Reason.UNAVAILABLE, "a failed for now", True, None, "a", 3)


def test_without_a_policy_there_is_one_attempt() -> None:
    drive = only(None)
    fail_repeatedly(drive, 1)
    assert drive.state("a") is State.FAILED


def test_a_policy_without_max_attempts_makes_one_attempt() -> None:
    drive = only(Retry())
    fail_repeatedly(drive, 1)
    assert drive.state("a") is State.FAILED


def test_a_step_without_a_policy_has_the_workflows() -> None:
    drive = only(None, workflows=retry(2))
    assert drive.fail_retryably("a") == ["a retrying"]


def test_a_steps_own_policy_overrides_the_workflows() -> None:
    drive = only(retry(1), workflows=retry(5))
    assert drive.fail_retryably("a")[0] == "a failed"


def test_a_step_that_is_added_has_the_workflows_policy_too() -> None:
    drive = Drive.begun(flow(retry=retry(2)), is_open=True)
    drive.add(step("a"), seal=True)
    assert drive.fail_retryably("a") == ["a retrying"]


# Retryable reasons.


@pytest.mark.parametrize("reason", Reason)
def test_some_failures_are_worth_another_attempt_by_default(reason: Reason) -> None:
    worth = {Reason.ACTION_ERROR, Reason.TIMEOUT, Reason.UNAVAILABLE, Reason.RATE_LIMITED}
    assert (only(retry(2)).fail_retryably("a", reason)[0] == "a retrying") == (reason in worth)


def test_a_policy_may_name_others() -> None:
    policy = replace(retry(2), retryable_reasons=(Reason.NOT_FOUND,))
    assert only(policy).fail_retryably("a", Reason.NOT_FOUND) == ["a retrying"]
    assert only(policy).fail_retryably("a", Reason.UNAVAILABLE)[0] == "a failed"


def test_a_failure_marked_as_permanent_is_never_retried() -> None:
    assert only(retry(5)).fail("a")[0] == "a failed"


def test_an_attempt_that_timed_out_is_retried() -> None:
    drive = Drive.begun(flow(step("a", timeout=5, retry=retry(2))))
    drive.start("a")
    drive.wait(5)
    assert drive.end_interrupted("a") == ["a retrying"]
    drive.wait(1)
    drive.start("a")
    assert drive.of(StepStarted)[1].deadline == drive.now + 5 * SECOND
    assert drive.succeed("a")[0] == "a succeeded"


def test_the_end_of_a_step_with_an_abandoned_attempt_says_so() -> None:
    drive = Drive.begun(flow(step("a", timeout=5, retry=retry(2))))
    drive.start("a")
    drive.wait(5)
    drive.end_interrupted("a", abandoned=True)
    assert [event.abandoned for event in drive.of(StepRetrying)] == [True]
    drive.wait(1)
    drive.succeed("a")
    assert drive.finished("a").abandoned


# Backoffs.


def test_the_event_carries_the_failure_the_attempt_and_when_the_next_starts() -> None:
    drive = only(retry(2, pause=4))
    drive.now += SECOND
    drive.fail_retryably("a")
    failure = Failure(Reason.UNAVAILABLE, "a failed for now", True, None, "a", 1)
    assert drive.of(StepRetrying) == [StepRetrying(NOON + SECOND, "a", 1, failure, NOON + 5 * SECOND)]
    drive.wait(4)
    assert drive.of(StepReady) == [StepReady(NOON + 5 * SECOND, "a", 2)]


def test_backoffs_grow_up_to_the_maximum() -> None:
    drive = only(retry(7, pause=1, factor=3.0, longest=20))
    fail_repeatedly(drive, 7)
    assert pauses(drive) == [1, 3, 9, 20, 20, 20]


def test_a_backoff_may_be_zero() -> None:
    drive = only(retry(3, pause=0))
    assert drive.fail_retryably("a") == ["a retrying"]
    assert drive.waiting() == ["a"]
    assert drive.of(StepReady) == []


def test_retry_after_makes_a_backoff_longer_never_shorter() -> None:
    drive = only(retry(3, pause=2, factor=1.0))
    drive.fail_retryably("a", after=60)
    drive.wait(60)
    drive.fail_retryably("a", after=1)
    assert pauses(drive) == [60, 2]


def test_retry_after_exceeds_the_maximum_backoff_up_to_a_limit() -> None:
    drive = only(retry(3, longest=5))
    drive.fail_retryably("a", after=3_600)
    drive.wait(3_600)
    drive.fail_retryably("a", after=10**12)
    assert pauses(drive) == [3_600, MAX_PAUSE / SECOND]


def test_jitter_shortens_a_backoff_by_at_most_its_fraction() -> None:
    policy = retry(300, pause=10, factor=1.0, jitter=0.3)
    drive = only(policy, seed="default/run")
    fail_repeatedly(drive, 299)
    drawn = pauses(drive)
    assert 7 <= min(drawn) < 7.1
    assert 9.9 < max(drawn) <= 10
    assert 8.4 < sum(drawn) / len(drawn) < 8.6


def test_without_jitter_a_backoff_is_full_and_with_full_jitter_may_be_zero() -> None:
    assert pause(retry(2, pause=10), 1, 0) == pause(retry(2, pause=10), 1, 2**64 - 1) == 10 * SECOND
    assert pause(retry(2, pause=10, jitter=1.0), 1, 0) == 0
    assert pause(retry(2, pause=10, jitter=1.0), 1, 2**64 - 1) == 10 * SECOND - 1


def test_draws_depend_on_the_run_the_step_and_the_attempt_and_on_nothing_else() -> None:
    assert draw("default/run", "a", 1) == draw("default/run", "a", 1) == 5_278_015_429_023_287_955
    drawn = {draw(run, step_id, attempt) for run in ("x", "y") for step_id in ("a", "b") for attempt in (1, 2)}
    assert len(drawn) == 8


def test_runs_with_the_same_seed_have_the_same_backoffs() -> None:
    policy = retry(5, jitter=1.0)
    runs = [only(policy, seed=seed) for seed in ("one", "one", "two")]
    for drive in runs:
        fail_repeatedly(drive, 4)
    assert pauses(runs[0]) == pauses(runs[1]) != pauses(runs[2])


def test_a_backoff_never_overflows() -> None:
    assert pause(Retry(1_000, 1, 1e300, 10**18, 0.0), 1_000, 0) == 10**18


# Interruptions.


def test_attempts_that_restarts_ended_do_not_count() -> None:
    drive = only(retry(2, factor=1.0))
    for _ in range(3):
        drive.start("a")
        assert drive.lose("a") == ["a retrying"]
    assert drive.fail_retryably("a") == ["a retrying"]
    assert pauses(drive)[-1] == 1
    drive.wait(1)
    assert drive.fail_retryably("a")[0] == "a failed"
    assert drive.finished("a").attempts == 5


def test_the_fourth_interruption_is_not_retried_by_a_policy() -> None:
    drive = only(retry(50))
    for _ in range(3):
        drive.start("a")
        drive.lose("a")
    drive.start("a")
    assert drive.lose("a")[0] == "a failed"


def test_a_backoff_keeps_its_end_over_a_recovery() -> None:
    drive = only(retry(2, pause=60))
    drive.fail_retryably("a")
    drive.now += 30 * SECOND
    assert drive.recover() == [StartTimer(Timer("backoff", "a", 1), NOON + 60 * SECOND)]
    drive.now += 3_600 * SECOND
    assert drive.recover() == [StartTimer(Timer("backoff", "a", 1), NOON + 60 * SECOND)]
    assert drive.send(TimerFired(Timer("backoff", "a", 1))) == ["a ready"]


@pytest.mark.parametrize("attempt", [0, 2])
def test_the_timer_of_another_backoff_does_nothing(attempt: int) -> None:
    drive = only(retry(3))
    drive.fail_retryably("a")
    assert drive.send(TimerFired(Timer("backoff", "a", attempt))) == []


# Other steps, cancels and timeouts.


def test_a_step_in_a_backoff_takes_no_place() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=10)), step("b"), step("c"), max_parallelism=1))
    drive.fail_retryably("a")
    assert drive.waiting() == ["b"]
    drive.start("b")
    assert drive.wait(10) == ["a ready"]
    assert drive.waiting() == []
    drive.succeed("b")
    assert drive.waiting() == ["c"], "steps are invoked in the order in which they became ready"
    drive.succeed("c")
    assert drive.waiting() == ["a"]


def test_every_attempt_gets_the_same_input() -> None:
    steps = (step("a"), step("b"), step("c", "a", "b", join=Join.ANY, retry=retry(2)), step("d", "b"))
    drive = Drive.begun(flow(*steps))
    drive.start("b")
    drive.succeed("a")
    drive.fail_retryably("c")
    drive.succeed("b")
    drive.wait(1)
    inputs = [one.carried for one in drive.requests if one.step_id == "c"]
    assert inputs == ['{"a":1,"b":null}'] * 2


def test_dependents_wait_for_the_last_attempt() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2)), step("b", "a")))
    drive.fail_retryably("a")
    assert drive.state("b") is State.PENDING
    drive.wait(1)
    drive.succeed("a", '"late"')
    assert drive.invoked()["b"] == '{"a":"late"}'


def test_a_retried_failure_is_not_a_failure_of_the_run() -> None:
    drive = only(retry(2))
    fail_repeatedly(drive, 1)
    drive.succeed("a")
    assert (drive.result().failures, drive.result().state) == ((), State.SUCCEEDED)


def test_a_cancel_ends_a_backoff_at_once() -> None:
    drive = only(retry(2, pause=3_600))
    drive.fail_retryably("a")
    assert drive.cancel("enough") == ["run stopping", "a cancelled", "wave 0 finished", "run cancelled"]
    event = drive.finished("a")
    assert (event.state, event.attempts) == (State.CANCELLED, 1)
    assert event.failure == Failure(
        Reason.CANCELLED, "cancelled: enough", step_id="a", attempt=1, cause=FailureCause.CANCEL_REQUESTED
    )


def test_a_failure_elsewhere_ends_a_backoff_at_once() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=60)), step("b")))
    drive.fail_retryably("a")
    assert drive.fail("b") == ["b failed", "a cancelled", "wave 0 finished", "run failed"]


def test_the_runs_timeout_ends_a_backoff() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2, pause=60)), timeout=5))
    drive.fail_retryably("a")
    assert drive.wait(5) == ["run stopping", "a cancelled", "wave 0 finished", "run failed"]


def test_a_loser_in_a_backoff_is_cancelled() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2)), step("b"), step("c", "a", "b", join=Join.ANY)))
    drive.fail_retryably("a")
    assert drive.succeed("b") == ["b succeeded", "a cancelled", "wave 0 finished"]


def test_a_step_that_waits_for_a_place_after_its_backoff_is_cancelled_too() -> None:
    drive = Drive.begun(flow(step("a", retry=retry(2)), step("b"), max_parallelism=1))
    drive.fail_retryably("a")
    drive.start("b")
    drive.wait(1)
    drive.cancel()
    assert drive.finished("a").state is State.CANCELLED


def test_clean_up_is_retried() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", join=Join.ALL_DONE, retry=retry(2))))
    drive.fail("a")
    assert drive.fail_retryably("b") == ["b retrying"]
    drive.wait(1)
    drive.succeed("b")
    assert drive.state("b") is State.SUCCEEDED


def test_an_attempt_that_fails_in_a_run_that_stops_is_the_last() -> None:
    drive = only(retry(5))
    drive.start("a")
    drive.cancel()
    assert drive.fail_retryably("a")[0] == "a failed"


def test_attempts_do_not_overlap() -> None:
    drive = only(retry(4))
    fail_repeatedly(drive, 4)
    starts = [event.time for event in drive.of(StepStarted)]
    due = [event.next_time for event in drive.of(StepRetrying)]
    assert all(start >= next_time for start, next_time in zip(starts[1:], due, strict=True))
    assert all(one < other for one, other in pairwise(starts))
