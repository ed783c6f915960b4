"""The timers of one run: its timeout, total timeouts and backoffs. `Deadlines` has the timeouts of attempts."""

import asyncio
from collections.abc import Callable

from stepwave_server.core.messages import Timer

__all__ = ["Timers"]


class Timers:
    """Calls back when a timer is due, unless it was cancelled.

    Args:
        loop: The event loop, whose clock measures the time.
        fired: Called on the loop with each timer that is due.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, fired: Callable[[Timer], None]) -> None:
        self._loop = loop
        self._fired = fired
        self._handles: dict[str, dict[Timer, asyncio.TimerHandle]] = {}

    def start(self, timer: Timer, seconds: float) -> None:
        """Start a timer that is due in `seconds`. One for an idle run replaces the one before, which has no effect."""
        handles = self._handles.setdefault(timer.step_id, {})
        if timer.kind == "idle":
            for earlier in [one for one in handles if one.kind == "idle"]:
                handles.pop(earlier).cancel()
        handles[timer] = self._loop.call_later(seconds, self._fire, timer)

    def cancel(self, step_id: str) -> None:
        """Cancel the timers of a step. A long run would otherwise collect many."""
        for handle in self._handles.pop(step_id, {}).values():
            handle.cancel()

    def close(self) -> None:
        """Cancel all timers."""
        for step_id in list(self._handles):
            self.cancel(step_id)

    def __bool__(self) -> bool:
        """Return whether any timer is running."""
        return bool(self._handles)

    def _fire(self, timer: Timer) -> None:
        handles = self._handles[timer.step_id]
        del handles[timer]
        if not handles:
            del self._handles[timer.step_id]
        self._fired(timer)
