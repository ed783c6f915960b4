"""A monitor that logs what blocks the event loop: the action, and its line of code."""

import asyncio
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain, repeat, starmap
from operator import itemgetter
from types import FrameType
from typing import Any

from stepwave_server.actions import Action
from stepwave_server.actions.failures import is_library

__all__ = ["LagDetector", "LagMonitor", "Place", "Tick", "place_of", "stack_of"]

logger = logging.getLogger(__name__)

ATTEMPT = Action.run.__code__
"""The code object that is on the stack while an action runs."""

LOOP = "asyncio.events"
"""The module of the event loop, which calls tasks and callbacks."""

SERVER_MODULES = ("stepwave_server.", "stepwave.")

CALLBACK = "a callback"

BUSY_SHARE = 0.8
"""Part of the threshold for which code must have used the CPU to be reported."""

SAMPLES_PER_THRESHOLD = 4


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment at which the loop was not blocked.

    Attributes:
        time: Seconds of the monotonic clock.
        cpu: Seconds for which the loop's thread had used the CPU.
    """

    time: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Place:
    """The code that the loop's thread executes.

    Attributes:
        line: The file and line.
        action: The task of the action that is responsible, or `CALLBACK`; empty: no action is.
    """

    line: str
    action: str = ""


class LagDetector:
    """Decides what blocks the loop, from regular samples of its thread.

    The time since the last tick is not enough: on a starved or suspended machine, it passes although nothing blocks the
    loop. So there are two kinds of blocking, and anything else is none:

    - Code computes: the thread has used the CPU for most of the threshold.
    - An action waits: at every sample, for longer than the threshold, the thread was within the action. Time by which
      the samples themselves were late does not count, because the thread that takes them did not run either.

    Args:
        threshold: Seconds for which the loop may be blocked.
        interval: Seconds between two samples, and between two ticks.
    """

    def __init__(self, threshold: float, interval: float) -> None:
        self._threshold = threshold
        self._interval = interval
        self._tick: Tick | None = None
        self._last_sample = 0.0
        self._in_action_since = 0.0
        self._action: Place | None = None
        self._found = False

    def sample(self, tick: Tick, now: float, cpu: float, place: Callable[[], Place]) -> Place | None:
        """Take a sample, and return what blocks the loop.

        It is returned once for each time that the loop is blocked; `None`: nothing, or nothing new.

        Args:
            tick: The last tick.
            now: Seconds of the monotonic clock.
            cpu: Seconds for which the loop's thread has used the CPU.
            place: Returns what the thread executes. Called only if a tick is overdue.
        """
        late = max(0.0, now - self._last_sample - self._interval) if self._tick is not None else 0.0
        self._last_sample = now
        if tick != self._tick:
            self._tick, self._action, self._found = tick, None, False
            self._in_action_since = tick.time
        self._in_action_since += late
        if self._found or now - tick.time <= self._interval:
            return None
        current = place()
        if current.action:
            self._action = current
        else:
            self._in_action_since = now
        computes = now - tick.time > self._threshold and cpu - tick.cpu > self._threshold * BUSY_SHARE
        self._found = computes or now - self._in_action_since > self._threshold
        return (self._action or current) if self._found else None


class LagMonitor:
    """Logs a warning each time code blocks the loop for longer than `threshold` seconds.

    A timer of the loop stores the time several times per threshold. A thread takes samples of that time, and of the
    loop's thread.

    Args:
        loop: The loop to monitor. The monitor is created on its thread.
        threshold: Seconds for which the loop may be blocked without a warning.
        measure: Called with how late each timer of the loop was, in seconds; `None`: nothing is measured.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threshold: float,
        measure: Callable[[float], None] | None = None,
    ) -> None:
        self._measure = measure
        self._loop = loop
        self._threshold = threshold
        self._interval = threshold / SAMPLES_PER_THRESHOLD
        self._loop_thread = threading.get_ident()
        self._cpu_clock = _cpu_clock_of_this_thread()
        self._last_tick = Tick(time.monotonic(), self._cpu_clock())
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
        last, self._last_tick = self._last_tick, Tick(time.monotonic(), self._cpu_clock())
        if self._measure is not None and self._handle is not None:
            self._measure(max(0.0, self._last_tick.time - last.time - self._interval))
        self._handle = self._loop.call_later(self._interval, self._tick)

    def _watch(self) -> None:
        detector = LagDetector(self._threshold, self._interval)
        with suppress(OSError):  # the loop's thread has ended, and its clock too
            while not self._stop.wait(self._interval):
                if found := detector.sample(self._last_tick, time.monotonic(), self._cpu_clock(), self._place):
                    self._warn(found)

    def _place(self) -> Place:
        task = asyncio.current_task(self._loop)
        return place_of(stack_of(self._loop_thread), task.get_name() if task is not None else "")

    def _warn(self, place: Place) -> None:
        blocker = place.action or "the server itself"
        advice = ": a plain function would run on a thread instead" if place.action not in {"", CALLBACK} else ""
        logger.warning(
            "%s blocks the event loop for more than %.0f ms, at %s%s",
            blocker,
            self._threshold * 1000,
            place.line,
            advice,
            extra={"blocked": blocker, "place": place.line},
        )


def _cpu_clock_of_this_thread() -> Callable[[], float]:
    """Return a clock of the CPU time of the calling thread, for all threads to read.

    Where the system has no such clock, it is that of the process.
    """
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


def stack_of(thread: int) -> Sequence[FrameType]:
    """Return the frames of a thread, the innermost first; none if it has ended.

    Functions in C alone take them, so that no other thread runs meanwhile. A walk in Python has crashed CPython 3.11,
    probably when the thread left a frame that the walk had reached (like python/cpython#111363).
    """
    frames: deque[Any] = deque()
    innermost = map(itemgetter(thread), starmap(sys._current_frames, [()]))  # noqa: SLF001 - as documented for this
    with suppress(AttributeError, KeyError):  # the outermost frame has `None` behind it; the thread has ended
        frames.extend(accumulate(chain(innermost, repeat("f_back")), getattr))
    return [frame for frame in frames if frame is not None]


def place_of(frames: Sequence[FrameType], task: str) -> Place:
    """Return the line that the loop's thread executes, and whether an action is responsible.

    An action is responsible for all that runs within its attempt, such as encoding its output. It is also responsible
    for tasks and callbacks without code of the server. The line is the outermost one of the action's own code, else of
    a library.

    Args:
        frames: The stack, innermost frame first.
        task: The name of the current task; empty: the loop waits, or runs a callback.
    """
    own = library = server = None
    is_called = False
    for frame in frames:
        module = str(frame.f_globals.get("__name__", ""))
        if frame.f_code is ATTEMPT:
            return Place(_line(own or library or frames[0]), task)
        if module == LOOP:
            is_called = True
            break
        if module.startswith(SERVER_MODULES):
            server = server or frame
        elif is_library(frame.f_code.co_filename):
            library = frame
        else:
            own = frame
    blocking = server or own or library
    if blocking is None:
        return Place("an unknown place")
    if server is None and not task and is_called and own is not None:
        return Place(_line(blocking), CALLBACK)
    return Place(_line(blocking), task if server is None else "")


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
