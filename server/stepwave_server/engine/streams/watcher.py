"""Streams of a run's events: each watcher reads the journal at its own pace, and is woken when there is more."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.engine.base import Batch
from stepwave_server.engine.errors import EngineError, RunNotFound
from stepwave_server.engine.streams.transients import Transient
from stepwave_server.journal import Journal
from stepwave_server.wire.events.encode import Kind, Record, position

__all__ = ["Watcher"]

MOST_BATCH_BYTES = 256 * 1024
"""A batch ends with the event that passes this, so a message has at most this and one event more."""

MOST_TRANSIENT_BYTES = 1 << 20
"""Transient events of more bytes than this don't wait for a watcher: the oldest make room."""

MOST_BURST = 0.001
"""Seconds that a burst may go on before its events are sent."""

QUIET_TURNS = 3
"""Turns of the loop without an event that end a burst: an attempt takes two."""


class Watcher:
    """One stream of a run's events.

    Numbered events come from the journal, so a slow watcher costs nothing but its place in it. Transient ones wait in a
    bounded queue, whose oldest make room: a slow watcher misses some.

    Args:
        journal: Where the events are.
        key: The run.
        after: The number to begin after.
        kinds: Only these kinds; empty: all.
        heartbeat: How many seconds the stream may be silent.
        coming: Says whether there are events that are being committed.
        so_far: Transient events to begin with.
    """

    def __init__(
        self,
        journal: Journal,
        key: RunKey,
        after: int,
        kinds: Collection[Kind],
        heartbeat: float,
        coming: Callable[[], bool],
        so_far: Sequence[Transient] = (),
    ) -> None:
        self._journal = journal
        self._key = key
        self._position = after
        self._kinds = frozenset(kinds)
        self._heartbeat = heartbeat
        self._coming = coming
        self._transients: deque[Transient] = deque()
        self._transient_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._stirred = True
        self._waiter: asyncio.Future[None] | None = None
        self._pulse: asyncio.TimerHandle | None = None
        self._heard = 0.0
        self._resumed = after > 0
        self._ended: EngineError | None = None
        self._closed = False
        for transient in so_far:
            self._queue(transient)

    def wake(self) -> None:
        """Look into the journal again."""
        self._stirred = True
        self._go_on()

    def show(self, transient: Transient) -> None:
        """Stream a transient event, when the numbered ones before it have been."""
        self._queue(transient)
        self.wake()

    def forget_transients(self) -> None:
        """Forget the transient events that wait to be streamed."""
        self._transients.clear()
        self._transient_bytes = 0

    def close(self, error: EngineError | None = None) -> None:
        """End the stream: cleanly, so that it is resumed elsewhere by its sequence, or with an error."""
        self._closed, self._ended = True, error
        self.wake()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Stream batches, each with all that is ready, until the run's last event.

        Who resumes a stream hears at once that it goes on, even if nothing is ready yet.

        Raises:
            RunNotFound: The run is forgotten meanwhile.
        """
        try:
            while True:
                if not self._stirred:
                    await self._wait()
                batch = await self._next() if self._stirred else self._sign_of_life()
                if batch is None and self._resumed and not self._closed:
                    batch = self._sign_of_life()
                self._resumed = False
                if batch is not None:
                    self._heard = self._loop.time()
                    yield batch
                    if batch.last:
                        return
                elif self._closed:
                    if self._ended is not None:
                        raise self._ended
                    return
        finally:
            if self._pulse is not None:
                self._pulse.cancel()

    def _sign_of_life(self) -> Batch:
        return Batch(position(self._position), last=False)

    async def _next(self) -> Batch | None:
        """Return all that is ready; if there may be more, the next turn does not wait."""
        await self._gather()
        records = await self._journal.read(self._key, self._position, MOST_BATCH_BYTES)
        if records is None:
            raise self._ended or RunNotFound(self._key)
        batch = self._batch(records)
        filtered = bool(records and self._kinds)  # what was read may have been all that one read gives
        if self._closed or filtered or (batch is not None and len(batch.data) >= MOST_BATCH_BYTES):
            self._stirred = True
        return batch

    async def _gather(self) -> None:
        """Let a burst go on for a moment, so that its events go together; a lone event waits for microseconds.

        A message costs as much as ten steps, so a stream that sent one for every step of a chain would slow the chain
        down. What is being committed belongs to the burst.
        """
        end = self._loop.time() + MOST_BURST
        quiet = 0
        while self._loop.time() < end:
            quiet = 0 if self._stirred else quiet + 1
            self._stirred = False
            if quiet < QUIET_TURNS:
                await asyncio.sleep(0)
            elif self._coming():
                await self._wait_for_commit(end)
            else:
                break

    async def _wait_for_commit(self, end: float) -> None:
        """Wait until more is committed, or a time on the loop's clock."""
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(end, self._go_on)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _go_on(self) -> None:
        """End a wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        """Wait until there may be more, or the stream has been silent for too long."""
        self._waiter = self._loop.create_future()
        if self._pulse is None:
            self._pulse = self._loop.call_later(self._heartbeat, self._beat)
        await self._waiter

    def _beat(self) -> None:
        """End a wait that was silent for too long. One timer serves many waits: it looks again when the next may be."""
        silent = self._loop.time() - self._heard
        due = self._heartbeat if silent >= self._heartbeat else self._heartbeat - silent
        self._pulse = self._loop.call_later(due, self._beat)
        if due == self._heartbeat:
            self._go_on()

    def _batch(self, records: Sequence[Record]) -> Batch | None:
        parts: list[bytes] = []
        room = MOST_BATCH_BYTES
        kind = None
        for record in records:
            if self._transients:
                room = self._take_transients(parts, room)
            if room <= 0:
                break
            self._position += 1
            kind = record.kind
            if not self._kinds or kind in self._kinds or kind is Kind.RUN_FINISHED:
                parts.append(record.data)
                room -= len(record.data)
        self._take_transients(parts, room)
        if not parts:
            return None
        parts.append(position(self._position))
        return Batch(b"".join(parts), last=kind is Kind.RUN_FINISHED)

    def _queue(self, transient: Transient) -> None:
        """Let a transient event wait to be streamed; the oldest make room for it."""
        if self._kinds and transient.kind not in self._kinds:
            return
        self._transients.append(transient)
        self._transient_bytes += len(transient.data)
        while self._transient_bytes > MOST_TRANSIENT_BYTES and len(self._transients) > 1:
            self._transient_bytes -= len(self._transients.popleft().data)

    def _take_transients(self, parts: list[bytes], room: int) -> int:
        """Take the transient events that belong before the next numbered one; return what room they leave."""
        while room > 0 and self._transients and self._transients[0].after <= self._position:
            data = self._transients.popleft().data
            self._transient_bytes -= len(data)
            parts.append(data)
            room -= len(data)
        return room
