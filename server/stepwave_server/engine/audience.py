"""Who watches a run, and what they are shown beside its numbered events."""

from stepwave_server.engine.errors import EngineError
from stepwave_server.engine.live import Live, Transient
from stepwave_server.engine.watch import Watcher

__all__ = ["Audience"]


class Audience:
    """The watchers of one run, and what its steps said so far."""

    def __init__(self) -> None:
        self._watchers: set[Watcher] = set()
        self._live = Live()
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

    def show(self, step_id: str, transient: Transient) -> None:
        """Show everybody what a step says, and remember it for those who join."""
        self._live.add(step_id, transient)
        for watcher in self._watchers:
            watcher.show(transient)

    def forget(self, step_id: str) -> None:
        """Forget what a step said: it has ended, or waits no more."""
        self._live.forget(step_id)

    def break_off(self, error: EngineError) -> None:
        """End every stream, and those of whoever joins later, with an error."""
        self._error = error
        for watcher in self._watchers:
            watcher.close(error)
