"""The timers of one run: its timeout, its steps' total ones, pauses; all but those of attempts, which are many."""

import asyncio
from collections.abc import Callable

from stepwave_server.core.messages import Timer

__all__ = ["Timers"]


class Timers:
    """Calls back when a timer's time has come, unless what it watches has ended.

    Args:
        loop: The loop whose clock counts.
        fired: Called on the loop with the timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fired: Callable[[Timer], None]) -> None:
        self._loop = loop
        self._fired = fired
        self._handles: dict[str, dict[Timer, asyncio.TimerHandle]] = {}

    def start(self, timer: Timer, seconds: float) -> None:
        """Call back in so many seconds."""
        handle = self._loop.call_later(seconds, self._fire, timer)
        self._handles.setdefault(timer.step_id, {})[timer] = handle

    def forget(self, step_id: str) -> None:
        """Stop the timers of a step: they may be long, and many in a run that is."""
        for handle in self._handles.pop(step_id, {}).values():
            handle.cancel()

    def close(self) -> None:
        """Stop all timers."""
        for step_id in list(self._handles):
            self.forget(step_id)

    def __bool__(self) -> bool:
        return bool(self._handles)

    def _fire(self, timer: Timer) -> None:
        handles = self._handles[timer.step_id]
        del handles[timer]
        if not handles:
            del self._handles[timer.step_id]
        self._fired(timer)
