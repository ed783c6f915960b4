"""Group commit: the changes of one transaction, and the rows that they write."""

import sqlite3
from asyncio import Future
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, islice, starmap
from typing import NamedTuple

from stepwave_server.core.model import immutable
from stepwave_server.journal.base import Ended, Header
from stepwave_server.journal.sqlite.rows import PLACES, join, to_definition_row, to_numbers
from stepwave_server.wire.events.encode import Record
from stepwave_server.wire.events.outputs import without_outputs
from stepwave_server.wire.responses.results import encode_run

__all__ = ["Addition", "Breakage", "Detachment", "Group", "Removal"]

CHUNK_BYTES = 256 * 1024
"""Bytes at which a chunk is full. A chunk with a single event may be larger."""

ROWS = 200
"""Rows in one `INSERT`."""


@immutable
class Addition:
    """Events to append to a run.

    Attributes:
        run: The run's number.
        first: The sequence number of the first event.
        records: The events.
        committed: Called on the event loop once they are committed.
        header: The run's header, if these are its first events.
        ended: The run's summary, if its last event is among them.
        size: Bytes of all its events so far.
    """

    run: int
    first: int
    records: Sequence[Record]
    committed: Callable[[], None]
    header: Header | None = None
    ended: Ended | None = None
    size: int = 0


@immutable
class Detachment:
    """A run to detach."""

    run: int
    done: "Future[None]"


@immutable
class Breakage:
    """A run to mark as broken by a defect."""

    run: int


@immutable
class Removal:
    """Runs to delete. Their events become garbage."""

    runs: Sequence[int]
    done: "Future[None] | None" = None


@dataclass(slots=True)
class Group:
    """The changes of one transaction.

    Attributes:
        begin: When it got its first change, in seconds of the monotonic clock.
        seconds: How long its commit took from then on.
    """

    begin: float = 0.0
    seconds: float = 0.0
    additions: list[Addition] = field(default_factory=list)
    detachments: list[Detachment] = field(default_factory=list)
    breakages: list[Breakage] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)

    @property
    def futures(self) -> Iterator["Future[None]"]:
        """The futures to complete once the group is committed."""
        yield from (detachment.done for detachment in self.detachments)
        yield from (removal.done for removal in self.removals if removal.done is not None)

    def add(self, change: Addition | Breakage | Detachment | Removal) -> None:
        """Add a change."""
        match change:
            case Addition():
                self.additions.append(change)
            case Detachment():
                self.detachments.append(change)
            case Breakage():
                self.breakages.append(change)
            case Removal():
                self.removals.append(change)

    def write(self, connection: sqlite3.Connection) -> None:
        """Write all rows, removals first, because they free run ids."""
        for removal in self.removals:
            _remove(connection, removal.runs)
        started = [(addition.run, addition.header) for addition in self.additions if addition.header is not None]
        ended = [(addition, addition.ended) for addition in self.additions if addition.ended is not None]
        _insert(connection, _RUNS, map(_run_row, started))
        _insert(connection, _DEFINITIONS, starmap(to_definition_row, started))
        _insert(connection, _CHUNKS, _chunk_rows(self.additions))
        _insert(connection, _ENDS, starmap(_end_row, ended))
        _insert(connection, _ENDINGS, starmap(_ending_row, ended))
        _insert(connection, _LABELS, chain.from_iterable(starmap(_label_rows, ended)))
        for detachment in self.detachments:
            connection.execute("UPDATE runs SET window = NULL WHERE run = ?", (detachment.run,))
        for breakage in self.breakages:
            connection.execute("UPDATE runs SET broken = 1 WHERE run = ?", (breakage.run,))


class _Insert(NamedTuple):
    """An `INSERT` statement.

    Attributes:
        head: The table, with its columns if not all are given.
        width: Number of columns.
        foot: The clause after the values.
    """

    head: str
    width: int
    foot: str = ""


_RUNS = _Insert("runs (run, namespace, run_id, create_time, window)", 5)
_DEFINITIONS = _Insert("definitions", 7)
_CHUNKS = _Insert("chunks", 3)
_ENDINGS = _Insert("endings", 3)
_LABELS = _Insert("labels", 3)
_ENDED = ("workflow_name", "state", "end_time", "size", "info")
_ENDS = _Insert(
    f"runs (run, namespace, run_id, create_time, {', '.join(_ENDED)})",
    9,
    f" ON CONFLICT (run) DO UPDATE SET {', '.join(f'{column} = excluded.{column}' for column in _ENDED)}",
)


def _insert(connection: sqlite3.Connection, insert: _Insert, rows: Iterable[Sequence[object]]) -> None:
    """Insert rows, many per statement, because every statement waits for the interpreter lock."""
    remaining = iter(rows)
    while batch := list(islice(remaining, ROWS)):
        connection.execute(_statement(insert, len(batch)), list(chain.from_iterable(batch)))


@lru_cache(maxsize=4 * ROWS)
def _statement(insert: _Insert, count: int) -> str:
    row = f"({', '.join('?' * insert.width)})"
    return f"INSERT INTO {insert.head} VALUES {', '.join([row] * count)}{insert.foot}"  # noqa: S608 - constants only


def _run_row(started: tuple[int, Header]) -> Sequence[object]:
    run, header = started
    return run, header.key.namespace, header.key.run_id, header.create_time, header.window


def _chunk_rows(additions: Iterable[Addition]) -> Iterator[Sequence[object]]:
    """Yield the rows of `chunks`. Events of one run share a chunk until it is full."""
    open_chunks: dict[int, _Chunk] = {}
    for addition in additions:
        chunk = open_chunks.get(addition.run)
        if chunk is None:
            chunk = open_chunks[addition.run] = _Chunk(addition.run, addition.first)
        for record in _stored(addition):
            if chunk.size >= CHUNK_BYTES:
                yield chunk.row()
                chunk = open_chunks[addition.run] = _Chunk(addition.run, chunk.first + len(chunk.records))
            chunk.records.append(record)
            chunk.size += len(record.data)
    for chunk in open_chunks.values():
        yield chunk.row()


class _Chunk:
    __slots__ = ("first", "records", "run", "size")

    def __init__(self, run: int, first: int) -> None:
        self.run = run
        self.first = first
        self.records: list[Record] = []
        self.size = 0

    def row(self) -> Sequence[object]:
        return self.run * PLACES + self.first, *join(self.records)


def _stored(addition: Addition) -> Sequence[Record]:
    """Return the records to store. Outputs are stored once, with their steps, and not again in the run's last event."""
    if addition.ended is None or not addition.ended.outputs:
        return addition.records
    return [*addition.records[:-1], without_outputs(addition.records[-1])]


def _end_row(addition: Addition, ended: Ended) -> Sequence[object]:
    info = ended.info
    return (
        addition.run,
        info.key.namespace,
        info.key.run_id,
        info.create_time,
        info.workflow_name,
        info.state.value,
        info.end_time,
        addition.size,
        encode_run(info),
    )


def _ending_row(addition: Addition, ended: Ended) -> Sequence[object]:
    return addition.run, to_numbers(ended.finishes), to_numbers(ended.outputs)


def _label_rows(addition: Addition, ended: Ended) -> Iterator[Sequence[object]]:
    for key, value in ended.info.labels.items():
        yield addition.run, key, value


_REMOVE = (
    "INSERT INTO rubbish SELECT run FROM runs WHERE run IN ({0})",
    "DELETE FROM runs WHERE run IN ({0})",
    "DELETE FROM labels WHERE run IN ({0})",
    "DELETE FROM definitions WHERE run IN ({0})",
    "DELETE FROM endings WHERE run IN ({0})",
)


def _remove(connection: sqlite3.Connection, runs: Sequence[int]) -> None:
    """Delete runs at once, but for their events, which become garbage."""
    marks = ", ".join("?" * len(runs))
    for statement in _REMOVE:
        connection.execute(statement.format(marks), runs)
