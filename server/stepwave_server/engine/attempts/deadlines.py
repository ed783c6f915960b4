"""Timeouts of attempts, with one event-loop timer for each length of timeout."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["Deadlines"]

T = TypeVar("T", bound=Hashable)

MAX_LANES = 64
"""Lanes up to which an empty lane is kept: a chain would otherwise create and remove one for each step."""


class Deadlines(Generic[T]):
    """Calls back for items whose timeout has passed.

    Items with the same timeout form a lane. They expire in the order in which they began, so a dictionary keeps a lane
    sorted. Beginning and ending an item are dictionary operations. A timer of the loop for each item would cost more:
    most are cancelled before they fire.

    Args:
        loop: The event loop, whose clock measures the timeouts.
        expired: Called on the loop with each item that expires. The item is removed first.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[T], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._lanes: dict[float, dict[T, float]] = {}
        self._handles: dict[float, asyncio.TimerHandle] = {}

    def begin(self, item: T, seconds: float) -> None:
        """Add an item that expires in `seconds`, unless it ends before."""
        lane = self._lanes.setdefault(seconds, {})
        lane[item] = self._loop.time() + seconds
        if seconds not in self._handles:
            self._handles[seconds] = self._loop.call_later(seconds, self._expire_due, seconds)

    def end(self, item: T, seconds: float) -> None:
        """Remove an item that began with this timeout, if it has not expired."""
        lane = self._lanes.get(seconds)
        if lane is None:
            return
        lane.pop(item, None)
        if not lane and len(self._lanes) > MAX_LANES:
            self._remove_lane(seconds)

    def close(self) -> None:
        """Remove all items and cancel all timers."""
        for handle in self._handles.values():
            handle.cancel()
        self._handles.clear()
        self._lanes.clear()

    def _expire_due(self, seconds: float) -> None:
        """Expire the due items of a lane, and set its timer for the next one. An empty lane is removed."""
        lane = self._lanes[seconds]
        now = self._loop.time()
        while lane:
            item, due = next(iter(lane.items()))
            if due > now:
                self._handles[seconds] = self._loop.call_at(due, self._expire_due, seconds)
                return
            del lane[item]
            self._expired(item)
        self._remove_lane(seconds)

    def _remove_lane(self, seconds: float) -> None:
        del self._lanes[seconds]
        self._handles.pop(seconds).cancel()
