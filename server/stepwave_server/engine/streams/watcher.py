"""The watcher: one stream of a run's events, read from the journal at the stream's own pace."""

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

MAX_BATCH_BYTES = 32 * 1024
"""Size at which a batch is complete. It has at most one more event. An event that is larger has a batch of its own.

The server and gRPC each keep a batch until its client takes it. A batch of this size has more than a hundred events.
Larger ones are hardly faster, and clients that never read make the server keep one for each of their streams.
"""

MAX_TRANSIENT_BYTES = 1 << 20
"""Bytes of transient events that may wait for one watcher. Beyond it, the oldest are dropped."""

MAX_BURST_SECONDS = 0.001
"""Seconds after which the events of a burst are sent, even if it continues."""

QUIET_TURNS = 3
"""Iterations of the loop without an event that end a burst. An attempt takes two."""


class Watcher:
    """One stream of a run's events.

    Numbered events are read from the journal, so a slow watcher holds only its position. Transient events wait in a
    bounded queue. When it is full, the oldest are dropped: a slow watcher misses some.

    Args:
        journal: The journal with the run's events.
        key: The run.
        after: The sequence number to start after.
        kinds: The kinds of events to stream; empty: all. The run's last event is always streamed.
        heartbeat: Seconds without a message after which a heartbeat is sent.
        committing: Returns whether events of the run are being committed.
        committed: Returns the sequence number of the run's newest committed event.
        transients: The run's transient events so far.
    """

    def __init__(
        self,
        journal: Journal,
        key: RunKey,
        *,
        after: int,
        kinds: Collection[Kind],
        heartbeat: float,
        committing: Callable[[], bool],
        committed: Callable[[], int],
        transients: Sequence[Transient] = (),
    ) -> None:
        self._journal = journal
        self._key = key
        self._position = after
        self._kinds = frozenset(kinds)
        self._max_silence = heartbeat
        self._committing = committing
        self._committed = committed
        self._transients: deque[Transient] = deque()
        self._transient_bytes = 0
        self._loop = asyncio.get_running_loop()
        self._woken = True
        self._waiter: asyncio.Future[None] | None = None
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._last_sent = 0.0
        self._resumed = after > 0
        self._error: EngineError | None = None
        self._closed = False
        for transient in transients:
            self._add_transient(transient)

    @property
    def lag(self) -> int:
        """Number of committed events that it has not sent."""
        return max(0, self._committed() - self._position)

    def wake(self) -> None:
        """Read the journal again."""
        self._woken = True
        self._end_wait()

    def show(self, transient: Transient) -> None:
        """Stream a transient event, after the numbered events before it."""
        self._add_transient(transient)
        self.wake()

    def forget_transients(self) -> None:
        """Drop the transient events that wait to be streamed."""
        self._transients.clear()
        self._transient_bytes = 0

    def close(self, error: EngineError | None = None) -> None:
        """End the stream when it has sent what is committed.

        Args:
            error: The error to end with; `None`: it ends without one, and the caller can resume it by its sequence.
        """
        self._closed, self._error = True, error
        self.wake()

    async def batches(self) -> AsyncGenerator[Batch, None]:
        """Stream the ready events in batches, until the run's last event.

        A resumed stream starts with a heartbeat if no event is ready, so that its caller knows that it is connected.

        Raises:
            RunNotFound: The run was deleted meanwhile.
            EngineError: The stream was closed with this error.
        """
        try:
            while True:
                if not self._woken:
                    await self._wait()
                batch = await self._next() if self._woken else self._heartbeat_batch()
                if batch is None and self._resumed and not self._closed:
                    batch = self._heartbeat_batch()
                self._resumed = False
                if batch is not None:
                    self._last_sent = self._loop.time()
                    yield batch
                    if batch.last:
                        return
                elif self._closed:
                    if self._error is not None:
                        raise self._error
                    return
        finally:
            if self._heartbeat_timer is not None:
                self._heartbeat_timer.cancel()

    def _heartbeat_batch(self) -> Batch:
        """Return a batch with the position alone."""
        return Batch(position(self._position), last=False)

    async def _next(self) -> Batch | None:
        """Return the ready events; `None`: there are none. If there may be more, the next turn does not wait."""
        await self._collect_burst()
        records = await self._journal.read(self._key, self._position, MAX_BATCH_BYTES)
        if records is None:
            raise self._error or RunNotFound(self._key)
        end = self._position + len(records)
        batch = self._batch(records)
        filtered = bool(records and self._kinds)  # the read may have been full
        full = batch is not None and len(batch.data) >= MAX_BATCH_BYTES
        if self._closed or filtered or full or self._position < end:
            self._woken = True
        return batch

    async def _collect_burst(self) -> None:
        """Wait for the end of a burst, so that its events are sent together. A single event waits for microseconds.

        A message costs as much as ten steps: one message for every step would slow down a chain. Events that are being
        committed belong to the burst.
        """
        end = self._loop.time() + MAX_BURST_SECONDS
        quiet = 0
        while self._loop.time() < end:
            quiet = 0 if self._woken else quiet + 1
            self._woken = False
            if quiet < QUIET_TURNS:
                await asyncio.sleep(0)
            elif self._committing():
                await self._wait_for_commit(end)
            else:
                break

    async def _wait_for_commit(self, end: float) -> None:
        """Wait until the watcher is woken, at most until the loop's time is `end`."""
        self._waiter = self._loop.create_future()
        timer = self._loop.call_at(end, self._end_wait)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _end_wait(self) -> None:
        """End the current wait."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _wait(self) -> None:
        """Wait until the watcher is woken, or a heartbeat is due."""
        self._waiter = self._loop.create_future()
        if self._heartbeat_timer is None:
            self._heartbeat_timer = self._loop.call_later(self._max_silence, self._check_silence)
        await self._waiter

    def _check_silence(self) -> None:
        """End the wait if a heartbeat is due, and set the timer again. One timer serves many waits."""
        silent = self._loop.time() - self._last_sent
        due = self._max_silence if silent >= self._max_silence else self._max_silence - silent
        self._heartbeat_timer = self._loop.call_later(due, self._check_silence)
        if due == self._max_silence:
            self._end_wait()

    def _batch(self, records: Sequence[Record]) -> Batch | None:
        """Return a batch of records, with the transient events that belong before, between and after them."""
        parts: list[bytes] = []
        room = MAX_BATCH_BYTES
        kind = None
        for record in records:
            if self._transients:
                room = self._take_transients(parts, room)
            streamed = not self._kinds or record.kind in self._kinds or record.kind is Kind.RUN_FINISHED
            if room <= 0 or (streamed and parts and len(record.data) > MAX_BATCH_BYTES):
                break
            self._position += 1
            kind = record.kind
            if streamed:
                parts.append(record.data)
                room -= len(record.data)
        self._take_transients(parts, room)
        if not parts:
            return None
        parts.append(position(self._position))
        return Batch(b"".join(parts), last=kind is Kind.RUN_FINISHED)

    def _add_transient(self, transient: Transient) -> None:
        """Queue a transient event. The oldest are dropped if the queue is full."""
        if self._kinds and transient.kind not in self._kinds:
            return
        self._transients.append(transient)
        self._transient_bytes += len(transient.data)
        while self._transient_bytes > MAX_TRANSIENT_BYTES and len(self._transients) > 1:
            self._transient_bytes -= len(self._transients.popleft().data)

    def _take_transients(self, parts: list[bytes], room: int) -> int:
        """Move the transient events before the next numbered one to `parts`; return the remaining room in bytes."""
        while room > 0 and self._transients and self._transients[0].after <= self._position:
            data = self._transients.popleft().data
            self._transient_bytes -= len(data)
            parts.append(data)
            room -= len(data)
        return room
