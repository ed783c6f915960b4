"""A journal whose commits complete when the test lets them: what overtakes one shows."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from integration.server.caller import GUARD
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.core.info import RunKey
from stepwave_server.journal import Ended, MemoryJournal
from stepwave_server.wire.events.encode import Record, decode

__all__ = ["SlowJournal"]


class SlowJournal(MemoryJournal):
    """Keeps events as the one in memory does, but commits them late, in the order in which they came.

    Attributes:
        committed: The events that are committed, of all runs.
    """

    def __init__(self) -> None:
        super().__init__(time.time_ns)
        self.committed: list[RunEvent] = []
        self._waiting: deque[tuple[RunKey, Sequence[Record], Callable[[], None], Ended | None]] = deque()
        self._came = asyncio.Event()
        self._prompt = False

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Take events to commit."""
        self._waiting.append((key, records, committed, ended))
        self._came.set()
        if self._prompt:
            asyncio.get_running_loop().call_soon(self.commit_next)

    async def asked(self) -> list[RunEvent]:
        """Wait until there is something to commit, and return it."""
        async with asyncio.timeout(GUARD):
            await self._came.wait()
        return self.waiting()

    def waiting(self) -> list[RunEvent]:
        """Return what is to be committed."""
        return [decode(record) for _, records, _, _ in self._waiting for record in records]

    def commit(self) -> None:
        """Commit all that waits."""
        self._came.clear()
        for _ in range(len(self._waiting)):
            self.commit_next()

    def commit_next(self) -> None:
        """Commit what has waited longest."""
        if self._waiting:
            key, records, committed, ended = self._waiting.popleft()
            self.committed += map(decode, records)
            super().append(key, records, committed, ended)

    def let_go(self) -> None:
        """Commit what waits, and from now on a turn of the loop after it comes."""
        self._prompt = True
        self.commit()
