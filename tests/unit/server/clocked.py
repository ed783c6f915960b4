"""An event loop whose time stands still until a test moves it: timers fire when they are due, and nobody waits."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

__all__ = ["ClockedLoop"]

T = TypeVar("T")


class ClockedLoop(asyncio.SelectorEventLoop):
    """A loop with a clock of its own, at zero to begin with."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        """Return the loop's time, in seconds."""
        return self._now

    def nanos(self) -> int:
        """Return the same as nanoseconds since the epoch."""
        return round(self._now * 1_000_000_000)

    def turn(self) -> None:
        """Let everything happen that can happen now."""
        for _ in range(30):
            self.run_until_complete(asyncio.sleep(0))

    def advance(self, seconds: float) -> None:
        """Move the clock, and let everything happen that is due."""
        self.turn()
        self._now += seconds
        self.turn()

    def block(self, seconds: float) -> None:
        """Move the clock from within, as something does that lets nothing else happen meanwhile."""
        self._now += seconds

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run something that needs no time."""
        return self.run_until_complete(work)
