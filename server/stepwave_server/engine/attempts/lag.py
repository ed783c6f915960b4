"""Watches the event loop from a thread: an async action that blocks it is named, with its line."""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from types import FrameType

from stepwave_server.actions import Action
from stepwave_server.actions.failures import is_library

__all__ = ["LagMonitor"]

logger = logging.getLogger(__name__)

ATTEMPT = Action.run.__code__
"""What is on the stack while an attempt runs."""

LOOP = "asyncio.events"
"""The module that calls tasks and callbacks."""

OURS = ("stepwave_server.", "stepwave.")


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
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to see another thread's stack
        place, of_action = _place([frame for frame, _ in traceback.walk_stack(frame)])
        who = task.get_name() if task is not None and of_action else "the server itself"
        advice = ": a plain function would run on a thread instead" if of_action else ""
        logger.warning(
            "%s blocks the event loop for more than %.0f ms, at %s%s",
            who,
            self._threshold * 1000,
            place,
            advice,
            extra={"blocked": who, "place": place},
        )


def _place(frames: Sequence[FrameType]) -> tuple[str, bool]:
    """Return the line to blame, and whether an action is; frames come innermost first.

    All that runs within an attempt is the action's, also what the server does there, such as writing what it answered;
    so is a task in which nothing is the server's. The line is that of the action's author, wherever its calls lead, or
    else a library's.
    """
    own = library = servers = None
    for frame in frames:
        module = str(frame.f_globals.get("__name__", ""))
        if frame.f_code is ATTEMPT:
            return _line(own or library or frames[0]), True
        if module == LOOP:
            break
        if module.startswith(OURS):
            servers = servers or frame
        elif is_library(frame.f_code.co_filename):
            library = frame
        else:
            own = frame
    blamed = servers or own or library
    return (_line(blamed), servers is None) if blamed is not None else ("an unknown place", False)


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
