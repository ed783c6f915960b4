"""The reader: queries on threads of its own, each with its own connection."""

import asyncio
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TypeVar

from stepwave_server.core.info import RunInfo
from stepwave_server.journal.base import Header, Listing, Position, Unfinished
from stepwave_server.journal.sqlite.database import open_reader
from stepwave_server.journal.sqlite.rows import HEADER_COLUMNS, PLACES, UnknownKind, from_numbers, split, to_header
from stepwave_server.journal.sqlite.storage_errors import explain
from stepwave_server.wire.events.encode import Kind, Record
from stepwave_server.wire.events.outputs import with_outputs
from stepwave_server.wire.responses.results import decode_run

__all__ = ["Reader"]

THREADS = 2

T = TypeVar("T")


class Reader:
    """Queries committed runs and events. All methods raise `JournalError` if the file cannot be read.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="stepwave-journal-reader")
        self._connections: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for _ in range(THREADS):
            self._connections.put(open_reader(path))

    async def events(self, run: int, after: int, last: int, max_bytes: int) -> Sequence[Record]:
        """Return a run's events after a sequence number, up to `last` or `max_bytes`; at least one if there is any."""
        return await self._query(lambda connection: _events(connection, run, after, last, max_bytes))

    async def pick(self, run: int, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the events of a run with these sequence numbers, in this order. Missing ones are left out."""
        return await self._query(lambda connection: _pick(connection, run, sequences))

    async def header(self, run: int) -> Header | None:
        """Return the header of a run."""
        return await self._query(lambda connection: _header(connection, run))

    async def info(self, run: int) -> RunInfo | None:
        """Return the final state of a run."""
        data = await self._cell("SELECT info FROM runs WHERE run = ?", run)
        return None if data is None else decode_run(data)

    async def finishes(self, run: int) -> Sequence[int] | None:
        """Return the sequence numbers of a run's `step_finished` events."""
        data = await self._cell("SELECT finishes FROM endings WHERE run = ?", run)
        return None if data is None else from_numbers(data)

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return at most `most` runs that have ended and match, newest first, after a position."""
        query, arguments = _list_query(listing, before)
        limited = f"{query} LIMIT ?"
        rows = await self._query(lambda connection: connection.execute(limited, (*arguments, most)).fetchall())
        return [decode_run(data) for (data,) in rows]

    async def unfinished(self, run: int) -> Unfinished | None:
        """Return a run that has not ended, with all its events."""
        return await self._query(lambda connection: _unfinished(connection, run))

    async def close(self) -> None:
        """Wait for the queries under way, and close the connections."""
        await asyncio.to_thread(self._pool.shutdown)
        while not self._connections.empty():
            self._connections.get().close()

    async def _cell(self, query: str, run: int) -> bytes | None:
        row = await self._query(lambda connection: connection.execute(query, (run,)).fetchone())
        return None if row is None else row[0]

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_query, query)

    def _run_query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._connections.get()
        try:
            return query(connection)
        except sqlite3.Error as error:
            raise explain(self._path, error) from error
        finally:
            self._connections.put(connection)


_CHUNKS = """
SELECT place, kinds, data FROM chunks
WHERE place >= (SELECT max(place) FROM chunks WHERE place BETWEEN :start AND :wanted) AND place <= :last
ORDER BY place
"""


def _chunks(connection: sqlite3.Connection, run: int, first: int, last: int) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield a run's chunks, from the one with the event `first` to the one with `last`."""
    start = run * PLACES
    bounds = {"start": start, "wanted": start + first, "last": start + last}
    for place, kinds, data in connection.execute(_CHUNKS, bounds):
        yield place - start, kinds, data


def _records(connection: sqlite3.Connection, run: int, first: int, last: int) -> Iterator[Record]:
    """Yield a run's events from one sequence number to another."""
    for begin, kinds, data in _chunks(connection, run, first, last):
        for sequence, record in enumerate(split(kinds, data), start=begin):
            if first <= sequence <= last:
                yield _complete(connection, run, record)


def _events(connection: sqlite3.Connection, run: int, after: int, last: int, max_bytes: int) -> list[Record]:
    found = []
    size = 0
    for record in _records(connection, run, after + 1, last):
        found.append(record)
        size += len(record.data)
        if size >= max_bytes:
            break
    return found


def _pick(connection: sqlite3.Connection, run: int, sequences: Sequence[int]) -> list[Record]:
    """Return events by sequence number. Each chunk is read once."""
    wanted = sorted(set(sequences))
    found: dict[int, Record] = {}
    while wanted:
        chunk = next(_chunks(connection, run, wanted[0], wanted[0]), None)
        if chunk is None:
            break
        begin, kinds, data = chunk
        here = wanted[: bisect_left(wanted, begin + len(kinds))]
        if not here:
            break
        records = list(split(kinds, data))
        found.update((sequence, _complete(connection, run, records[sequence - begin])) for sequence in here)
        del wanted[: len(here)]
    return [found[sequence] for sequence in sequences if sequence in found]


def _complete(connection: sqlite3.Connection, run: int, record: Record) -> Record:
    """Return a complete record: outputs that are stored with their steps are put back into the run's last event."""
    if record.kind is not Kind.RUN_FINISHED:
        return record
    row = connection.execute("SELECT outputs FROM endings WHERE run = ?", (run,)).fetchone()
    if row is None or not row[0]:  # without a row, the run is deleted and its events are garbage
        return record
    return with_outputs(record, _pick(connection, run, from_numbers(row[0])))


def _header(connection: sqlite3.Connection, run: int) -> Header | None:
    row = connection.execute(f"SELECT {HEADER_COLUMNS} WHERE run = ?", (run,)).fetchone()
    return None if row is None else to_header(row)


def _unfinished(connection: sqlite3.Connection, run: int) -> Unfinished | None:
    header = _header(connection, run)
    if header is None:
        return None
    (broken,) = connection.execute("SELECT broken FROM runs WHERE run = ?", (run,)).fetchone()
    try:
        return Unfinished(header, list(_records(connection, run, 1, PLACES - 1)), broken=bool(broken))
    except UnknownKind as error:
        return Unfinished(header, (), broken=bool(broken), unreadable=str(error))


def _list_query(listing: Listing, before: Position | None) -> tuple[str, list[object]]:
    """Return the query for `Listing.matches`, and its arguments."""
    terms = ["end_time IS NOT NULL", "namespace = ?"]
    arguments: list[object] = [listing.namespace]
    if listing.states:
        terms.append(f"state IN ({', '.join('?' * len(listing.states))})")
        arguments += [state.value for state in listing.states]
    for term, value in (
        ("workflow_name = ?", listing.workflow_name or None),
        ("create_time >= ?", listing.since),
        ("create_time < ?", listing.until),
    ):
        if value is not None:
            terms.append(term)
            arguments.append(value)
    if listing.prefix:
        terms.append("substr(run_id, 1, ?) = ?")
        arguments += [len(listing.prefix), listing.prefix]
    for label in listing.labels.items():
        terms.append("run IN (SELECT run FROM labels WHERE key = ? AND value = ?)")
        arguments += label
    if before is not None:
        terms.append("(create_time, run_id) < (?, ?)")
        arguments += before
    query = f"SELECT info FROM runs WHERE {' AND '.join(terms)}"  # noqa: S608 - constants only
    return f"{query} ORDER BY create_time DESC, run_id DESC", arguments
