"""The entries of the Redis streams of a run: their fields, and how many are kept."""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from stepwave_server.core.model import Payload
from stepwave_server.engine.temporal.transients import Chunk, LogMessage, RunStreams, Source
from stepwave_server.wire.events.encode import LogEntry, LogLevel
from stepwave_server.wire.values import decode_payload, encode_payload

__all__ = ["Entry", "Fields", "chunk_entry", "chunks_key", "decode_chunk", "decode_log", "log_entry", "logs_key"]

MAX_CHUNKS = 4_000
MAX_LOGS = 1_000
"""Maximum number of chunks, and of log messages, that are kept of one run."""

MAX_CHUNK_BYTES = 1 << 20
MAX_LOG_BYTES = 256 * 1024
"""Sizes that bound those that are kept of one run. Each entry lets as many stay as would fit if all had its size."""

CHUNK_SECONDS = 3_600
LOG_SECONDS = 24 * 3_600
"""Seconds for which the chunks and the logs of a run are kept after the last one."""

OVERHEAD = 100
"""Bytes of memory that an entry takes beside its data."""

Fields: TypeAlias = Mapping[bytes, bytes]


class Entry(NamedTuple):
    """An entry that is to be added to a stream.

    Attributes:
        key: The key of the stream.
        fields: The fields.
        size: Its size in bytes.
        most: The number of entries that the stream then has at most.
        seconds: The time to live of the stream.
        numbered: Whether it gets the number after that of the last entry.
        dropped: Number of entries of this stream that the host dropped just before it.
    """

    key: str
    fields: dict[bytes, bytes]
    size: int
    most: int
    seconds: int
    numbered: bool
    dropped: int = 0


def chunks_key(prefix: str, run: RunStreams) -> str:
    """Return the key of the stream with the chunks of a run."""
    return f"{prefix}:chunks:{run.key.namespace}/{run.key.run_id}/{run.execution}"


def logs_key(prefix: str, run: RunStreams) -> str:
    """Return the key of the stream with what the attempts of a run have logged."""
    return f"{prefix}:logs:{run.key.namespace}/{run.key.run_id}/{run.execution}"


def chunk_entry(prefix: str, source: Source, index: int, chunk: Payload) -> Entry:
    """Return the entry of a chunk."""
    fields = {**_fields_of(source), b"index": b"%d" % index, b"payload": encode_payload(chunk)}
    size = _size(fields)
    most = _most(size, MAX_CHUNKS, MAX_CHUNK_BYTES)
    return Entry(chunks_key(prefix, source.run), fields, size, most, CHUNK_SECONDS, numbered=False)


def log_entry(prefix: str, source: Source, time: int, entry: LogEntry) -> Entry:
    """Return the entry of a log message. It gets its number in the stream."""
    fields = {
        **_fields_of(source),
        b"time": b"%d" % time,
        b"level": b"%d" % entry.level.value,
        b"logger": entry.logger.encode(errors="replace"),
        b"message": entry.message.encode(errors="replace"),
    }
    size = _size(fields)
    most = _most(size, MAX_LOGS, MAX_LOG_BYTES)
    return Entry(logs_key(prefix, source.run), fields, size, most, LOG_SECONDS, numbered=True)


def decode_chunk(fields: Fields) -> Chunk:
    """Return the chunk of an entry."""
    payload = decode_payload(fields[b"payload"])
    return Chunk(fields[b"step"].decode(), int(fields[b"attempt"]), int(fields[b"index"]), payload)


def decode_log(fields: Fields) -> LogMessage:
    """Return the log message of an entry."""
    return LogMessage(
        number=int(fields[b"number"]),
        time=int(fields[b"time"]),
        step_id=fields[b"step"].decode(),
        attempt=int(fields[b"attempt"]),
        entry=LogEntry(LogLevel(int(fields[b"level"])), fields[b"logger"].decode(), fields[b"message"].decode()),
    )


def _fields_of(source: Source) -> dict[bytes, bytes]:
    return {b"step": source.step_id.encode(), b"attempt": b"%d" % source.attempt}


def _size(fields: Fields) -> int:
    return OVERHEAD + sum(len(name) + len(value) for name, value in fields.items())


def _most(size: int, count: int, total: int) -> int:
    """Return how many entries may stay in a stream beside and with one of a size."""
    return max(1, min(count, total // size))
