"""A monitor that logs what blocks the event loop: the action, and its line of code."""

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
"""The code object that is on the stack while an action runs."""

LOOP = "asyncio.events"
"""The module of the event loop, which calls tasks and callbacks."""

SERVER_MODULES = ("stepwave_server.", "stepwave.")


class LagMonitor:
    """Logs a warning each time the loop is blocked for longer than `threshold` seconds.

    A timer of the loop stores the time several times per threshold. A thread checks that time.

    Args:
        loop: The loop to monitor.
        threshold: Seconds for which the loop may be blocked without a warning.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, threshold: float) -> None:
        self._loop = loop
        self._threshold = threshold
        self._last_tick = time.monotonic()
        self._loop_thread = threading.get_ident()
        self._stop = threading.Event()
        self._handle: asyncio.TimerHandle | None = None
        self._thread = threading.Thread(target=self._watch, name="stepwave-lag", daemon=True)

    def start(self) -> None:
        """Start monitoring. Called on the loop."""
        self._tick()
        self._thread.start()

    def stop(self) -> None:
        """Stop monitoring."""
        self._stop.set()
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        self._last_tick = time.monotonic()
        self._handle = self._loop.call_later(self._threshold / 4, self._tick)

    def _watch(self) -> None:
        warned = 0.0
        while not self._stop.wait(self._threshold / 2):
            tick = self._last_tick
            if time.monotonic() - tick > self._threshold and tick != warned:
                warned = tick
                self._warn()

    def _warn(self) -> None:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way to see another thread's stack
        place, of_action = _place([frame for frame, _ in traceback.walk_stack(frame)])
        blocker = task.get_name() if task is not None and of_action else "the server itself"
        advice = ": a plain function would run on a thread instead" if of_action else ""
        logger.warning(
            "%s blocks the event loop for more than %.0f ms, at %s%s",
            blocker,
            self._threshold * 1000,
            place,
            advice,
            extra={"blocked": blocker, "place": place},
        )


def _place(frames: Sequence[FrameType]) -> tuple[str, bool]:
    """Return the line that blocks the loop, and whether an action is responsible.

    An action is responsible for all that runs within its attempt, such as encoding its output. It is also responsible
    for a task without code of the server. The line is the outermost one of the action's own code, else of a
    library.

    Args:
        frames: The stack, innermost frame first.
    """
    own = library = server = None
    for frame in frames:
        module = str(frame.f_globals.get("__name__", ""))
        if frame.f_code is ATTEMPT:
            return _line(own or library or frames[0]), True
        if module == LOOP:
            break
        if module.startswith(SERVER_MODULES):
            server = server or frame
        elif is_library(frame.f_code.co_filename):
            library = frame
        else:
            own = frame
    blocking = server or own or library
    return (_line(blocking), server is None) if blocking is not None else ("an unknown place", False)


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
