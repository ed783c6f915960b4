"""The driver of a run on Temporal: what starts in one workflow task, interrupts, timers, and the size of a history."""

import json

import pytest

from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    CancelRequested,
    RunFinished,
    Started,
    StepCompleted,
    StepFinished,
    StepStarted,
)
from stepwave_server.core.model import (
    SECOND,
    WAIT_ACTION,
    Binding,
    Failure,
    FallbackAction,
    FromSecret,
    Join,
    Reason,
    SecretPlace,
    State,
    Step,
    Workflow,
)
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.temporal.driver import MAX_HISTORY_EVENTS, MAX_IN_FLIGHT, MAX_TASK_BYTES, PAUSE, RunDriver
from stepwave_server.engine.temporal.driver_messages import (
    AttemptStopped,
    CancelAttempt,
    CancelTimer,
    DriverInput,
    Effect,
    End,
    HistorySize,
    Request,
    SetTimer,
    StartAttempt,
    TimerDue,
)
from stepwave_server.engine.temporal.holds import Holds
from unit.server.core.build import flow, retry, step

CANCEL = CancelRequested("enough")


class Driven:
    """A driver, with a clock that the test moves."""

    def __init__(self, workflow: Workflow, options: RunOptions | None = None) -> None:
        self.driver = RunDriver(
            new_run(workflow, "null", options or RunOptions()), JsonEvaluator(8 << 20), Holds(None, "")
        )
        self.now = SECOND
        self.first = self.take(Started())

    def take(self, *inputs: DriverInput, later: int = 0) -> list[Effect]:
        """Let time pass, take inputs, and return the effects."""
        self.now += later
        self.driver.take(inputs, self.now)
        return self.driver.take_effects()

    def finished(self) -> dict[str, State]:
        """Return the states of the steps that ended since the last call."""
        return {event.step_id: event.state for event in self.driver.take_events() if isinstance(event, StepFinished)}


def started(effects: list[Effect]) -> list[str]:
    return [effect.invoke.step_id for effect in effects if isinstance(effect, StartAttempt)]


def test_an_attempt_starts_with_the_places_of_its_secrets_and_without_their_values() -> None:
    fallback = FallbackAction("other", bindings=(Binding("/b", FromSecret("B")),))
    driven = Driven(flow(step("a", bindings=(Binding("/a", FromSecret("A")),), fallback=fallback)))
    (first,) = [effect for effect in driven.first if isinstance(effect, StartAttempt)]
    assert (first.input, first.secrets) == ('{"a": "[secret A]"}', (SecretPlace("/a", "A"),))
    effects = driven.take(AttemptFailed("a", 1, Failure(Reason.ACTION_ERROR, "no", step_id="a", attempt=1)))
    (second,) = [effect for effect in effects if isinstance(effect, StartAttempt)]
    assert (second.input, second.secrets) == ('{"b": "[secret B]"}', (SecretPlace("/b", "B"),))


def done(step_id: str, attempt: int = 1) -> AttemptSucceeded:
    return AttemptSucceeded(step_id, attempt, "1")


def broken(step_id: str, attempt: int = 1) -> AttemptFailed:
    failure = Failure(Reason.UNAVAILABLE, "gone", retryable=True, step_id=step_id, attempt=attempt)
    return AttemptFailed(step_id, attempt, failure)


def test_no_more_attempts_than_allowed_are_in_flight() -> None:
    run = Driven(flow(*(step(f"s{number}") for number in range(MAX_IN_FLIGHT + 3))))
    assert started(run.first) == [f"s{number}" for number in range(MAX_IN_FLIGHT)]
    assert list(run.driver.queued) == ["s500", "s501", "s502"]
    assert started(run.take(done("s7"), done("s9"))) == ["s500", "s501"]


def test_inputs_that_start_in_one_workflow_task_are_bounded_and_a_timer_ends_the_task() -> None:
    large = json.dumps("x" * (MAX_TASK_BYTES // 2))
    run = Driven(flow(*(step(f"s{number}", payload=large) for number in range(3))))
    assert started(run.first) == ["s0"]
    assert [effect for effect in run.first if isinstance(effect, SetTimer)] == [SetTimer(PAUSE, 1_000_000)]
    assert run.take(CANCEL)[:1] == [CancelAttempt("s0", 1)]


def test_one_pause_is_enough_and_after_it_the_next_attempt_starts() -> None:
    large = json.dumps("x" * MAX_TASK_BYTES)
    run = Driven(flow(*(step(f"s{number}", payload=large) for number in range(3))))
    assert started(run.first) == ["s0"]
    second = run.take(TimerDue(PAUSE))
    assert (started(second), second.count(SetTimer(PAUSE, 1_000_000))) == (["s1"], 1)
    third = run.take(TimerDue(PAUSE))
    assert (started(third), third.count(SetTimer(PAUSE, 1_000_000))) == (["s2"], 0)


def test_an_input_larger_than_the_bound_starts_alone() -> None:
    run = Driven(flow(step("large", payload=json.dumps("x" * (2 * MAX_TASK_BYTES)))))
    assert started(run.first) == ["large"]


def test_an_attempt_that_temporal_does_not_know_yet_is_interrupted_without_an_activity() -> None:
    run = Driven(flow(step("a"), step("b", "a")))
    assert run.take(done("a"), CANCEL) == [End()]
    assert run.finished() == {"a": State.SUCCEEDED, "b": State.CANCELLED}
    assert not run.driver.in_flight


def test_an_attempt_in_flight_is_cancelled_once_and_ends_when_its_host_says_so() -> None:
    run = Driven(flow(step("a"), step("b")))
    assert run.take(CANCEL, CANCEL) == [CancelAttempt("a", 1), CancelAttempt("b", 1)]
    assert run.finished() == {}
    assert run.take(AttemptStopped("a", 1, timed_out=False), done("b")) == [End()]
    assert run.finished() == {"a": State.CANCELLED, "b": State.SUCCEEDED}


@pytest.mark.parametrize(
    ("given", "abandoned"), [(broken("a"), False), (AttemptLost("a", 1), True)], ids=["failed", "lost"]
)
def test_a_cancelled_attempt_that_fails_or_is_lost_is_cancelled(given: DriverInput, abandoned: bool) -> None:
    run = Driven(flow(step("a", retry=retry(3))))
    run.take(CANCEL)
    assert run.take(given) == [End()]
    (end,) = [event for event in run.driver.take_events() if isinstance(event, StepFinished)]
    assert (end.state, end.abandoned) == (State.CANCELLED, abandoned)


def test_an_attempt_that_is_interrupted_after_its_timeout_has_timed_out() -> None:
    run = Driven(flow(step("a", timeout=5)))
    assert run.take(CANCEL, later=5 * SECOND) == [CancelAttempt("a", 1)]
    assert run.take(AttemptStopped("a", 1, timed_out=True), later=SECOND) == [End()]
    assert run.finished() == {"a": State.FAILED}


def test_an_attempt_that_is_interrupted_before_its_timeout_is_cancelled() -> None:
    run = Driven(flow(step("a", timeout=5)))
    assert run.take(CANCEL, later=4 * SECOND) == [CancelAttempt("a", 1)]
    assert run.take(AttemptStopped("a", 1, timed_out=True), later=2 * SECOND) == [End()]
    assert run.finished() == {"a": State.CANCELLED}


def test_an_activity_that_others_cancelled_starts_again() -> None:
    run = Driven(flow(step("a")))
    assert started(run.take(AttemptStopped("a", 1, timed_out=False))) == ["a"]
    assert run.driver.in_flight == {"a": 2}


def test_an_outcome_of_an_attempt_that_has_ended_changes_nothing() -> None:
    run = Driven(flow(step("a", retry=retry(3, pause=0)), step("b")))
    run.take(broken("a"))
    run.driver.take_events()
    assert run.take(done("a", 1), AttemptStopped("a", 1, timed_out=True)) == []
    assert run.driver.in_flight == {"b": 1, "a": 2}
    assert run.driver.take_events() == []


def test_a_timer_that_was_due_when_it_was_cancelled_changes_nothing() -> None:
    run = Driven(flow(step("a", retry=retry(3, pause=5)), step("b")))
    (timer,) = [effect for effect in run.take(broken("a")) if isinstance(effect, SetTimer)]
    assert run.take(CANCEL) == [CancelTimer(timer.name), CancelAttempt("b", 1)]
    assert run.take(TimerDue(timer.name), later=5 * SECOND) == []
    assert run.driver.in_flight == {"b": 1}


def test_the_end_of_a_step_cancels_its_timers() -> None:
    run = Driven(flow(step("a", total_timeout=4)))
    (timer,) = [effect for effect in run.first if isinstance(effect, SetTimer)]
    assert run.take(done("a")) == [CancelTimer(timer.name), End()]


def test_one_timer_serves_an_idle_run_and_starts_again_if_it_is_due_too_early() -> None:
    run = Driven(flow(step("a", action=WAIT_ACTION)), RunOptions(open=True, idle_timeout=10 * SECOND))
    timers = [effect for effect in run.first if isinstance(effect, SetTimer)]
    complete = run.take(StepCompleted("a", "1"), later=4 * SECOND)
    timers += [effect for effect in complete if isinstance(effect, SetTimer)]
    assert timers == [SetTimer("idle", 10 * SECOND)]
    added = run.take(Request("t", AddSteps((Step("b", "echo"),), False)), done("b"), later=3 * SECOND)
    assert [effect for effect in added if isinstance(effect, SetTimer)] == []
    again = run.take(TimerDue("idle"), later=7 * SECOND)
    assert [effect.delay for effect in again if isinstance(effect, SetTimer)] == [3 * SECOND]
    assert run.take(TimerDue("idle"), later=3 * SECOND)[-1] == End()


def test_a_history_that_is_too_large_ends_the_run_and_names_the_limit() -> None:
    run = Driven(flow(step("a"), step("b", "a")))
    assert run.take(HistorySize(MAX_HISTORY_EVENTS + 1, 10)) == [CancelAttempt("a", 1)]
    assert run.take(HistorySize(MAX_HISTORY_EVENTS + 4, 10), AttemptStopped("a", 1, timed_out=False)) == [End()]
    end = run.driver.take_events()[-1]
    assert isinstance(end, RunFinished)
    assert "45,000 events" in end.failures[0].message


def test_requests_have_an_answer_each() -> None:
    run = Driven(flow(step("a", action=WAIT_ACTION), step("b")))
    twice = [Request(token, StepCompleted("a", "1")) for token in ("one", "two")]
    run.take(*twice)
    assert run.driver.answers["one"] is None
    assert run.driver.answers["two"] is not None


def test_all_starts_are_told_with_their_events() -> None:
    run = Driven(flow(step("a"), step("b"), max_parallelism=1))
    assert started(run.first) == ["a"]
    assert [event.step_id for event in run.driver.take_events() if isinstance(event, StepStarted)] == ["a"]
    assert started(run.take(done("a"))) == ["b"]


def test_what_is_ready_starts_before_a_wait_that_is_not_needed_ends() -> None:
    steps = [step("a"), step("w", action=WAIT_ACTION), step("any", "a", "w", join=Join.ANY)]
    run = Driven(flow(*steps))
    run.driver.take_events()
    run.take(done("a"))
    told = [event.step_id for event in run.driver.take_events() if isinstance(event, StepStarted | StepFinished)]
    assert told == ["a", "any", "w"]
