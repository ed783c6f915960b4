"""Fallbacks of steps that have finally failed."""

import pytest

from stepwave_server.core.evolve import fold
from stepwave_server.core.inputs import MAX_CARRIED, input_of
from stepwave_server.core.messages import AttemptStarted, Invoke, StepFinished, StepRetrying, StepStarted
from stepwave_server.core.model import (
    SECOND,
    Binding,
    Failure,
    FallbackAction,
    FromStep,
    Join,
    OnInterrupt,
    Payload,
    Reason,
    Skip,
    SkipCause,
    State,
)
from stepwave_server.core.result import reusable
from unit.server.core.build import NOWHERE, flow, retry, step
from unit.server.core.driver import EVALUATOR, Drive

OTHER = FallbackAction("other")
BROKE = Failure(Reason.ACTION_ERROR, "a broke", step_id="a", attempt=1)


def only(fallback: Payload | FallbackAction = OTHER, *, go_on: bool = False) -> Drive:
    """Return a run of a step with a fallback, and of a dependent."""
    return Drive.begun(flow(step("a", fallback=fallback, payload='"own"'), step("b", "a"), go_on=go_on))


# A fixed value.


def test_a_fixed_value_answers_at_once() -> None:
    drive = only('"kept"')
    assert drive.fail("a") == ["a succeeded", "wave 0 finished"]
    event = drive.finished("a")
    assert (event.output, event.failure, event.original, event.attempts) == ('"kept"', None, BROKE, 1)
    assert drive.invoked()["b"] == '{"a":"kept"}'


def test_a_fixed_value_answers_when_all_attempts_are_used_up() -> None:
    drive = Drive.begun(flow(step("a", fallback='"kept"', retry=retry(2))))
    assert drive.fail_retryably("a") == ["a retrying"]
    drive.wait(1)
    assert drive.fail_retryably("a")[0] == "a succeeded"
    assert drive.finished("a").attempts == 2


def test_a_run_whose_fallbacks_answered_has_succeeded() -> None:
    drive = only('"kept"')
    drive.fail("a")
    drive.succeed("b")
    assert (drive.result().state, drive.result().failures) == (State.SUCCEEDED, ())


def test_a_step_that_succeeds_does_not_run_its_fallback() -> None:
    drive = only('"kept"')
    drive.succeed("a", '"fresh"')
    event = drive.finished("a")
    assert (event.output, event.original) == ('"fresh"', None)


# Another action.


def test_a_fallback_action_runs_as_the_next_attempt() -> None:
    drive = only()
    assert drive.fail("a") == ["a retrying"]
    (event,) = drive.of(StepRetrying)
    assert (event.attempt, event.failure, event.next_time, event.fallback) == (1, BROKE, drive.now, True)
    assert drive.requests[-1] == Invoke("a", 2, "other", '"own"', fallback=True)
    drive.start("a")
    assert (drive.of(StepStarted)[1].action, drive.of(StepStarted)[1].attempt) == ("other", 2)


def test_the_output_of_a_fallback_is_the_steps_and_the_original_failure_is_kept() -> None:
    drive = only()
    drive.fail("a")
    assert drive.succeed("a", '"instead"')[0] == "a succeeded"
    event = drive.finished("a")
    assert (event.action, event.attempts, event.output) == ("echo", 2, '"instead"')
    assert (event.failure, event.original) == (None, BROKE)


def test_a_fallback_that_fails_fails_the_step_with_its_own_failure() -> None:
    drive = only()
    drive.fail("a")
    drive.fail("a", Reason.NOT_FOUND)
    event = drive.finished("a")
    assert event.state is State.FAILED
    assert event.failure == Failure(Reason.NOT_FOUND, "a broke", step_id="a", attempt=2)
    assert event.original == BROKE
    assert [failure.attempt for failure in drive.result().failures] == [2]


def test_a_fallback_is_tried_once() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER), retry=retry(9)))
    drive.fail("a")
    assert drive.fail_retryably("a")[0] == "a failed"


def test_an_allowed_failure_is_that_of_the_fallback() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER, allow_failure=True), step("b", "a")))
    drive.fail("a")
    drive.fail("a")
    drive.succeed("b")
    assert drive.result().state is State.SUCCEEDED


# Its input.


def test_a_fallback_may_have_an_input_of_its_own() -> None:
    drive = only(FallbackAction("other", '"its own"'))
    drive.fail("a")
    assert drive.requests[-1] == Invoke("a", 2, "other", '"its own"', fallback=True)


def test_a_fallback_without_an_input_gets_that_of_the_step() -> None:
    drive = Drive.begun(flow(step("a"), step("b", "a", fallback=OTHER)))
    drive.succeed("a", "7")
    drive.fail("b")
    assert drive.requests[-1] == Invoke("b", 2, "other", '{"a":7}', fallback=True)


def test_bindings_of_a_fallback_are_dependencies() -> None:
    bound = FallbackAction("other", None, (Binding("/x", FromStep("b")),))
    drive = Drive.begun(flow(step("a", fallback=bound), step("b")))
    assert drive.waiting() == ["b"]
    assert drive.run.steps["a"].deps == ("b",)


def test_dependencies_of_a_fallback_are_not_in_the_steps_own_input() -> None:
    bound = FallbackAction("other", None, (Binding("/x", FromStep("b")),))
    drive = Drive.begun(flow(step("a", fallback=bound), step("b"), step("c"), step("d", "c", "c", fallback=bound)))
    drive.succeed("b", "2")
    drive.succeed("c", "3")
    assert drive.invoked() == {"a": "null", "b": "null", "c": "null", "d": '{"c":3}'}
    drive.fail("d")
    assert drive.invoked()["d"] == '{"c":3,"b":2}'


def test_a_large_input_is_given_again_when_it_starts() -> None:
    large = '"' + "9" * MAX_CARRIED + '"'
    drive = only(FallbackAction("other", large))
    drive.fail("a")
    assert drive.invoked()["a"] is None
    assert input_of(drive.run, drive.run.steps["a"], EVALUATOR) == large


def test_a_fallback_answers_for_an_input_that_cannot_be_put_together() -> None:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,), fallback='"kept"')))
    event = drive.finished("a")
    assert (event.state, event.attempts, event.start_time) == (State.SUCCEEDED, 0, None)
    assert event.original is not None
    assert event.original.reason is Reason.INVALID_INPUT


def test_a_fallback_action_with_its_own_input_runs_when_the_steps_input_cannot_be_put_together() -> None:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,), fallback=FallbackAction("other", "1"))))
    assert drive.invoked() == {"a": "1"}
    drive.succeed("a")
    assert drive.finished("a").attempts == 1


@pytest.mark.parametrize("fallback", [OTHER, FallbackAction("other", None, (NOWHERE,))])
def test_a_fallback_whose_input_cannot_be_put_together_fails(fallback: FallbackAction) -> None:
    drive = Drive.begun(flow(step("a", bindings=(NOWHERE,), fallback=fallback)))
    assert drive.finished("a").state is State.FAILED
    assert drive.finished("a").original is not None


# Time.


def test_the_attempt_of_a_fallback_has_the_steps_timeout() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER, timeout=5)))
    drive.fail("a")
    drive.start("a")
    drive.wait(5)
    drive.end_interrupted("a")
    failure = drive.finished("a").failure
    assert failure is not None
    assert failure.message == "the fallback took longer than the step's timeout of 5 s"


def test_the_total_timeout_does_not_include_the_fallback() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER, total_timeout=5)))
    drive.start("a")
    drive.wait(5)
    assert drive.end_interrupted("a") == ["a retrying"]
    drive.start("a")
    assert drive.wait(60) == []
    assert drive.succeed("a")[0] == "a succeeded"


def test_a_fallback_answers_for_a_step_that_did_not_start_in_time() -> None:
    drive = Drive.begun(flow(step("a", fallback='"kept"', total_timeout=5)))
    assert drive.wait(5) == ["a succeeded", "run succeeded"]
    assert [one.step_id for one in drive.interrupts()] == ["a"]


def test_a_fallback_action_replaces_an_attempt_that_did_not_start_in_time() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER, total_timeout=5)))
    assert drive.wait(5) == ["a retrying"]
    assert drive.requests[-1] == Invoke("a", 1, "other", "null", fallback=True)
    assert drive.interrupts() == []
    assert [event.attempt for event in drive.of(StepRetrying)] == [0]
    drive.succeed("a")
    assert drive.finished("a").attempts == 1


def test_a_fallback_action_runs_at_once_for_an_attempt_that_is_admitted_too_late() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER, total_timeout=5)))
    drive.now += 5 * SECOND
    assert drive.send(AttemptStarted("a", 1)) == ["a retrying"]
    assert drive.waiting() == ["a"]


def test_a_fallback_takes_the_place_in_the_queue_of_a_step_that_timed_out() -> None:
    drive = Drive.begun(flow(step("a"), step("b", fallback=OTHER, total_timeout=5), step("c"), max_parallelism=1))
    drive.start("a")
    assert drive.wait(5) == ["b retrying"]
    drive.succeed("a")
    assert drive.waiting() == ["b"]


# Interruptions, cancels, failures elsewhere.


def test_an_attempt_of_a_fallback_that_a_restart_ended_is_repeated() -> None:
    drive = only()
    drive.start("a")
    drive.lose("a")
    drive.fail("a")
    for _ in range(3):
        drive.start("a")
        assert drive.lose("a") == ["a retrying"]
        assert isinstance(drive.requests[-1], Invoke)
        assert drive.requests[-1].action == "other"
    drive.start("a")
    assert drive.lose("a")[0] == "a failed"
    failure = drive.finished("a").failure
    assert failure is not None
    assert failure.message == "the server stopped while the attempt ran, as it had 3 times before"
    assert drive.finished("a").original == Failure(Reason.ACTION_ERROR, "a broke", step_id="a", attempt=2)


def test_a_fallback_runs_for_a_step_that_fails_on_interrupt() -> None:
    drive = Drive.begun(flow(step("a", fallback='"kept"', on_interrupt=OnInterrupt.FAIL)))
    drive.start("a")
    assert drive.lose("a")[0] == "a succeeded"


def test_a_cancel_ends_a_running_fallback() -> None:
    drive = only()
    drive.fail("a")
    drive.start("a")
    drive.cancel()
    drive.end_interrupted("a")
    assert (drive.finished("a").state, drive.finished("a").original) == (State.CANCELLED, BROKE)


def test_a_cancel_keeps_a_fallback_from_starting() -> None:
    drive = only()
    drive.fail("a")
    drive.cancel()
    assert drive.finished("a").state is State.CANCELLED


def test_a_cancel_skips_a_step_of_which_no_attempt_started() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER, total_timeout=5)))
    drive.wait(5)
    drive.cancel()
    assert drive.skip("a") == Skip(SkipCause.CANCELLED)


def test_a_cancelled_step_does_not_run_its_fallback() -> None:
    drive = only('"kept"')
    drive.start("a")
    drive.cancel()
    drive.end_interrupted("a")
    assert (drive.finished("a").state, drive.finished("a").original) == (State.CANCELLED, None)


def test_a_failure_when_the_run_may_not_go_on_is_final() -> None:
    drive = only('"kept"')
    drive.start("a")
    drive.cancel()
    assert drive.fail("a")[0] == "a failed"


def test_a_join_waits_for_a_step_whose_fallback_runs() -> None:
    drive = Drive.begun(flow(step("a", fallback=OTHER), step("b", "a", join=Join.ALL_DONE), go_on=True))
    drive.fail("a")
    assert drive.state("b") is State.PENDING
    drive.succeed("a")
    assert drive.waiting() == ["b"]


# Afterwards.


def test_the_output_of_a_fallback_can_be_reused() -> None:
    drive = only('"kept"')
    drive.fail("a")
    assert reusable(drive.workflow, drive.of(StepFinished)) == (("a", '"kept"'),)


def test_a_recovered_run_knows_that_a_fallback_runs() -> None:
    drive = only()
    drive.fail("a")
    assert drive.recover() == [Invoke("a", 2, "other", '"own"', fallback=True)]
    assert fold(drive.new_run(), drive.events).steps["a"].original == BROKE
