"""Attempts' timeouts: one timer of the loop for each length, however many attempts wait for it."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T", bound=Hashable)

MOST_EMPTY = 64
"""Lanes that are kept although nothing waits in them, as a chain would else make one for each step."""


class Deadlines(Generic[T]):
    """Calls back when something has taken longer than it may.

    Things of one timeout are due in the order in which they began, so a dictionary keeps them sorted: to begin and to
    end costs two of its operations, where a timer of the loop's own is made, pushed on a heap, and most often thrown
    away.

    Args:
        loop: The loop whose clock counts.
        expired: Called on the loop with what is due; it is forgotten then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[T], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._lanes: dict[float, dict[T, float]] = {}
        self._handles: dict[float, asyncio.TimerHandle] = {}

    def begin(self, thing: T, seconds: float) -> None:
        """Call back with the thing in so many seconds, unless it ends before."""
        lane = self._lanes.setdefault(seconds, {})
        lane[thing] = self._loop.time() + seconds
        if seconds not in self._handles:
            self._handles[seconds] = self._loop.call_later(seconds, self._sweep, seconds)

    def end(self, thing: T, seconds: float) -> None:
        """Forget a thing that began with this timeout."""
        lane = self._lanes.get(seconds)
        if lane is None:
            return
        lane.pop(thing, None)
        if not lane and len(self._lanes) > MOST_EMPTY:
            self._give_up(seconds)

    def close(self) -> None:
        """Forget everything."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
        self._lanes.clear()

    def _sweep(self, seconds: float) -> None:
        """Call back with all that is due, and look again when the next is; give up a lane in which nothing waits."""
        lane = self._lanes[seconds]
        now = self._loop.time()
        while lane:
            thing, due = next(iter(lane.items()))
            if due > now:
                self._handles[seconds] = self._loop.call_at(due, self._sweep, seconds)
                return
            del lane[thing]
            self._expired(thing)
        self._give_up(seconds)

    def _give_up(self, seconds: float) -> None:
        del self._lanes[seconds]
        self._handles.pop(seconds).cancel()
