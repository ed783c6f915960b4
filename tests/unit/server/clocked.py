"""An event loop with a clock that only the test moves."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

__all__ = ["ClockedLoop"]

T = TypeVar("T")


class ClockedLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at zero and fires timers as the test moves it."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__()

    def time(self) -> float:
        """Return the loop's time, in seconds."""
        return self._now

    def nanos(self) -> int:
        """Return the loop's time, in nanoseconds."""
        return round(self._now * 1_000_000_000)

    def turn(self) -> None:
        """Run all callbacks that are ready."""
        for _ in range(30):
            self.run_until_complete(asyncio.sleep(0))

    def advance(self, seconds: float) -> None:
        """Move the clock, and run all callbacks that are due."""
        self.turn()
        self._now += seconds
        self.turn()

    def block(self, seconds: float) -> None:
        """Move the clock from within a callback, as a blocking call does."""
        self._now += seconds

    def run(self, work: Coroutine[object, object, T]) -> T:
        """Run a coroutine that waits for no timer."""
        return self.run_until_complete(work)
