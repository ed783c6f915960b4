"""Streams of a run's events: each watcher reads the journal at its own pace, and is woken when there is more."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.engine.base import Batch
from stepwave_server.engine.errors import EngineError, RunNotFound
from stepwave_server.engine.live import Transient
from stepwave_server.journal import Journal
from stepwave_server.wire.events import Kind, Record, position

__all__ = ["Watcher"]

MOST_BATCH_BYTES = 256 * 1024
"""A batch ends with the event that passes this, so a message has at most this and one event more."""

MOST_TRANSIENTS = 1_000


class Watcher:
    """One stream of a run's events.

    Numbered events come from the journal, so a slow watcher costs nothing but its place in it. Transient ones wait in a bounded
    queue, whose oldest make room: a slow watcher misses some.

    Args:
        journal: Where the events are.
        key: The run.
        after: The number to begin after.
        kinds: Only these kinds; empty: all.
        heartbeat: How many seconds the stream may be silent.
        so_far: Transient events to begin with.
    """

    def __init__(
        self,
        journal: Journal,
        key: RunKey,
        after: int,
        kinds: Collection[Kind],
        heartbeat: float,
        so_far: Sequence[Transient] = (),
    ) -> None:
        self._journal = journal
        self._key = key
        self._position = after
        self._kinds = frozenset(kinds)
        self._heartbeat = heartbeat
        self._transients = deque(so_far, MOST_TRANSIENTS)
        self._wake = asyncio.Event()
        self._ended: EngineError | None = None
        self._closed = False

    def wake(self) -> None:
        """Look into the journal again."""
        self._wake.set()

    def show(self, transient: Transient) -> None:
        """Stream a transient event, when the numbered ones before it have been."""
        self._transients.append(transient)
        self._wake.set()

    def close(self, error: EngineError | None = None) -> None:
        """End the stream: cleanly, so that it is resumed elsewhere by its sequence, or with an error."""
        self._closed, self._ended = True, error
        self._wake.set()

    async def batches(self) -> AsyncIterator[Batch]:
        """Stream batches, each with all that is ready, until the run's last event.

        Raises:
            RunNotFound: The run is forgotten meanwhile.
        """
        while True:
            self._wake.clear()
            records = await self._journal.read(self._key, self._position, MOST_BATCH_BYTES)
            if records is None:
                raise RunNotFound(self._key)
            batch = self._batch(records)
            if batch is not None:
                yield batch
                if batch.last:
                    return
            elif self._closed:
                if self._ended is not None:
                    raise self._ended
                return
            elif not await self._more():
                yield Batch(position(self._position), last=False)

    async def _more(self) -> bool:
        try:
            async with asyncio.timeout(self._heartbeat):
                return await self._wake.wait()
        except TimeoutError:
            return False

    def _batch(self, records: Sequence[Record]) -> Batch | None:
        parts: list[bytes] = []
        for record in records:
            if self._transients:
                self._take_transients(parts)
            self._position += 1
            if not self._kinds or record.kind in self._kinds or record.kind is Kind.RUN_FINISHED:
                parts.append(record.data)
        self._take_transients(parts)
        if not parts:
            return None
        parts.append(position(self._position))
        return Batch(b"".join(parts), last=bool(records) and records[-1].kind is Kind.RUN_FINISHED)

    def _take_transients(self, parts: list[bytes]) -> None:
        """Take the transient events that belong before the next numbered one."""
        while self._transients and self._transients[0].after <= self._position:
            transient = self._transients.popleft()
            if not self._kinds or transient.kind in self._kinds:
                parts.append(transient.data)
