"""A journal that commits when the test says so. It makes visible what runs ahead of a commit."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence

from integration.server.raw_client import GUARD
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.core.info import RunKey
from stepwave_server.journal import Ended, MemoryJournal
from stepwave_server.wire.events.encode import Record, decode

__all__ = ["SlowJournal"]


class SlowJournal(MemoryJournal):
    """A journal in memory that commits late, in the order of the appends.

    Attributes:
        committed: The events that are committed, of all runs.
    """

    def __init__(self) -> None:
        super().__init__(time.time_ns)
        self.committed: list[RunEvent] = []
        self._pending: deque[tuple[RunKey, Sequence[Record], Callable[[], None], Ended | None]] = deque()
        self._appended = asyncio.Event()
        self._prompt = False

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Take events to commit later."""
        self._pending.append((key, records, committed, ended))
        self._appended.set()
        if self._prompt:
            asyncio.get_running_loop().call_soon(self.commit_next)

    async def wait_pending(self) -> list[RunEvent]:
        """Wait until there are events to commit, and return them."""
        async with asyncio.timeout(GUARD):
            await self._appended.wait()
        return self.pending()

    def pending(self) -> list[RunEvent]:
        """Return the events that are not committed yet."""
        return [decode(record) for _, records, _, _ in self._pending for record in records]

    def commit(self) -> None:
        """Commit all pending events."""
        self._appended.clear()
        for _ in range(len(self._pending)):
            self.commit_next()

    def commit_next(self) -> None:
        """Commit the oldest pending append."""
        if self._pending:
            key, records, committed, ended = self._pending.popleft()
            self.committed += map(decode, records)
            super().append(key, records, committed, ended)

    def commit_promptly(self) -> None:
        """Commit all pending events. From now on, commit each append one turn of the loop later."""
        self._prompt = True
        self.commit()
