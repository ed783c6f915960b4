"""The entries of the Redis streams of a run."""

import pytest

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import Blob, Payload
from stepwave_server.engine.temporal.redis.connection import Health, RedisUnavailable, client_of, shown
from stepwave_server.engine.temporal.redis.entries import (
    MAX_CHUNK_BYTES,
    MAX_CHUNKS,
    MAX_LOGS,
    chunk_entry,
    chunks_key,
    decode_chunk,
    decode_log,
    log_entry,
    logs_key,
)
from stepwave_server.engine.temporal.transients import Chunk, LogMessage, RunStreams, Source
from stepwave_server.wire.events.encode import LogEntry, LogLevel

RUN = RunStreams(RunKey("default", "run"), "first")
SOURCE = Source(RUN, "list[3]/inner", 2)


@pytest.mark.parametrize("payload", ['{"big":9007199254740993}', '"ü"', Blob("image/png", b"\x00\x01")])
def test_a_chunk_comes_back_as_it_was(payload: Payload) -> None:
    entry = chunk_entry("p", SOURCE, 7, payload)
    assert decode_chunk(entry.fields) == Chunk("list[3]/inner", 2, 7, payload)


def test_a_log_message_comes_back_with_the_number_that_it_got() -> None:
    logged = LogEntry(LogLevel.WARNING, "x.y", "lone surrogate: \ud800, two\nlines")
    entry = log_entry("p", SOURCE, 1_234, logged)
    shown = logged._replace(message="lone surrogate: ?, two\nlines")
    assert decode_log({**entry.fields, b"number": b"3"}) == LogMessage(3, 1_234, "list[3]/inner", 2, shown)


def test_a_later_run_with_the_same_id_has_streams_of_its_own() -> None:
    later = RUN._replace(execution="second")
    assert len({key("p", run) for key in (chunks_key, logs_key) for run in (RUN, later)}) == 4


def test_small_entries_are_bounded_by_their_number() -> None:
    assert chunk_entry("p", SOURCE, 0, "1").most == MAX_CHUNKS
    assert log_entry("p", SOURCE, 0, LogEntry(LogLevel.INFO, "x", "short")).most == MAX_LOGS


@pytest.mark.parametrize("size", [10_000, 100_000, 1_000_000, 2_000_000])
def test_large_entries_are_bounded_by_their_size(size: int) -> None:
    most = chunk_entry("p", SOURCE, 0, f'"{"x" * size}"').most
    assert most == max(1, MAX_CHUNK_BYTES // (size + 150))


def test_the_address_is_shown_without_its_password() -> None:
    assert shown("redis://user:p@ss@host:6379/1") == "redis://host:6379/1"
    assert shown("unix:///run/redis.sock") == "unix:///run/redis.sock"


def test_a_malformed_address_is_an_error_that_shows_it() -> None:
    with pytest.raises(RedisUnavailable, match="redis://host:port, is malformed"):
        client_of("redis://user:secret@host:port")


def test_one_line_is_logged_when_redis_fails_and_one_when_it_is_back() -> None:
    lines: list[str] = []
    health = Health("redis://host", "chunks are lost", lambda text, *given: lines.append(text % given))
    health.answered()
    health.failed(TimeoutError())
    health.failed(OSError("refused"))
    health.answered()
    health.answered()
    assert lines == [
        "chunks are lost until Redis at redis://host answers again: TimeoutError",
        "Redis at redis://host answers again",
    ]
