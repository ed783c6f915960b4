"""Transient events of attempts on hosts, whatever comes first: the history, or the event."""

from typing import cast

import pytest

from stepwave.v1 import event_pb2, orchestrator_pb2
from stepwave_server.core.evolve import new_run
from stepwave_server.core.messages import AttemptFailed, AttemptSucceeded, Started
from stepwave_server.core.model import Failure, Reason, Retry, Step, Workflow
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.streams.subscribers import Subscribers
from stepwave_server.engine.streams.transients import Transient
from stepwave_server.engine.streams.watcher import Watcher
from stepwave_server.engine.temporal.driver import MAX_IN_FLIGHT, RunDriver
from stepwave_server.engine.temporal.driver_messages import DriverInput
from stepwave_server.engine.temporal.holds import Holds
from stepwave_server.engine.temporal.hosted_reports import HostedReports
from stepwave_server.engine.temporal.pending import PendingAttempt
from stepwave_server.engine.temporal.progress import Progress
from stepwave_server.engine.temporal.transients import Chunk, LogMessage
from stepwave_server.wire.events.encode import LogEntry, LogLevel

FAILURE = Failure(Reason.ACTION_ERROR, "no", retryable=True)


class _Shown:
    """A watcher that keeps what it is shown."""

    def __init__(self) -> None:
        self.events: list[event_pb2.RunEvent] = []

    def show(self, transient: Transient) -> None:
        self.events += orchestrator_pb2.WatchRunResponse.FromString(transient.data).events

    def take(self) -> list[event_pb2.RunEvent]:
        events, self.events = self.events, []
        return events


class _Run:
    """A run whose inputs the test gives."""

    def __init__(self, steps: int = 1) -> None:
        retry = Retry(max_attempts=3, initial_backoff=0)
        workflow = Workflow(name="w", steps=tuple(Step(f"s{index}", "act", retry=retry) for index in range(steps)))
        self.state = new_run(workflow, "null", RunOptions(seed="x"))
        self.driver = RunDriver(self.state, JsonEvaluator(1_000), Holds(None, ""))
        self.watermark = CommitWatermark(0)
        self.subscribers = Subscribers("run", lambda: 1)
        self.shown = _Shown()
        self.subscribers.join(cast("Watcher", self.shown))
        self.reports = HostedReports("run", self.state, self.driver, self.watermark, self.subscribers)

    def take(self, *inputs: DriverInput) -> None:
        self.driver.take(inputs, 1_000)
        self.watermark.advance(len(self.driver.take_events()))
        self.reports.committed()

    def see(self, *pending: PendingAttempt, unserved: frozenset[str] = frozenset()) -> list[event_pb2.RunEvent]:
        """Show what Temporal says of attempts. Return what the watcher is shown."""
        self.reports.pending = {attempt.step_id: attempt for attempt in pending}
        self.reports.unserved = unserved
        self.reports.show_pending()
        return self.shown.take()


SCHEDULED = PendingAttempt("s0", 1, "act", 1, None, "", None)
RUNNING = SCHEDULED._replace(start_time=2, host="7@host")


@pytest.fixture
def run() -> _Run:
    return _Run()


def _log(number: int, attempt: int = 1) -> LogMessage:
    return LogMessage(number, 5, "s0", attempt, LogEntry(LogLevel.INFO, "x", "text"))


def _chunks(run: _Run) -> list[tuple[int, int]]:
    return [(it.step_chunk.attempt, it.step_chunk.index) for it in run.shown.take() if it.HasField("step_chunk")]


def test_a_chunk_that_is_ahead_of_the_history_waits_for_the_start_of_its_attempt(run: _Run) -> None:
    run.reports.show(Chunk("s0", 1, 0, "1"))
    assert _chunks(run) == []
    run.take(Started())
    run.reports.show(Chunk("s0", 1, 1, "1"))
    assert _chunks(run) == [(1, 0), (1, 1)]


def test_a_chunk_of_an_attempt_that_has_ended_is_dropped(run: _Run) -> None:
    run.take(Started())
    run.take(AttemptFailed("s0", 1, FAILURE))
    run.reports.show(Chunk("s0", 1, 0, "1"))
    run.reports.show(Chunk("s0", 2, 0, "1"))
    assert _chunks(run) == [(2, 0)]
    run.take(AttemptSucceeded("s0", 2, "1"))
    run.reports.show(Chunk("s0", 2, 1, "1"))
    assert _chunks(run) == []


def test_chunks_that_wait_are_bounded(run: _Run) -> None:
    for index in range(5_000):
        run.reports.show(Chunk("s0", 1, index, "1"))
    run.take(Started())
    assert _chunks(run) == [(1, index) for index in range(4_000, 5_000)]


def test_what_an_attempt_logged_is_shown_even_after_its_end_and_in_the_order_of_the_history(run: _Run) -> None:
    run.reports.show(_log(1))
    assert run.shown.take() == []
    run.take(Started())
    run.take(AttemptSucceeded("s0", 1, "1"))
    run.reports.show(_log(2))
    assert [event.step_log.index for event in run.shown.take()] == [1, 2]


def test_progress_is_shown_when_it_changed(run: _Run) -> None:
    run.take(Started())
    half = RUNNING._replace(progress=Progress(0.5, "half"))
    assert run.see(RUNNING) == []
    (shown,) = run.see(half)
    assert (shown.step_progress.fraction, shown.step_progress.message) == (0.5, "half")
    assert run.see(half) == []


def test_what_temporal_says_of_an_attempt_that_has_ended_is_not_shown(run: _Run) -> None:
    run.take(Started())
    run.take(AttemptFailed("s0", 1, FAILURE))
    assert run.see(RUNNING._replace(progress=Progress(0.5, ""))) == []
    assert run.see(SCHEDULED, unserved=frozenset({"act"})) == []
    assert run.reports.missing == ()


def test_a_missing_action_is_shown_at_once_and_once(run: _Run) -> None:
    run.take(Started())
    (shown,) = run.see(SCHEDULED, unserved=frozenset({"act"}))
    assert shown.step_waiting.cause == event_pb2.WAIT_CAUSE_ACTION_MISSING
    assert run.see(SCHEDULED, unserved=frozenset({"act"})) == []
    assert run.reports.missing == ("act",)


def test_hosts_are_busy_when_an_attempt_waits_for_a_while(run: _Run) -> None:
    run.take(Started())
    assert run.see(SCHEDULED) == []
    (shown,) = run.see(SCHEDULED)
    assert shown.step_waiting.cause == event_pb2.WAIT_CAUSE_CONCURRENCY


def test_an_attempt_that_waited_shows_that_it_runs(run: _Run) -> None:
    run.take(Started())
    run.see(SCHEDULED, unserved=frozenset({"act"}))
    (shown,) = run.see(RUNNING)
    assert (shown.step_progress.HasField("fraction"), shown.step_progress.message) == (False, "")
    assert run.see(RUNNING) == []
    assert not run.subscribers.knows_waiting("s0")


def test_a_step_beyond_the_attempts_in_flight_waits_for_the_run() -> None:
    run = _Run(MAX_IN_FLIGHT + 1)
    run.take(Started())
    (step_id,) = run.driver.queued
    message = "a run on Temporal has at most 500 attempts in flight"
    (waiting,) = [it.step_waiting for it in run.shown.take() if it.HasField("step_waiting")]
    assert (waiting.step_id, waiting.message) == (step_id, message)
    obstacle = run.reports.obstacle(step_id)
    assert obstacle is not None
    assert obstacle.message == message
