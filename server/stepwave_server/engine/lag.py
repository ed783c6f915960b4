"""Watches the event loop from a thread: an async action that blocks it is named, with the line where it stands."""

import asyncio
import logging
import sys
import threading
import time
import traceback

__all__ = ["LagMonitor"]

logger = logging.getLogger(__name__)


class LagMonitor:
    """Warns once for every time the loop is blocked for longer than `threshold` seconds.

    The loop beats several times per threshold; a thread looks whether it did. It does no more than read a number, so
    that it costs nothing measurable.

    Args:
        loop: The loop to watch.
        threshold: How long it may be blocked unnoticed, in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threshold: float) -> None:
        self._loop = loop
        self._threshold = threshold
        self._beat = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._handle: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="stepwave-lag", daemon=True)

    def start(self) -> None:
        """Begin to watch; called on the loop."""
        self._tick()
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self._beat = time.monotonic()
        self._handle = self._loop.call_later(self._threshold / 4, self._tick)

    def _watch(self) -> None:
        warned = 0.0
        while not self._stop.wait(self._threshold / 2):
            beat = self._beat
            if time.monotonic() - beat > self._threshold and beat != warned:
                warned = beat
                self._warn()

    def _warn(self) -> None:
        task = asyncio.current_task(self._loop)
        name = task.get_name() if task is not None else "the server itself"
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to see another thread's stack
        stack = traceback.extract_stack(frame, limit=None)[-1:] if frame is not None else []
        where = f"{stack[0].filename}:{stack[0].lineno}" if stack else "an unknown place"
        logger.warning(
            "%s blocks the event loop for more than %.0f ms, at %s: a plain function would run on a thread instead",
            name,
            self._threshold * 1000,
            where,
            extra={"blocked": name, "place": where},
        )
