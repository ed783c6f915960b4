"""Who watches a run, and what they are shown beside its numbered events."""

from collections.abc import Callable

from stepwave_server.core.model import Payload
from stepwave_server.engine.admission.base import Obstacle
from stepwave_server.engine.attempts.attempt import Attempt
from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.streams.transients import Transient, TransientEvents
from stepwave_server.engine.streams.watcher import Watcher
from stepwave_server.wire.events.encode import (
    Kind,
    encode_action_missing,
    encode_chunk,
    encode_progress,
    encode_waiting,
)

__all__ = ["Subscribers"]


class Subscribers:
    """The watchers of one run, and what its steps said so far.

    What is shown comes after a numbered event, the newest when it is said.

    Args:
        run_id: The run.
        clock: Nanoseconds since the epoch.
    """

    def __init__(self, run_id: str, clock: Callable[[], int]) -> None:
        self._run_id = run_id
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._live = TransientEvents()
        self._error: EngineError | None = None

    def join(self, watcher: Watcher) -> None:
        """Wake a watcher whenever there is more."""
        self._watchers.add(watcher)
        if self._error is not None:
            watcher.close(self._error)

    def leave(self, watcher: Watcher) -> None:
        """Forget a watcher."""
        self._watchers.discard(watcher)

    def so_far(self) -> list[Transient]:
        """Return what steps said, for a watcher who joins."""
        return self._live.so_far()

    def waiting(self, step_id: str) -> Transient | None:
        """Return what a step was last said to wait for, if it does so still."""
        return self._live.waiting(step_id)

    def wake(self) -> None:
        """Tell everybody that there are more numbered events."""
        for watcher in self._watchers:
            watcher.wake()

    def show_chunk(self, attempt: Attempt, after: int, chunk: Payload) -> None:
        """Show everybody a chunk."""
        data = encode_chunk(self._run_id, self._clock(), attempt.step_id, attempt.number, attempt.chunks, chunk)
        attempt.chunks += 1
        attempt.said = True
        self._show(attempt.step_id, Transient(after, Kind.STEP_CHUNK, data))

    def show_progress(self, attempt: Attempt, after: int, fraction: float | None, message: str) -> None:
        """Show everybody how far an attempt got."""
        data = encode_progress(self._run_id, self._clock(), attempt.step_id, attempt.number, fraction, message)
        attempt.said = True
        self._show(attempt.step_id, Transient(after, Kind.STEP_PROGRESS, data))

    def show_waiting(self, step_id: str, after: int, obstacle: Obstacle) -> None:
        """Show everybody what a step waits for at admission."""
        data = encode_waiting(self._run_id, self._clock(), step_id, obstacle.cause, obstacle.message)
        self._show(step_id, Transient(after, Kind.STEP_WAITING, data))

    def show_missing(self, step_id: str, after: int, action: str) -> None:
        """Show everybody that a step waits for a server with its action."""
        data = encode_action_missing(self._run_id, self._clock(), step_id, action)
        self._show(step_id, Transient(after, Kind.STEP_WAITING, data))

    def _show(self, step_id: str, transient: Transient) -> None:
        """Show everybody what a step says, and remember it for those who join."""
        self._live.add(step_id, transient)
        for watcher in self._watchers:
            watcher.show(transient)

    def forget(self, step_id: str) -> None:
        """Forget what a step said: it has ended, or waits no more."""
        self._live.forget(step_id)

    def forget_all(self) -> None:
        """Forget what all steps said, even what is still to be shown: their attempts say nothing more."""
        self._live = TransientEvents()
        for watcher in self._watchers:
            watcher.forget_transients()

    def break_off(self, error: EngineError) -> None:
        """End every stream, and those of whoever joins later, with an error."""
        self._error = error
        for watcher in self._watchers:
            watcher.close(error)
