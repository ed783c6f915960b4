"""Reports of a run's attempts to its watchers: what they wait for, their chunks, their progress and their logs."""

from stepwave_server.core.model import Payload
from stepwave_server.core.state import RunState
from stepwave_server.engine.admission.controller import AdmissionController
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.runs.commit_watermark import CommitWatermark
from stepwave_server.engine.runs.waits import MAX_WAITING, show_queued
from stepwave_server.engine.streams.subscribers import Subscribers

__all__ = ["WatcherReports"]

MAX_WAITING_LIMITED = 1_000
"""Maximum number of steps that are shown as waiting on a server with limits."""


class WatcherReports:
    """Shows watchers the transient events of a run's attempts.

    Args:
        subscribers: The run's subscribers.
        admission: The admission that attempts wait for.
        state: The run's state.
        watermark: The run's commit watermark.
    """

    def __init__(
        self,
        subscribers: Subscribers,
        admission: AdmissionController[Attempt],
        state: RunState,
        watermark: CommitWatermark,
    ) -> None:
        self._subscribers = subscribers
        self._admission = admission
        self._state = state
        self._watermark = watermark
        self._max_waiting = MAX_WAITING_LIMITED if admission.limited else MAX_WAITING
        self._closed = False

    def waiting(self, attempt: Attempt) -> None:
        """Show what an attempt waits for, unless very many steps are shown as waiting."""
        subscribers = self._subscribers
        if subscribers.waiting_count < self._max_waiting or subscribers.knows_waiting(attempt.step_id):
            self._show_waiting(attempt)

    def waiting_for_run(self) -> None:
        """Show the first steps that wait for a place of the run itself, and were not shown yet."""
        show_queued(self._state, self._subscribers, self._max_waiting)

    def still_waiting(self, attempt: Attempt) -> None:
        """Show again what an attempt waits for, if it was shown before."""
        if self._subscribers.knows_waiting(attempt.step_id):
            self._show_waiting(attempt)

    def _show_waiting(self, attempt: Attempt) -> None:
        obstacle = self._admission.obstacle(attempt)
        if obstacle is not None:
            self._subscribers.show_waiting(attempt.step_id, self._state.sequence, obstacle)

    def chunk(self, attempt: Attempt, index: int, chunk: Payload) -> None:
        """Show a chunk."""
        if not self._closed:
            after = self._watermark.committed
            self._subscribers.show_chunk(attempt.step_id, attempt.number, after, index, chunk)

    def progress(self, attempt: Attempt, fraction: float | None, message: str) -> None:
        """Show the progress of an attempt."""
        if not self._closed:
            after = self._watermark.committed
            self._subscribers.show_progress(attempt.step_id, attempt.number, after, fraction, message)

    def log(self, data: bytes) -> None:
        """Show what an attempt logged, an encoded `step_log` event."""
        if not self._closed:
            self._subscribers.show_log(self._watermark.committed, data)

    def close(self) -> None:
        """Show no more chunks, progress and logs: the run is broken."""
        self._closed = True
