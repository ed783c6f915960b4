"""Who holds a run: an attached run is cancelled when no stream holds it any more.

A server that stops in order is no loss of its callers: a run that it leaves to the next one is still held, and goes on
there. Its window begins with the next server, so that a caller who never returns is noticed. A window of zero would end
before anybody could return, so it does not begin: the run goes on until a stream has held it again and is lost.

A crash cuts streams off, and nobody knows who was still there. The window begins with the next server then, even one of
zero: such a run is cancelled.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import RunNotFound

__all__ = ["Attachment", "Attachments"]

DEADLINE_SLACK = 0.05
"""A caller's own clock may end the call this many seconds before the server's does."""


@dataclass(slots=True)
class _Held:
    window: float
    streams: int = 0
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Attachment:
    """One stream's hold; `ended`: it saw the run's last event."""

    ended: bool = False


class Attachments:
    """The runs that are held, and by how many streams.

    Args:
        cancel: Cancels a run that nobody holds any more, for a reason.
    """

    def __init__(self, cancel: Callable[[RunKey, str], None]) -> None:
        self._cancel = cancel
        self._held: dict[RunKey, _Held] = {}
        self._released = False

    def begin(self, key: RunKey, window: float) -> None:
        """Make a new run a held one, that outlives its last stream by `window` seconds."""
        self.detach(key)  # an earlier run of the same id may be waited for still
        self._held[key] = _Held(window)

    def wait(self, key: RunKey, window: float, *, crashed: bool) -> None:
        """Make a run that an earlier server left a held one, that no stream holds yet: its window begins now.

        Args:
            key: The run.
            window: Its window in seconds; zero begins only after a crash.
            crashed: The earlier server did not stop in order.
        """
        self.begin(key, window)
        if window > 0 or crashed:
            self._start_window(key, self._held[key])

    def detach(self, key: RunKey) -> None:
        """Let a run go on whoever leaves."""
        held = self._held.pop(key, None)
        if held is not None and held.timer is not None:
            held.timer.cancel()

    def release_all(self) -> None:
        """Let every run go on: a server that stops is not a loss of its callers."""
        self._released = True
        for key in list(self._held):
            self.detach(key)

    @contextmanager
    def hold(self, key: RunKey, time_remaining: Callable[[], float | None]) -> Iterator[Attachment]:
        """Attachment a run while inside; a run that is not held stays so.

        Args:
            key: The run.
            time_remaining: Seconds until the caller's deadline; `None`: it has none.
        """
        hold = Attachment()
        held = self._held.get(key)
        if held is None:
            yield hold
            return
        held.streams += 1
        if held.timer is not None:
            held.timer.cancel()
        try:
            yield hold
        finally:
            held.streams -= 1
            if self._held.get(key) is held and not held.streams:
                self._let_go(key, held, hold, time_remaining())

    def _let_go(self, key: RunKey, held: _Held, hold: Attachment, remaining: float | None) -> None:
        if hold.ended:
            self.detach(key)
        elif remaining is not None and remaining < DEADLINE_SLACK:
            self._end(key, "the caller's deadline passed")
        elif held.window <= 0:
            self._end(key, "the caller went away")
        else:
            self._start_window(key, held)

    def _start_window(self, key: RunKey, held: _Held) -> None:
        loop = asyncio.get_running_loop()
        held.timer = loop.call_later(held.window, self._end, key, "the caller did not come back")

    def _end(self, key: RunKey, reason: str) -> None:
        if self._held.pop(key, None) is not None and not self._released:
            with suppress(RunNotFound):  # ended and forgotten meanwhile
                self._cancel(key, reason)
