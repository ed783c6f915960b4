"""Conversion between rows and values: chunks of events, headers, sequence numbers."""

import json
import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from stepwave_server.core.info import RunKey, seed_of
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits
from stepwave_server.journal.base import Header
from stepwave_server.wire.events.encode import Kind, Record
from stepwave_server.wire.values import decode_payload, encode_payload

__all__ = [
    "ENDED",
    "HEADER_COLUMNS",
    "PLACES",
    "UNFINISHED",
    "HeaderRow",
    "UnknownKind",
    "from_numbers",
    "join",
    "split",
    "to_definition_row",
    "to_header",
    "to_numbers",
]

PLACES = 1 << 32
"""Sequence numbers per run. A chunk's column `place` is the run's number times this, plus its first event's number."""

_KINDS = {kind.value: kind for kind in Kind}

HeaderRow: TypeAlias = tuple[str, str, int, float | None, str, str, str, str, bytes, bytes]

HEADER_COLUMNS = (
    "namespace, run_id, create_time, window, options, traceparent, tracestate, rerun_of, input, workflow"
    " FROM runs JOIN definitions USING (run)"
)

_DEFINITION = "coalesce((SELECT length(workflow) + length(input) FROM definitions WHERE run = runs.run), 0)"
_EVENTS = "coalesce((SELECT sum(length(data)) FROM chunks WHERE place >= run << 32 AND place < (run + 1) << 32), 0)"

ENDED = (
    f"SELECT run, namespace, run_id, {_DEFINITION}, end_time, size"  # noqa: S608 - constants only
    " FROM runs WHERE end_time IS NOT NULL ORDER BY end_time, run"
)
"""The runs that have ended, in the order of their ends, with the bytes of their definitions and of their events."""

UNFINISHED = (
    f"SELECT run, namespace, run_id, {_DEFINITION}, {_EVENTS}"  # noqa: S608 - constants only
    " FROM runs WHERE end_time IS NULL ORDER BY create_time, run"
)
"""The runs that have not ended, the oldest first, with the bytes of their definitions and of their events."""


class UnknownKind(LookupError):
    """Raised when a chunk has an event of a kind from a later version."""

    def __init__(self, kind: int) -> None:
        super().__init__(f"it has an event of kind {kind}, which this version does not know")
        self.kind = kind


def join(records: Iterable[Record]) -> tuple[bytes, bytes]:
    """Return the kinds and the data of a chunk."""
    kinds, data = zip(*records, strict=True)
    return bytes(kinds), b"".join(data)


def split(kinds: bytes, data: bytes) -> Iterator[Record]:
    """Yield the records of a chunk. Each is a message of one field, which begins with its length.

    Raises:
        UnknownKind: A later version wrote an event.
    """
    start = 0
    for kind in kinds:
        if kind not in _KINDS:
            raise UnknownKind(kind)
        index = start + 1
        size = shift = 0
        while True:
            byte = data[index]
            index += 1
            size |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        end = index + size
        yield Record(_KINDS[kind], data[start:end])
        start = end


def to_numbers(values: "array[int]") -> bytes:
    """Return sequence numbers as bytes: four each, little-endian."""
    if sys.byteorder == "big":
        values = array("I", values)
        values.byteswap()
    return values.tobytes()


def from_numbers(data: bytes) -> "array[int]":
    """Return the sequence numbers in bytes."""
    values = array("I", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def to_definition_row(run: int, header: Header) -> tuple[object, ...]:
    """Return the row of `definitions` for a run."""
    options = header.options
    stored = {
        "open": options.open,
        "step_timeout": options.step_timeout,
        "max_steps": options.limits.max_steps,
        "max_edges": options.limits.max_edges,
        "version": options.version,
        "max_payload_bytes": options.max_payload_bytes,
        "idle_timeout": options.idle_timeout,
        "workflow_digest": header.workflow_digest,
        **({"created_by": header.created_by} if header.created_by else {}),
    }
    return (
        run,
        json.dumps(stored),
        header.traceparent,
        header.tracestate,
        header.rerun_of,
        encode_payload(header.input),
        header.workflow,
    )


def to_header(row: HeaderRow) -> Header:
    """Return the header in a row of `HEADER_COLUMNS`."""
    namespace, run_id, create_time, window, options, traceparent, tracestate, rerun_of, run_input, workflow = row
    stored = json.loads(options)
    key = RunKey(namespace, run_id)
    return Header(
        key=key,
        workflow=workflow,
        input=decode_payload(run_input),
        options=RunOptions(
            open=stored["open"],
            step_timeout=stored["step_timeout"],
            limits=Limits(max_steps=stored["max_steps"], max_edges=stored["max_edges"]),
            seed=seed_of(key),
            version=stored["version"],
            max_payload_bytes=stored.get("max_payload_bytes"),  # journals of 0.1.0 lack it
            idle_timeout=stored.get("idle_timeout"),
        ),
        create_time=create_time,
        traceparent=traceparent,
        tracestate=tracestate,
        window=window,
        rerun_of=rerun_of,
        workflow_digest=stored.get("workflow_digest", ""),  # journals of 0.1.0 lack it
        created_by=stored.get("created_by", ""),
    )
