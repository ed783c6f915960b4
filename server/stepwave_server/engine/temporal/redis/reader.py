"""Reads what attempts show from Redis, of the runs that somebody watches."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias, cast
from uuid import uuid4

from stepwave_server.engine.errors import JournalUnavailable
from stepwave_server.engine.temporal.redis.connection import FAILURES, Health, answer, client_of, shown
from stepwave_server.engine.temporal.redis.entries import Fields, chunks_key, decode_chunk, decode_log, logs_key
from stepwave_server.engine.temporal.transients import Chunk, LogMessage, RunStreams

__all__ = ["FIRST", "RedisReader"]

logger = logging.getLogger(__name__)

FIRST = b"0-0"
"""The position before the first entry of a stream."""

MAX_ENTRIES = 50
"""Entries of one stream that are read at once."""

WAIT_MILLISECONDS = 1_000
"""Milliseconds that one request waits for entries."""

WAKE_SECONDS = 60
"""Seconds for which the stream is kept by which a reader ends its own request."""

RETRY_SECONDS = 0.5
"""Seconds after which a failed request is repeated."""

_Entries: TypeAlias = Sequence[tuple[bytes, Fields]]
_Streams: TypeAlias = Sequence[tuple[bytes, _Entries]]


@dataclass(slots=True)
class _Followed:
    """A stream that is read: the position up to which it was read, and what takes its entries."""

    position: bytes
    take: Callable[[Fields], None]


class RedisReader:
    """Reads streams while they are followed. One request waits for entries of all of them.

    A request that waits does not know the streams that are followed from now on. So it waits for a stream of this
    reader as well, to which the reader then adds an entry.

    Args:
        url: The address of Redis.
        prefix: What the keys begin with.

    Raises:
        RedisUnavailable: The address is malformed.
    """

    def __init__(self, url: str, prefix: str) -> None:
        self._redis = client_of(url)
        self._prefix = prefix
        self._address = shown(url)
        self._health = Health(self._address, "chunks and logs of attempts are not shown")
        self._followed: dict[bytes, _Followed] = {}
        self._any = asyncio.Event()
        self._wake_key = f"{prefix}:wake:{uuid4().hex}"
        self._wake_position = FIRST
        self._changed = False
        self._waker: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def now(self) -> bytes:
        """Return the position after all entries up to now; the first one if Redis does not answer."""
        try:
            seconds, micros = await answer(self._redis.time())
        except FAILURES as error:
            self._health.failed(error)
            return FIRST
        return b"%d-0" % (seconds * 1_000 + micros // 1_000)

    def follow_chunks(self, run: RunStreams, position: bytes, take: Callable[[Chunk], None]) -> None:
        """Give the chunks of a run after a position to `take`."""
        self._follow(chunks_key(self._prefix, run), position, lambda fields: take(decode_chunk(fields)))

    def follow_logs(self, run: RunStreams, position: bytes, take: Callable[[LogMessage], None]) -> None:
        """Give what attempts of a run log after a position to `take`."""
        self._follow(logs_key(self._prefix, run), position, lambda fields: take(decode_log(fields)))

    def _follow(self, key: str, position: bytes, take: Callable[[Fields], None]) -> None:
        self._followed[key.encode()] = _Followed(position, take)
        self._any.set()
        self._changed = True
        if self._task is None:
            self._task = asyncio.create_task(self._read(), name="chunks and logs from Redis")
        elif self._waker is None or self._waker.done():
            self._waker = asyncio.create_task(self._wake(), name="more chunks and logs from Redis")

    async def _wake(self) -> None:
        """End the request that waits: there are more streams."""
        while self._changed:
            self._changed = False
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xadd(self._wake_key, {b"wake": b""}, maxlen=1, approximate=False)
            pipeline.expire(self._wake_key, WAKE_SECONDS)
            with suppress(*FAILURES):
                await answer(pipeline.execute())

    def leave(self, run: RunStreams) -> bytes:
        """Follow a run no longer. Return the position up to which its chunks were read."""
        self._followed.pop(logs_key(self._prefix, run).encode(), None)
        chunks = self._followed.pop(chunks_key(self._prefix, run).encode(), None)
        if not self._followed:
            self._any.clear()
        return FIRST if chunks is None else chunks.position

    async def logs(self, run: RunStreams) -> list[LogMessage]:
        """Return what attempts of a run have logged, as far as it is kept.

        Raises:
            JournalUnavailable: Redis does not answer.
        """
        try:
            found = await answer(self._redis.xrange(logs_key(self._prefix, run)))
        except FAILURES as error:
            self._health.failed(error)
            raise JournalUnavailable(f"Redis at {self._address}, which keeps logs, does not answer") from error
        return [decode_log(fields) for _, fields in cast("_Entries", found)]

    async def delete(self, run: RunStreams) -> None:
        """Delete what is kept of a run."""
        with suppress(*FAILURES):
            await answer(self._redis.delete(chunks_key(self._prefix, run), logs_key(self._prefix, run)))

    async def _read(self) -> None:
        while True:
            await self._any.wait()
            positions = {key: followed.position for key, followed in self._followed.items()}
            positions[self._wake_key.encode()] = self._wake_position
            try:
                request = self._redis.xread(positions, MAX_ENTRIES, WAIT_MILLISECONDS)  # type: ignore[arg-type]  # invariant
                found = await answer(request)
            except FAILURES as error:
                self._health.failed(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._health.answered()
            for key, entries in cast("_Streams", found or ()):
                self._take(key, entries)

    async def catch_up(self, run: RunStreams) -> None:
        """Give all chunks and logs of a run that Redis has by now to what takes them, if they are followed."""
        keys = (chunks_key(self._prefix, run).encode(), logs_key(self._prefix, run).encode())
        positions = {key: self._followed[key].position for key in keys if key in self._followed}
        if not positions:
            return
        try:
            found = await answer(self._redis.xread(positions))  # type: ignore[arg-type]  # invariant
        except FAILURES as error:
            self._health.failed(error)
            return
        for key, entries in cast("_Streams", found or ()):
            self._take(key, entries)

    def _take(self, key: bytes, entries: _Entries) -> None:
        if key == self._wake_key.encode():
            self._wake_position = entries[-1][0]
        followed = self._followed.get(key)
        if followed is None:
            return
        for position, fields in entries:
            if _order(position) <= _order(followed.position):  # another request brought it before
                continue
            followed.position = position
            try:
                followed.take(fields)
            except Exception:  # an entry that another version wrote must not stop the others
                logger.exception("an entry of %s cannot be shown", key.decode(errors="replace"))

    async def close(self) -> None:
        """Read no more."""
        tasks = [task for task in (self._task, self._waker) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(*FAILURES):
            await self._redis.aclose()


def _order(position: bytes) -> tuple[int, int]:
    """Return a key to sort positions of a stream by."""
    milliseconds, _, number = position.partition(b"-")
    return int(milliseconds), int(number)
