"""Attachments: the streams that keep a run attached. An attached run is cancelled when its last stream has left.

After the last stream has left, the reconnect window begins. A stream that attaches within it keeps the run. It makes no
difference how a stream has left: its connection was lost, its caller cancelled it, or its deadline passed.

An orderly stop of the server does not detach runs. The next server takes them over, still attached, and begins their
windows, so that a run whose caller never returns is cancelled. A window of zero does not begin then, because no caller
could return in time: the run goes on until a stream has attached and left again.

After a crash the callers are unknown. Every window begins with the next server, even one of zero, which cancels the
run.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import EngineError

__all__ = ["Attachment", "Attachments"]


@dataclass(slots=True)
class _AttachedRun:
    window: float
    stream_count: int = 0
    timer: asyncio.TimerHandle | None = None


@dataclass(slots=True)
class Attachment:
    """The attachment of one stream to a run.

    Attributes:
        ended: Whether the stream has sent the run's last event.
    """

    ended: bool = False


class Attachments:
    """The attached runs, with the number of streams attached to each.

    Args:
        cancel: Cancels a run for a reason. Called when the last stream has left and the window has passed.
    """

    def __init__(self, cancel: Callable[[RunKey, str], Coroutine[Any, Any, None]]) -> None:
        self._cancel = cancel
        self._runs: dict[RunKey, _AttachedRun] = {}
        self._closed = False
        self._cancels: set[asyncio.Task[None]] = set()

    def add(self, key: RunKey, window: float) -> None:
        """Add a new attached run. It outlives its last stream by `window` seconds."""
        self.detach(key)  # the window of an earlier run of the same id may be open
        self._runs[key] = _AttachedRun(window)

    def recover(self, key: RunKey, window: float, *, crashed: bool) -> None:
        """Add an attached run of an earlier server. It has no stream yet, so its window begins now.

        Args:
            key: The run.
            window: Its reconnect window in seconds. A window of zero begins only after a crash.
            crashed: Whether the earlier server crashed.
        """
        self.add(key, window)
        if window > 0 or crashed:
            self._start_window(key, self._runs[key])

    def detach(self, key: RunKey) -> None:
        """Detach a run: it goes on when its streams leave."""
        run = self._runs.pop(key, None)
        if run is not None and run.timer is not None:
            run.timer.cancel()

    def close(self) -> None:
        """Cancel no run any more: the server is stopping."""
        self._closed = True
        for key in list(self._runs):
            self.detach(key)

    @contextmanager
    def attach(self, key: RunKey) -> Iterator[Attachment]:
        """Attach a stream to a run while inside. A detached run stays detached."""
        attachment = Attachment()
        run = self._runs.get(key)
        if run is None:
            yield attachment
            return
        run.stream_count += 1
        if run.timer is not None:
            run.timer.cancel()
        try:
            yield attachment
        finally:
            run.stream_count -= 1
            if self._runs.get(key) is run and not run.stream_count:
                self._last_stream_left(key, run, attachment)

    def _last_stream_left(self, key: RunKey, run: _AttachedRun, attachment: Attachment) -> None:
        if attachment.ended:
            self.detach(key)
        elif run.window <= 0:
            self._cancel_run(key, "the caller went away")
        else:
            self._start_window(key, run)

    def _start_window(self, key: RunKey, run: _AttachedRun) -> None:
        loop = asyncio.get_running_loop()
        run.timer = loop.call_later(run.window, self._cancel_run, key, "the caller did not come back")

    def _cancel_run(self, key: RunKey, reason: str) -> None:
        if self._runs.pop(key, None) is not None and not self._closed:
            cancel = asyncio.get_running_loop().create_task(self._cancel_quietly(key, reason))
            self._cancels.add(cancel)
            cancel.add_done_callback(self._cancels.discard)

    async def _cancel_quietly(self, key: RunKey, reason: str) -> None:
        with suppress(EngineError):  # it has ended and was forgotten, or the server closes or cannot commit
            await self._cancel(key, reason)
