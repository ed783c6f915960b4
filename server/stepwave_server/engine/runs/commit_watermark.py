"""Calls that wait until what they tell is committed."""

import asyncio

from stepwave_server.engine.errors import EngineError, RunReplaced

__all__ = ["CommitWatermark"]


class CommitWatermark:
    """How far a run is committed, and who waits for more.

    Attributes:
        committed: The number of the newest event that is committed.
    """

    def __init__(self, committed: int) -> None:
        self.committed = committed
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def reach(self, sequence: int) -> None:
        """Wait until the event of this number is committed.

        Raises:
            EngineError: Nothing will be committed, or not now.
            RunReplaced: The run met a defect: ask again how it stands.
        """
        if self.committed < sequence:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((sequence, waiter))
            await waiter

    def advance(self, count: int) -> None:
        """Take that so many more events are committed."""
        self.committed += count
        if not self._waiting:
            return
        ready = [waiter for target, waiter in self._waiting if target <= self.committed]
        self._waiting = [entry for entry in self._waiting if entry[0] > self.committed]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)

    def refuse(self, error: EngineError | RunReplaced) -> None:
        """Tell everyone who waits that it is in vain."""
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error)
