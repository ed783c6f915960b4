"""The journal in SQLite: one file, written by one thread, read by anyone."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.journal.base import Ended, Header, JournalError, Listing, Position, Trouble, Unfinished
from stepwave_server.journal.retention import Retention, Shelf
from stepwave_server.journal.sqlite.database import Synchronous, connect, create, migrate
from stepwave_server.journal.sqlite.group import Addition, Breakage, Detachment, Group, Removal
from stepwave_server.journal.sqlite.owner import Lock
from stepwave_server.journal.sqlite.reader import Reader
from stepwave_server.journal.sqlite.recent_events import RecentEvents
from stepwave_server.journal.sqlite.rows import PLACES
from stepwave_server.journal.sqlite.storage_errors import explain
from stepwave_server.journal.sqlite.writer import Writer
from stepwave_server.wire.events.encode import Record

__all__ = ["SqliteJournal"]

SWEEP_INTERVAL = 60.0
"""Seconds after which ended runs are looked over for those that are too old."""

MOST_REMOVALS = 500
"""Runs that are forgotten in one transaction."""


@dataclass(slots=True)
class _Log:
    """A run of which there is something in the file, or soon will be.

    Attributes:
        run: Its number.
        asked: The number of the newest event that was to be added.
        last: The number of the newest event that is committed, as far as the event loop knows.
        size: Bytes of its events.
        header: What it was given, until that is on its way.
    """

    run: int
    asked: int = 0
    last: int = 0
    size: int = 0
    header: Header | None = None


class SqliteJournal:
    """Keeps events in a file, safe before they have an effect.

    Events are committed in groups: all that were added until the writing thread is free again. The newest events of
    every run stay in memory for those who watch it live.
    """

    name = "sqlite"
    durable = True

    def __init__(
        self,
        path: Path,
        lock: Lock,
        connection: sqlite3.Connection,
        clock: Callable[[], int],
        retention: Retention,
        observe: Callable[[str], None],
    ) -> None:
        self.place = str(path)
        self._lock = lock
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._logs: dict[RunKey, _Log] = {}
        self._keys: dict[int, RunKey] = {}
        self._tails = RecentEvents()
        self._listeners: list[Trouble] = []
        self._trouble = ""
        self.lost = False
        self._changes: set[asyncio.Future[None]] = set()
        self._sweeping = False
        self._closed = False
        self._shelf = Shelf(clock, retention, self._excess)
        self._left = self._load(connection)
        self._writer = Writer(path, connection, self._publish, self._take_trouble, observe)
        self.clean = self._writer.clean
        self._taken_up = False
        self._reader = Reader(path)
        self._timer = self._loop.call_later(SWEEP_INTERVAL, self._look_over)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], int],
        retention: Retention,
        synchronous: Synchronous = "full",
        observe: Callable[[str], None] | None = None,
    ) -> Self:
        """Open the journal in a file, or begin one; the event loop must be running.

        Args:
            path: The file. It and its folder are made if they are missing.
            clock: Nanoseconds since the epoch, for the age of ended runs.
            retention: How long these are kept.
            synchronous: `full`: what is committed survives a power cut; `normal`: only the end of the process.
            observe: Called with `before-commit` and `after-commit` on the writing thread, and `before-publication` on
                the event loop.

        Raises:
            JournalError: It is in use, damaged, from a later version, no journal, or cannot be written.
        """
        path = path.expanduser().resolve()
        create(path)
        lock = Lock(path)
        try:
            connection = connect(path, synchronous)
            try:
                migrate(connection, path)
                return cls(path, lock, connection, clock, retention, observe or _ignore)
            except BaseException:
                connection.close()
                raise
        except BaseException as error:
            lock.release()
            if isinstance(error, sqlite3.Error):
                raise explain(path, error) from error
            raise

    def _load(self, connection: sqlite3.Connection) -> list[RunKey]:
        """Learn which runs there are, and return those that have not ended, the oldest first."""
        (self._next_run,) = connection.execute(
            "SELECT 1 + max(coalesce((SELECT max(run) FROM runs), 0), coalesce((SELECT max(run) FROM rubbish), 0))"
        ).fetchone()
        ended = connection.execute(
            "SELECT run, namespace, run_id, end_time, size FROM runs WHERE end_time IS NOT NULL ORDER BY end_time, run"
        )
        for run, namespace, run_id, end_time, size in ended:
            key = self._know(_Log(run, last=PLACES - 1, size=size), RunKey(namespace, run_id))
            self._shelf.put(key, end_time, size)
        left = connection.execute(
            "SELECT run, namespace, run_id FROM runs WHERE end_time IS NULL ORDER BY create_time, run"
        )
        return [self._know(_Log(run), RunKey(namespace, run_id)) for run, namespace, run_id in left]

    def _know(self, log: _Log, key: RunKey) -> RunKey:
        self._logs[key] = log
        self._keys[log.run] = key
        return key

    # Writing.

    def create(self, header: Header) -> None:
        """Open a run. It is committed with its first events."""
        self._know(_Log(self._next_run, header=header), header.key)
        self._next_run += 1

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Add events to a run, all or none."""
        log = self._logs[key]
        log.size += sum(len(record.data) for record in records)
        header, log.header = log.header, None
        self._writer.put(Addition(log.run, log.asked + 1, records, committed, header, ended, log.size))
        log.asked += len(records)

    async def detach(self, key: RunKey) -> None:
        """Forget that a run under way is held; done when that is committed."""
        self._require_commits()
        done = self._loop.create_future()
        await self._change(Detachment(self._logs[key].run, done), done)

    async def delete(self, key: RunKey) -> None:
        """Forget a run that has ended; done when that is committed."""
        self._require_commits()
        if key in self._shelf:
            done = self._loop.create_future()
            await self._change(Removal([self._forget(key)], done), done)

    def _require_commits(self) -> None:
        if self._trouble:
            raise JournalError(self._trouble)

    async def _change(self, item: Detachment | Removal, done: asyncio.Future[None]) -> None:
        """Ask for a change, and wait until it is committed, or commits fail: nobody is to wait until they succeed."""
        self._changes.add(done)
        self._writer.put(item)
        try:
            await done
        finally:
            self._changes.discard(done)

    def mark_broken(self, key: RunKey) -> None:
        """Note that a run under way met a defect, behind its events so far."""
        log = self._logs[key]
        if log.header is None:
            self._writer.put(Breakage(log.run))

    def discard(self, key: RunKey) -> bool:
        """Let go of a run under way; it is kept, for another server to take up, unless nothing of it was written."""
        log = self._logs[key]
        if log.header is None:
            return True
        del self._logs[key], self._keys[log.run]
        return False

    def _publish(self, group: Group) -> None:
        """Let the effects happen of what is committed."""
        self._observe("before-publication")
        for addition in group.additions:
            key = self._keys[addition.run]
            log = self._logs[key]
            log.last += len(addition.records)
            self._tails.add(addition.run, addition.first, addition.records)
            if addition.ended is not None:
                self._shelf.put(key, addition.ended.info.end_time or 0, addition.size)
            addition.committed()
        for done in group.waiting:
            if not done.done():
                done.set_result(None)

    # Retention.

    def _excess(self) -> None:
        """Forget what is too much, soon: together with what else ends until then."""
        if not self._sweeping:
            self._sweeping = True
            self._loop.call_soon(self._sweep)

    def _sweep(self) -> None:
        self._sweeping = False
        runs: list[int] = []
        while len(runs) < MOST_REMOVALS and (key := self._shelf.oldest_in_excess()) is not None:
            runs.append(self._forget(key))
        if runs:
            self._writer.put(Removal(runs))
            self._excess()

    def _look_over(self) -> None:
        self._excess()
        self._timer = self._loop.call_later(SWEEP_INTERVAL, self._look_over)

    def _forget(self, key: RunKey) -> int:
        self._shelf.remove(key)
        run = self._logs.pop(key).run
        del self._keys[run]
        self._tails.remove(run)
        return run

    # Reading.

    async def read(self, key: RunKey, after: int, most_bytes: int) -> Sequence[Record] | None:
        """Return committed events after a number."""
        log = self._logs.get(key)
        if log is None:
            return None
        if after >= log.last:
            return []
        records = self._tails.read(log.run, after, most_bytes)
        return await self._reader.events(log.run, after, log.last, most_bytes) if records is None else records

    def reading(self, key: RunKey) -> AbstractContextManager[None]:
        """Keep retention from forgetting a run while inside."""
        return self._shelf.reading(key)

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the committed events with these numbers."""
        log = self._logs.get(key)
        return [] if log is None else await self._reader.pick(log.run, sequences)

    def has_ended(self, key: RunKey) -> bool:
        """Say whether a run has ended and is kept."""
        self._sweep()
        return key in self._shelf

    async def header(self, key: RunKey) -> Header | None:
        """Return what a run that has ended was given."""
        return await self._reader.header(self._logs[key].run) if self.has_ended(key) else None

    async def info(self, key: RunKey) -> RunInfo | None:
        """Return how a run that has ended stands."""
        return await self._reader.info(self._logs[key].run) if self.has_ended(key) else None

    async def finishes(self, key: RunKey) -> Sequence[int] | None:
        """Return the numbers of the `step_finished` events of a run that has ended."""
        return await self._reader.finishes(self._logs[key].run) if self.has_ended(key) else None

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return runs that have ended and match, newest first."""
        self._sweep()
        found: list[RunInfo] = []
        while len(found) < most:
            page = await self._reader.list_ended(listing, before, most)
            found += [info for info in page if info.key in self._shelf]  # others are being forgotten
            if len(page) < most:
                break
            before = page[-1].position
        return found[:most]

    async def unfinished(self) -> AsyncIterator[Unfinished]:
        """Yield the runs that an earlier process left under way, the oldest first."""
        for key in self._left:
            log = self._logs[key]
            unfinished = await self._reader.unfinished(log.run)
            if unfinished is not None:
                log.asked = log.last = len(unfinished.records)
                log.size = sum(len(record.data) for record in unfinished.records)
                yield unfinished
        self._taken_up = True

    # Its own end.

    def listen(self, told: Trouble) -> None:
        """Tell when commits begin to fail, and when they succeed again."""
        self._listeners.append(told)
        if self._trouble:
            told(self._trouble)

    def _take_trouble(self, error: JournalError | None) -> None:
        trouble = "" if error is None else str(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self.lost = error is not None and error.lasting
        for done in self._changes:
            if error is not None and not done.done():
                done.set_exception(error)
        for told in self._listeners:
            told(trouble)

    async def close(self) -> None:
        """Commit what is outstanding and release everything. Closing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        await self._reader.close()
        # A server that could not start leaves the journal as it was: its runs are still those of the one before.
        await self._writer.close(clean=self.clean or self._taken_up)
        self._lock.release()


def _ignore(_place: str) -> None:
    """Observe nothing."""
