"""The commit watermark of a run. Queries wait for it, so that they return only what is committed."""

import asyncio

from stepwave_server.engine.errors import EngineError, RunReplaced

__all__ = ["CommitWatermark"]


class CommitWatermark:
    """The number of a run's newest committed event, and the calls that wait for a later one.

    Attributes:
        committed: The sequence number of the newest committed event.
    """

    def __init__(self, committed: int) -> None:
        self.committed = committed
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    async def reach(self, sequence: int) -> None:
        """Wait until the event with this sequence number is committed.

        Raises:
            EngineError: It cannot be committed, or not now.
            RunReplaced: The run is broken, and was replaced or has ended. The query must be repeated.
        """
        if self.committed < sequence:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append((sequence, waiter))
            await waiter

    def advance(self, count: int) -> None:
        """Raise the watermark by a number of events, and end the waits that it reaches."""
        self.committed += count
        if not self._waiting:
            return
        ready = [waiter for target, waiter in self._waiting if target <= self.committed]
        self._waiting = [entry for entry in self._waiting if entry[0] > self.committed]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)

    def refuse(self, error: EngineError | RunReplaced) -> None:
        """End all waits with an error."""
        waiting, self._waiting = self._waiting, []
        for _, waiter in waiting:
            if not waiter.done():
                waiter.set_exception(error)
