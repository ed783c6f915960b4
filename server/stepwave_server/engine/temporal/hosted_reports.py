"""Shows watchers what the attempts of a run show on their hosts, and what they wait for before a host has them."""

from collections import deque
from collections.abc import Mapping
from enum import Enum

from stepwave_server.core.explanation import WaitCause
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.base import Obstacle
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.runs.waits import MAX_WAITING, show_new, show_queued
from stepwave_server.engine.streams.subscribers import Subscribers
from stepwave_server.engine.temporal.driver import MAX_IN_FLIGHT, RunDriver
from stepwave_server.engine.temporal.pending import PendingAttempt
from stepwave_server.engine.temporal.progress import Progress
from stepwave_server.engine.temporal.transients import Chunk, LogMessage
from stepwave_server.wire.events.encode import encode_log

__all__ = ["RUN_FULL", "HostedReports"]

MAX_HELD = 1_000
"""Chunks and log messages that may wait for the start of their attempt. Beyond it, the oldest are dropped."""

RUN_FULL = Obstacle(WaitCause.CONCURRENCY, f"a run on Temporal has at most {MAX_IN_FLIGHT:,} attempts in flight")
"""The obstacle of a step whose run has as many attempts in flight as it may."""


def action_missing(action: str) -> Obstacle:
    """Return the obstacle of an attempt whose action no host has."""
    return Obstacle(WaitCause.ACTION_MISSING, f'no host has the action "{action}"')


def hosts_busy(action: str) -> Obstacle:
    """Return the obstacle of an attempt that no host has taken yet."""
    return Obstacle(WaitCause.CONCURRENCY, f'the hosts of "{action}" are busy')


class _Standing(Enum):
    """The state of an attempt, as far as this server has read the history."""

    TO_COME = "to come"
    IN_FLIGHT = "in flight"
    ENDED = "ended"


class HostedReports:
    """Shows watchers the transient events of a run's attempts.

    Chunks and logs come from Redis, the rest from Temporal. Either may be ahead of the history that this server has
    read: what an attempt shows waits until its start is known.

    Attributes:
        pending: The attempts that Temporal has, by step, when it was asked last.
        unserved: Those of their actions that no host serves.

    Args:
        run_id: The id of the run.
        state: The run's state.
        driver: Derives its events.
        watermark: The run's commit watermark.
        subscribers: The run's subscribers.
    """

    def __init__(
        self,
        run_id: str,
        state: RunState,
        driver: RunDriver,
        watermark: CommitWatermark,
        subscribers: Subscribers,
    ) -> None:
        self.pending: Mapping[str, PendingAttempt] = {}
        self.unserved: frozenset[str] = frozenset()
        self._run_id = run_id
        self._state = state
        self._driver = driver
        self._watermark = watermark
        self._subscribers = subscribers
        self._held: deque[Chunk | LogMessage] = deque(maxlen=MAX_HELD)
        self._log_time = 0
        self._progress: dict[str, tuple[int, Progress]] = {}
        self._waits: dict[str, tuple[int, Obstacle | None]] = {}

    # Chunks and logs.

    def show(self, given: Chunk | LogMessage) -> None:
        """Show a chunk or a log message. A chunk of an attempt that has ended is dropped."""
        standing = self._standing(given.step_id, given.attempt)
        if standing is _Standing.TO_COME:
            self._held.append(given)
        elif isinstance(given, LogMessage):
            self._show_log(given)
        elif standing is _Standing.IN_FLIGHT:
            after = self._watermark.committed
            self._subscribers.show_chunk(given.step_id, given.attempt, after, given.number, given.payload)

    def _show_log(self, message: LogMessage) -> None:
        self._log_time = max(self._log_time, message.time)
        number, step_id, attempt = message.number, message.step_id, message.attempt
        data = encode_log(self._run_id, self._log_time, number, step_id, attempt, message.entry)
        self._subscribers.show_log(self._watermark.committed, data)

    def _standing(self, step_id: str, attempt: int) -> _Standing:
        step = self._state.steps.get(step_id)
        if step is None or attempt > step.attempt:
            return _Standing.TO_COME
        in_flight = self._driver.in_flight.get(step_id) == attempt
        return _Standing.IN_FLIGHT if in_flight else _Standing.ENDED

    def committed(self) -> None:
        """Show what waited for the events that were committed now, and the steps that wait for a place."""
        held, self._held = self._held, deque(maxlen=MAX_HELD)
        for given in held:
            self.show(given)
        if self._state.queued:
            show_queued(self._state, self._subscribers, MAX_WAITING)
        if self._driver.queued:
            step_ids = list(self._driver.queued)[:MAX_WAITING]
            show_new(self._subscribers, step_ids, self._state.sequence, RUN_FULL, MAX_WAITING)

    # Progress and waits.

    def obstacle(self, step_id: str) -> Obstacle | None:
        """Return what a step waits for: another attempt's end, or a host; `None`: it waits for neither."""
        if step_id in self._driver.queued:
            return RUN_FULL
        found = self.pending_of(step_id)
        return None if found is None else self._obstacle(found)

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the actions that attempts wait for, and that no host has, each once."""
        found = (self.pending_of(step_id) for step_id in self.pending)
        waiting = (it.action for it in found if it is not None and it.start_time is None)
        return tuple(dict.fromkeys(action for action in waiting if action in self.unserved))

    def pending_of(self, step_id: str) -> PendingAttempt | None:
        """Return the attempt of a step that Temporal has; `None`: it has none, as far as this server knows."""
        found = self.pending.get(step_id)
        return None if found is None or self._driver.in_flight.get(step_id) != found.attempt else found

    def _obstacle(self, attempt: PendingAttempt) -> Obstacle | None:
        if attempt.start_time is not None:
            return None
        return action_missing(attempt.action) if attempt.action in self.unserved else hosts_busy(attempt.action)

    def show_pending(self) -> None:
        """Show the progress of attempts on their hosts, and what attempts wait for that no host has yet."""
        current = [found for step_id in self.pending if (found := self.pending_of(step_id)) is not None]
        self._progress = {it.step_id: self._progress[it.step_id] for it in current if it.step_id in self._progress}
        self._waits = {it.step_id: self._waits[it.step_id] for it in current if it.step_id in self._waits}
        for attempt in current:
            if attempt.start_time is None:
                self._show_wait(attempt)
            else:
                self._show_progress(attempt)

    def _show_wait(self, attempt: PendingAttempt) -> None:
        """Show what an attempt waits for, when that changed. Hosts are busy if they do not take it for a while."""
        obstacle = self._obstacle(attempt)
        seen = self._waits.get(attempt.step_id)
        is_new = seen is None or seen[0] != attempt.attempt
        if is_new and obstacle is not None and obstacle.cause is not WaitCause.ACTION_MISSING:
            self._waits[attempt.step_id] = attempt.attempt, None
            return
        if obstacle is None or seen == (attempt.attempt, obstacle):
            return
        self._waits[attempt.step_id] = attempt.attempt, obstacle
        subscribers = self._subscribers
        if subscribers.waiting_count < MAX_WAITING or subscribers.knows_waiting(attempt.step_id):
            subscribers.show_waiting(attempt.step_id, self._watermark.committed, obstacle)

    def _show_progress(self, attempt: PendingAttempt) -> None:
        """Show the progress of an attempt, when that changed. If it was shown as waiting, it waits no longer."""
        step_id, progress = attempt.step_id, attempt.progress
        if progress is None:
            if not self._subscribers.knows_waiting(step_id):
                return
            progress = Progress(None, "")
        self._show_new(step_id, attempt.attempt, progress)

    def show_last(self, step_id: str, attempt: int, progress: Progress) -> None:
        """Show the last progress of an attempt, which came with its outcome. Its end is not committed yet."""
        if self._standing(step_id, attempt) is _Standing.IN_FLIGHT:
            self._show_new(step_id, attempt, progress)

    def _show_new(self, step_id: str, attempt: int, progress: Progress) -> None:
        self._waits.pop(step_id, None)
        self._subscribers.forget_waiting(step_id)
        if self._progress.get(step_id) == (attempt, progress):
            return
        self._progress[step_id] = attempt, progress
        after = self._watermark.committed
        self._subscribers.show_progress(step_id, attempt, after, progress.fraction, progress.message)
