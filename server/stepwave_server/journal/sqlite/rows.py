"""What the tables' columns hold: events in chunks, what a run was given, how it ended."""

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
    "HEADER_COLUMNS",
    "PLACES",
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
"""Numbers that a run's events may have; `place` in the table of chunks is the run's number times this, plus theirs."""

_KINDS = {kind.value: kind for kind in Kind}

HeaderRow: TypeAlias = tuple[str, str, int, float | None, str, str, str, str, bytes, bytes]

HEADER_COLUMNS = (
    "namespace, run_id, create_time, window, options, traceparent, tracestate, rerun_of, input, workflow"
    " FROM runs JOIN definitions USING (run)"
)


class UnknownKind(LookupError):
    """Raised when there is an event of a kind that came with a later version."""

    def __init__(self, kind: int) -> None:
        super().__init__(f"it has an event of kind {kind}, which this version does not know")
        self.kind = kind


def join(records: Iterable[Record]) -> tuple[bytes, bytes]:
    """Return the kinds and the data of a chunk."""
    kinds, data = zip(*records, strict=True)
    return bytes(kinds), b"".join(data)


def split(kinds: bytes, data: bytes) -> Iterator[Record]:
    """Yield the records of a chunk. Each says its length: it is a message of one field.

    Raises:
        UnknownKind: A later version wrote one.
    """
    start = 0
    for kind in kinds:
        if kind not in _KINDS:
            raise UnknownKind(kind)
        place = start + 1
        size = shift = 0
        while True:
            byte = data[place]
            place += 1
            size |= (byte & 127) << shift
            if byte < 128:
                break
            shift += 7
        end = place + size
        yield Record(_KINDS[kind], data[start:end])
        start = end


def to_numbers(values: "array[int]") -> bytes:
    """Return numbers of events, four bytes each, the low one first."""
    if sys.byteorder == "big":
        values = array("I", values)
        values.byteswap()
    return values.tobytes()


def from_numbers(data: bytes) -> "array[int]":
    """Return numbers of events."""
    values = array("I", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def to_definition_row(run: int, header: Header) -> tuple[object, ...]:
    """Return a row of the table of definitions."""
    options = header.options
    told = {
        "open": options.open,
        "step_timeout": options.step_timeout,
        "max_steps": options.limits.max_steps,
        "max_edges": options.limits.max_edges,
        "version": options.version,
        "max_payload_bytes": options.max_payload_bytes,
    }
    return (
        run,
        json.dumps(told),
        header.traceparent,
        header.tracestate,
        header.rerun_of,
        encode_payload(header.input),
        header.workflow,
    )


def to_header(row: HeaderRow) -> Header:
    """Return what a run was given, from a row of `HEADER_COLUMNS`."""
    namespace, run_id, create_time, window, options, traceparent, tracestate, rerun_of, given, workflow = row
    told = json.loads(options)
    key = RunKey(namespace, run_id)
    return Header(
        key,
        workflow,
        decode_payload(given),
        RunOptions(
            open=told["open"],
            step_timeout=told["step_timeout"],
            limits=Limits(max_steps=told["max_steps"], max_edges=told["max_edges"]),
            seed=seed_of(key),
            version=told["version"],
            max_payload_bytes=told.get("max_payload_bytes"),  # journals of 0.1.0 lack it
        ),
        create_time,
        traceparent,
        tracestate,
        window,
        rerun_of,
    )
