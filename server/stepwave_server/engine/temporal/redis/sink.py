"""Writes what the attempts of a host show to Redis."""

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from operator import lt

from stepwave_server.core.model import Payload
from stepwave_server.engine.temporal.redis.connection import FAILURES, Health, answer, client_of, shown
from stepwave_server.engine.temporal.redis.entries import Entry, chunk_entry, chunks_key, log_entry, logs_key
from stepwave_server.engine.temporal.transients import RunStreams, Source
from stepwave_server.wire.events.encode import LogEntry

__all__ = ["RedisSink"]

MAX_WAITING_BYTES = 8 << 20
"""Bytes of entries that may wait to be written. Beyond it, the oldest are dropped."""

MAX_BATCH = 200
MAX_TURN = 50
"""Entries that are written together, of all streams and of one."""

RETRY_SECONDS = 0.5
"""Seconds after which a failed write is followed by another try."""

FLUSH_SECONDS = 1.0
"""Maximum number of seconds for which an attempt waits at its end until its chunks and logs are written."""

CLOSE_SECONDS = 1.0
"""Seconds to write what waits when the host stops."""

ADD_NUMBERED = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local number = 1
if last[1] then
  local fields = last[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'number' then number = tonumber(fields[i + 1]) + 1 end
  end
end
number = number + tonumber(ARGV[2])
return redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[1], '*', 'number', number, unpack(ARGV, 3))
"""
"""Adds an entry with the number after that of the last one, and of those that the host dropped before it.

It does so in one step: many hosts add to one stream.
"""


@dataclass(slots=True)
class _Waiting:
    """The entries of one stream that wait to be written.

    Attributes:
        entries: The entries.
        dropped: Number of entries that were dropped since the last write.
        passed: Number of entries that were dropped or taken so far.
    """

    entries: deque[Entry] = field(default_factory=deque)
    dropped: int = 0
    passed: int = 0

    def drop(self) -> int:
        """Drop the oldest entry, and return its size."""
        self.dropped += 1
        self.passed += 1
        return self.entries.popleft().size

    def take(self, most: int) -> list[Entry]:
        """Return at most `most` entries. The first one tells how many were dropped before it."""
        taken = [self.entries.popleft() for _ in range(min(most, len(self.entries)))]
        self.passed += len(taken)
        if taken:
            taken[0] = taken[0]._replace(dropped=self.dropped)
            self.dropped = 0
        return taken


class RedisSink:
    """Takes what attempts show, and writes it in the background. It never blocks an attempt.

    Args:
        url: The address of Redis.
        prefix: What the keys begin with.

    Raises:
        RedisUnavailable: The address is malformed.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._redis = client_of(url)
        self._prefix = prefix
        self._health = Health(shown(url), "chunks and logs of attempts are lost")
        self._loop = asyncio.get_running_loop()
        self._lock = threading.RLock()  # reentrant: a finalizer may log while a thread holds it
        self._waiting: dict[str, _Waiting] = {}  # by stream, the one whose turn it is first
        self._bytes = 0
        self._wake = asyncio.Event()
        self._writing: frozenset[str] = frozenset()  # the streams of the entries that are written now
        self._written = asyncio.Event()
        self._closing = False
        self._writer: asyncio.Task[None] | None = None

    def chunk(self, source: Source, index: int, chunk: Payload) -> None:
        """Take a chunk; `index` counts from 0."""
        self._add(chunk_entry(self._prefix, source, index, chunk))

    def log(self, source: Source, entry: LogEntry) -> None:
        """Take what an attempt logged. It may be called from any thread."""
        self._add(log_entry(self._prefix, source, time.time_ns(), entry))

    def _add(self, entry: Entry) -> None:
        with self._lock:
            idle = not self._waiting
            stream = self._waiting.setdefault(entry.key, _Waiting())
            stream.entries.append(entry)
            self._bytes += entry.size
            if len(stream.entries) > entry.most:  # it would not stay in the stream
                self._bytes -= stream.drop()
            while self._bytes > MAX_WAITING_BYTES:
                self._drop_first()
        if idle:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._start_writing)

    def _drop_first(self) -> None:
        """Drop an entry of the stream whose turn it is."""
        stream = next(stream for stream in self._waiting.values() if stream.entries)
        self._bytes -= stream.drop()

    def _start_writing(self) -> None:
        if self._writer is None:
            self._writer = self._loop.create_task(self._write(), name="chunks and logs to Redis")
        self._wake.set()

    def _take(self) -> list[Entry]:
        """Return the next entries. Streams take turns, so that one that is flooded holds no other up."""
        taken: list[Entry] = []
        with self._lock:
            while self._waiting and len(taken) < MAX_BATCH:
                key = next(iter(self._waiting))
                stream = self._waiting.pop(key)
                taken += stream.take(MAX_TURN)
                if stream.entries:
                    self._waiting[key] = stream
            self._bytes -= sum(entry.size for entry in taken)
        return taken

    async def _write(self) -> None:
        """Write what waits, and then what comes, until the host stops."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while entries := self._take():
                self._writing = frozenset(entry.key for entry in entries)
                try:
                    await self._write_batch(entries)
                except FAILURES as error:
                    self._health.failed(error)
                else:
                    self._health.answered()
                self._writing = frozenset()
                self._written.set()
                if self._health.failing:
                    await asyncio.sleep(RETRY_SECONDS)
            if self._closing:
                return

    async def _write_batch(self, entries: list[Entry]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for entry in entries:
            if entry.numbered:
                fields = [part for field in entry.fields.items() for part in field]
                pipeline.eval(ADD_NUMBERED, 1, entry.key, entry.most, entry.dropped, *fields)
            else:
                fields_of = dict(entry.fields)
                pipeline.xadd(entry.key, fields_of, maxlen=entry.most, approximate=False)  # type: ignore[arg-type]  # invariant
        for key, seconds in {entry.key: entry.seconds for entry in entries}.items():
            pipeline.expire(key, seconds)
        await answer(pipeline.execute())

    async def flush(self, run: RunStreams) -> None:
        """Wait until what was taken of a run is written, for a moment at most, and not while Redis does not answer."""
        keys = (chunks_key(self._prefix, run), logs_key(self._prefix, run))
        with self._lock:
            streams = [self._waiting[key] for key in keys if key in self._waiting]
            ends = [stream.passed + len(stream.entries) for stream in streams]
        if not streams and self._writing.isdisjoint(keys):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_SECONDS):
                while not self._health.failing and any(map(lt, (it.passed for it in streams), ends)):
                    await self._batch_written()
                if self._writing and not self._health.failing:  # the last of them are in this batch
                    await self._batch_written()

    async def _batch_written(self) -> None:
        self._written.clear()
        await self._written.wait()

    async def close(self) -> None:
        """Write what waits, within a second, and close the connection."""
        self._closing = True
        if self._waiting or self._writer is not None:
            self._start_writing()
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=CLOSE_SECONDS)
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        with suppress(*FAILURES):
            await self._redis.aclose()
