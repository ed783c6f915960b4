"""Numbers from events: which steps and attempts are counted, how long they took, and what is counted together."""

from collections.abc import Iterable

import pytest

from stepwave_server.core.decide import decide
from stepwave_server.core.evolve import fold, new_run
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    AttemptFailed,
    AttemptStarted,
    AttemptSucceeded,
    CancelRequested,
    Event,
    Input,
    Started,
    StepFinished,
    Timer,
    TimerFired,
)
from stepwave_server.core.model import SECOND, Failure, FallbackAction, Reason, Retry, State, Step, Workflow
from stepwave_server.telemetry import Measures, RunMeasures
from stepwave_server.telemetry.metrics.histogram import COMMIT_SIZES, Histogram, Samples
from stepwave_server.telemetry.metrics.measures import MAX_ACTIONS, MAX_NAMESPACES, OTHER
from unit.server.telemetry.runs import NOON, NoInput, boom

KEY = RunKey("default", "run")
GONE = Failure(Reason.UNAVAILABLE, "gone", retryable=True)


class Measured:
    """A run that is measured. Inputs are one second apart."""

    def __init__(self, *steps: Step, attempts: bool = True) -> None:
        self.state = new_run(Workflow(name="flow", steps=steps))
        self.measures = Measures()
        self.run = RunMeasures(KEY, self.state, self.measures, attempts=attempts)
        self.now = NOON
        self.events: list[Event] = []
        self.feed(Started())

    def feed(self, *inputs: Input) -> None:
        for given in inputs:
            self.now += SECOND
            events = decide(self.state, given, self.now, NoInput()).events
            self.events += events
            self.run.add(events)
        self.measures.fold()


def _seconds(histogram: Histogram) -> tuple[int, float]:
    """Return the number of values, and their sum in seconds."""
    return histogram.count, histogram.total / SECOND


def test_a_step_whose_first_attempt_succeeds_is_counted_once() -> None:
    run = Measured(Step("a", "echo"))
    run.feed(AttemptStarted("a", 1), AttemptSucceeded("a", 1, "null"))
    echo = run.measures.actions["echo"]
    assert (echo.states, echo.outcomes) == ({"succeeded": 1}, {"succeeded": 1})
    assert _seconds(echo.steps) == _seconds(echo.attempts) == _seconds(echo.wait) == (1, 1)


def test_each_attempt_of_a_step_is_timed_by_itself() -> None:
    run = Measured(Step("a", "echo", retry=Retry(max_attempts=2)))
    run.feed(AttemptStarted("a", 1), AttemptFailed("a", 1, GONE), TimerFired(Timer("backoff", "a", 1)))
    run.feed(AttemptStarted("a", 2), AttemptSucceeded("a", 2, "null"))
    echo = run.measures.actions["echo"]
    assert (echo.states, echo.outcomes) == ({"succeeded": 1}, {"succeeded": 1, "unavailable": 1})
    assert _seconds(echo.attempts) == (2, 2)
    assert _seconds(echo.steps) == (1, 4)


def test_the_attempts_of_a_fallback_are_those_of_its_action() -> None:
    run = Measured(Step("a", "echo", retry=Retry(max_attempts=1), fallback=FallbackAction("spare")))
    run.feed(AttemptStarted("a", 1), AttemptFailed("a", 1, boom("a")))
    run.feed(AttemptStarted("a", 2), AttemptSucceeded("a", 2, "null"))
    echo, spare = run.measures.actions["echo"], run.measures.actions["spare"]
    assert (echo.outcomes, echo.states) == ({"action_error": 1}, {"succeeded": 1})
    assert (spare.outcomes, spare.states) == ({"succeeded": 1}, {})


def test_an_attempt_fails_even_if_a_fallback_value_becomes_the_output_of_its_step() -> None:
    run = Measured(Step("a", "echo", retry=Retry(max_attempts=1), fallback="1"))
    run.feed(AttemptStarted("a", 1), AttemptFailed("a", 1, boom("a")))
    echo = run.measures.actions["echo"]
    assert (echo.outcomes, echo.states) == ({"action_error": 1}, {"succeeded": 1})


def test_a_step_that_is_cancelled_before_its_start_has_no_attempt() -> None:
    run = Measured(Step("a", "echo"))
    run.feed(CancelRequested())
    echo = run.measures.actions["echo"]
    assert (echo.states, echo.outcomes, echo.steps.count) == ({"skipped": 1}, {}, 0)
    assert run.measures.ended_runs == {("default", "cancelled"): 1}


def test_what_an_earlier_process_has_counted_is_not_counted_again() -> None:
    first = Measured(Step("a", "echo", retry=Retry(max_attempts=3)))
    first.feed(AttemptStarted("a", 1), AttemptFailed("a", 1, GONE), TimerFired(Timer("backoff", "a", 1)))
    first.feed(AttemptStarted("a", 2))
    second = Measured(Step("a", "echo", retry=Retry(max_attempts=3)))
    state = fold(new_run(second.state.workflow), first.events)
    measures = Measures()
    run = RunMeasures(KEY, state, measures)
    run.replay(first.events)
    run.add(decide(state, AttemptSucceeded("a", 2, "null"), first.now + SECOND, NoInput()).events)
    measures.fold()
    echo = measures.actions["echo"]
    assert (echo.states, echo.outcomes) == ({"succeeded": 1}, {"succeeded": 1})
    assert _seconds(echo.attempts) == (1, 1)
    assert not measures.started_runs


def test_where_hosts_run_attempts_only_steps_are_counted() -> None:
    run = Measured(Step("a", "echo"), attempts=False)
    run.feed(AttemptStarted("a", 1), AttemptSucceeded("a", 1, "null"))
    echo = run.measures.actions["echo"]
    assert (echo.states, echo.outcomes, echo.wait.count) == ({"succeeded": 1}, {}, 0)
    assert _seconds(echo.steps) == (1, 1)


def test_an_error_in_the_metrics_of_a_run_is_logged_once_and_harms_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Measured(Step("a", "echo"))
    for _ in range(2):
        run.run.add([StepFinished(NOON, "unknown", "echo", State.FAILED, 0, 1)])
    assert caplog.text.count("the metrics of a run are incomplete") == 1


def test_actions_beyond_the_bound_are_counted_together() -> None:
    measures = Measures()
    for number in range(MAX_ACTIONS + 50):
        measures.action(f"action-{number}").attempt_ended(Failure(Reason.TIMEOUT, ""), SECOND)
    measures.fold()
    assert len(measures.actions) == MAX_ACTIONS + 1
    assert measures.actions[OTHER].outcomes == {"timeout": 50}


def test_namespaces_beyond_the_bound_are_counted_together() -> None:
    measures = Measures()
    for number in range(MAX_NAMESPACES + 5):
        measures.run_started(f"namespace-{number}")
    assert measures.started_runs[(OTHER,)] == 5


def test_a_value_belongs_in_the_first_bucket_that_is_not_below_it() -> None:
    histogram = Histogram(COMMIT_SIZES, 1)
    _add(histogram, [1, 2, 3, 20_000])
    assert histogram.counts[:3] == [1, 1, 1]
    assert histogram.counts[-1] == 1
    assert (histogram.least, histogram.most, histogram.total) == (1, 20_000, 20_006)


def test_samples_reach_every_histogram_once() -> None:
    first, second = Histogram(), Histogram()
    samples = Samples(first, second)
    for value in (SECOND, 2 * SECOND):
        samples.append(value)
    assert (samples.fold(), samples.fold()) == (2, 0)
    assert first.counts == second.counts
    assert first.count == 2


def _add(histogram: Histogram, values: Iterable[int]) -> None:
    for value in values:
        histogram.add(value)
