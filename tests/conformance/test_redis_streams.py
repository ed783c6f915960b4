"""The Redis streams of runs: what hosts write, and what servers read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from threading import Thread
from uuid import uuid4

import pytest
from redis.asyncio import Redis

from conformance.replicas import SECONDS
from redis_server import RedisServer
from stepwave_server.core.info import RunKey
from stepwave_server.engine.errors import JournalUnavailable
from stepwave_server.engine.temporal.redis import sink as sink_module
from stepwave_server.engine.temporal.redis.connection import answer
from stepwave_server.engine.temporal.redis.entries import (
    CHUNK_SECONDS,
    LOG_SECONDS,
    MAX_CHUNK_BYTES,
    MAX_LOGS,
    Entry,
    chunks_key,
    logs_key,
)
from stepwave_server.engine.temporal.redis.reader import FIRST, RedisReader
from stepwave_server.engine.temporal.redis.sink import MAX_WAITING_BYTES, RedisSink
from stepwave_server.engine.temporal.transients import Chunk, LogMessage, RunStreams, Source
from stepwave_server.wire.events.encode import LogEntry, LogLevel
from waiting import until


def new_run() -> RunStreams:
    return RunStreams(RunKey("default", uuid4().hex), "first")


def entry(message: str) -> LogEntry:
    return LogEntry(LogLevel.INFO, "x", message)


@pytest.fixture
async def reader(redis_server: RedisServer) -> AsyncIterator[RedisReader]:
    reader = RedisReader(redis_server.address, "test")
    yield reader
    await reader.close()


async def write(redis_server: RedisServer, run: RunStreams, *, logs: int = 0, chunk: str = "", chunks: int = 0) -> None:
    """Write log messages, and chunks of one text, as a host does that stops then."""
    sink = RedisSink(redis_server.address, "test")
    for number in range(logs):
        sink.log(Source(run, "s", 1), entry(f"{number}"))
    for index in range(chunks):
        sink.chunk(Source(run, "s", 1), index, chunk)
    await sink.close()


async def test_messages_of_many_hosts_have_numbers_without_gaps(redis_server: RedisServer, reader: RedisReader) -> None:
    run = new_run()
    await asyncio.gather(*(write(redis_server, run, logs=200) for _ in range(3)))
    assert [message.number for message in await reader.logs(run)] == list(range(1, 601))


async def test_the_newest_messages_of_a_run_are_kept_and_keep_their_numbers(
    redis_server: RedisServer, reader: RedisReader
) -> None:
    run = new_run()
    await write(redis_server, run, logs=MAX_LOGS + 50)
    assert [message.number for message in await reader.logs(run)] == list(range(51, MAX_LOGS + 51))


async def test_a_flood_of_messages_leaves_the_newest_and_delays_no_other_run(
    redis_server: RedisServer, reader: RedisReader
) -> None:
    flood, other = new_run(), new_run()
    sink = RedisSink(redis_server.address, "test")
    for number in range(20_000):
        sink.log(Source(flood, "s", 1), entry(f"{number}"))
    sink.log(Source(other, "s", 1), entry("calm"))
    await sink.close()
    kept = await reader.logs(flood)
    assert [message.number for message in kept] == list(range(20_001 - MAX_LOGS, 20_001))
    assert kept[-1].entry.message == "19999"
    assert [message.entry.message for message in await reader.logs(other)] == ["calm"]


async def test_an_attempt_that_ends_waits_for_its_own_messages_and_for_no_later_ones(
    redis_server: RedisServer, reader: RedisReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write is followed by new messages of another attempt: there is always one that waits."""
    run = new_run()
    sink = RedisSink(redis_server.address, "test")

    async def write_and_log(sink: RedisSink, entries: list[Entry]) -> None:
        await write_batch(sink, entries)
        sink.log(Source(run, "other", 1), entry("later"))

    write_batch = RedisSink._write_batch
    monkeypatch.setattr(RedisSink, "_write_batch", write_and_log)
    monkeypatch.setattr(sink_module, "FLUSH_SECONDS", SECONDS)
    for number in range(500):
        sink.log(Source(run, "s", 1), entry(f"{number}"))
    async with asyncio.timeout(SECONDS / 2):
        await sink.flush(run)
    own = [message.entry.message for message in await reader.logs(run) if message.step_id == "s"]
    assert own == [f"{number}" for number in range(500)]
    monkeypatch.undo()
    await sink.close()


async def test_the_chunks_of_a_run_are_bounded_by_their_size_and_forgotten_after_a_while(
    redis_server: RedisServer,
) -> None:
    run = new_run()
    await write(redis_server, run, chunk=f'"{"x" * 50_000}"', chunks=60, logs=1)
    async with Redis.from_url(redis_server.address) as redis:
        assert await redis.xlen(chunks_key("test", run)) == MAX_CHUNK_BYTES // 50_200
        assert CHUNK_SECONDS - 60 < await redis.ttl(chunks_key("test", run)) <= CHUNK_SECONDS
        assert LOG_SECONDS - 60 < await redis.ttl(logs_key("test", run)) <= LOG_SECONDS


async def test_a_follower_gets_what_was_written_before_and_what_is_written_then(
    redis_server: RedisServer, reader: RedisReader
) -> None:
    run, found = new_run(), asyncio.Queue[Chunk | LogMessage]()
    await write(redis_server, run, chunk="1", chunks=1)
    reader.follow_chunks(run, FIRST, found.put_nowait)
    reader.follow_logs(run, FIRST, found.put_nowait)
    async with asyncio.timeout(SECONDS):
        assert await found.get() == Chunk("s", 1, 0, "1")
        await write(redis_server, run, logs=1)
        logged = await found.get()
        assert isinstance(logged, LogMessage)
        assert (logged.number, logged.entry) == (1, entry("0"))


async def test_a_stream_that_is_followed_later_is_read_while_others_are_silent(
    redis_server: RedisServer, reader: RedisReader
) -> None:
    run, found = new_run(), asyncio.Queue[Chunk]()
    reader.follow_chunks(new_run(), FIRST, found.put_nowait)
    await write(redis_server, run, chunk="1", chunks=1)
    async with Redis.from_url(redis_server.address) as redis:

        async def waits() -> bool:
            return int((await redis.info("clients"))["blocked_clients"]) > 0

        await until(waits)  # for entries of the silent stream, for a second
    reader.follow_chunks(run, FIRST, found.put_nowait)
    async with asyncio.timeout(0.5):
        assert await found.get() == Chunk("s", 1, 0, "1")


async def test_a_follower_that_comes_back_gets_what_it_missed(redis_server: RedisServer, reader: RedisReader) -> None:
    run, found = new_run(), asyncio.Queue[Chunk]()
    await write(redis_server, run, chunk="1", chunks=1)
    reader.follow_chunks(run, FIRST, found.put_nowait)
    async with asyncio.timeout(SECONDS):
        await found.get()
        position = reader.leave(run)
        await write(redis_server, run, chunk="2", chunks=1)
        reader.follow_chunks(run, position, found.put_nowait)
        assert await found.get() == Chunk("s", 1, 0, "2")


async def test_a_follower_from_now_on_gets_nothing_from_before(redis_server: RedisServer, reader: RedisReader) -> None:
    run, found = new_run(), asyncio.Queue[LogMessage]()
    await write(redis_server, run, logs=1)
    async with asyncio.timeout(SECONDS):
        reader.follow_logs(run, await reader.now(), found.put_nowait)
        await write(redis_server, run, logs=1)
        assert (await found.get()).number == 2


async def test_a_thread_may_log(redis_server: RedisServer, reader: RedisReader) -> None:
    run, sink = new_run(), RedisSink(redis_server.address, "test")
    thread = Thread(target=sink.log, args=(Source(run, "s", 1), entry("from a thread")))
    thread.start()
    await asyncio.to_thread(thread.join)
    await sink.close()
    assert [message.entry.message for message in await reader.logs(run)] == ["from a thread"]


async def test_what_waits_to_be_written_is_bounded_and_the_oldest_is_dropped(
    redis_server: RedisServer, reader: RedisReader
) -> None:
    run, found = new_run(), asyncio.Queue[Chunk]()
    chunk = f'"{"x" * 1_000_000}"'
    await write(redis_server, run, chunk=chunk, chunks=20)
    reader.follow_chunks(run, FIRST, found.put_nowait)
    async with asyncio.timeout(SECONDS):
        assert (await found.get()).number >= 20 - MAX_WAITING_BYTES // len(chunk)


async def test_deleted_streams_are_gone(redis_server: RedisServer, reader: RedisReader) -> None:
    run = new_run()
    await write(redis_server, run, logs=1, chunk="1", chunks=1)
    await reader.delete(run)
    assert await reader.logs(run) == []


async def test_logs_cannot_be_listed_while_redis_is_away() -> None:
    reader = RedisReader("redis://user:secret@127.0.0.1:1", "test")
    with pytest.raises(JournalUnavailable, match=r"Redis at redis://127\.0\.0\.1:1, which keeps logs, does not answer"):
        await reader.logs(new_run())
    await reader.close()


async def test_a_cancel_that_the_client_of_redis_swallows_is_not_lost() -> None:
    async def swallow() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "answer"

    task = asyncio.create_task(answer(swallow()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
