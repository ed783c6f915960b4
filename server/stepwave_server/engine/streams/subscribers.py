"""The subscribers of a run: its watchers, and the transient events that they are shown."""

from collections.abc import Callable

from stepwave_server.core.model import Payload
from stepwave_server.engine.admission.base import Obstacle
from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.streams.transients import Transient, TransientEvents
from stepwave_server.engine.streams.watcher import Watcher
from stepwave_server.wire.events.encode import Kind, encode_chunk, encode_progress, encode_waiting

__all__ = ["Subscribers"]


class Subscribers:
    """The watchers of one run, and its transient events so far.

    A transient event is sent after a numbered event: the newest one when it is created.

    Args:
        run_id: The id of the run.
        clock: Returns the time in nanoseconds since the epoch.
    """

    def __init__(self, run_id: str, clock: Callable[[], int]) -> None:
        self._run_id = run_id
        self._clock = clock
        self._watchers: set[Watcher] = set()
        self._transients = TransientEvents()
        self._waiting: set[str] = set()
        self._error: EngineError | None = None

    def join(self, watcher: Watcher) -> None:
        """Add a watcher. It is woken when there are more events."""
        self._watchers.add(watcher)
        if self._error is not None:
            watcher.close(self._error)

    def leave(self, watcher: Watcher) -> None:
        """Remove a watcher."""
        self._watchers.discard(watcher)

    def transients(self) -> list[Transient]:
        """Return the transient events so far, for a watcher that joins."""
        return self._transients.all()

    def wake(self) -> None:
        """Wake the watchers: there are more numbered events."""
        for watcher in self._watchers:
            watcher.wake()

    # Steps that wait.

    @property
    def waiting_count(self) -> int:
        """Number of steps that were shown as waiting."""
        return len(self._waiting)

    def knows_waiting(self, step_id: str) -> bool:
        """Return whether a step was shown as waiting."""
        return step_id in self._waiting

    def show_waiting(self, step_id: str, after: int, obstacle: Obstacle) -> None:
        """Show what a step waits for."""
        self._waiting.add(step_id)
        cause, message, limit = obstacle
        data = encode_waiting(self._run_id, self._clock(), step_id, cause, message, limit)
        self._show(step_id, Transient(after, Kind.STEP_WAITING, data))

    def forget_waiting(self, step_id: str) -> None:
        """Forget that a step was shown as waiting."""
        if step_id in self._waiting:
            self.forget(step_id)

    # What attempts show.

    def show_chunk(self, step_id: str, attempt: int, after: int, index: int, chunk: Payload) -> None:
        """Show a chunk of an attempt."""
        data = encode_chunk(self._run_id, self._clock(), step_id, attempt, index, chunk)
        self._show(step_id, Transient(after, Kind.STEP_CHUNK, data))

    def show_progress(self, step_id: str, attempt: int, after: int, fraction: float | None, message: str) -> None:
        """Show the progress of an attempt."""
        data = encode_progress(self._run_id, self._clock(), step_id, attempt, fraction, message)
        self._show(step_id, Transient(after, Kind.STEP_PROGRESS, data))

    def show_log(self, after: int, data: bytes) -> None:
        """Show what an attempt logged. A watcher that joins later is not shown it: the log of the run has it."""
        transient = Transient(after, Kind.STEP_LOG, data)
        for watcher in self._watchers:
            watcher.show(transient)

    def _show(self, step_id: str, transient: Transient) -> None:
        """Show a transient event, and keep it for watchers that join."""
        self._transients.add(step_id, transient)
        for watcher in self._watchers:
            watcher.show(transient)

    def forget(self, step_id: str) -> None:
        """Forget the transient events of a step that has ended, or waits no longer."""
        self._waiting.discard(step_id)
        self._transients.forget(step_id)

    def forget_all(self) -> None:
        """Forget all transient events, including those that wait to be sent."""
        self._waiting.clear()
        self._transients = TransientEvents()
        for watcher in self._watchers:
            watcher.forget_transients()

    def fail(self, error: EngineError) -> None:
        """End all streams with an error, including those of watchers that join later."""
        self._error = error
        for watcher in self._watchers:
            watcher.close(error)
