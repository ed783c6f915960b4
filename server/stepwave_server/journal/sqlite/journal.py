"""The journal in SQLite: one file, with one writer thread and several reader threads."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.journal.base import CommitListener, Ended, Header, JournalError, Listing, Position, Unfinished
from stepwave_server.journal.commits import Commits
from stepwave_server.journal.kept_bytes import KeptBytes, definition_size
from stepwave_server.journal.retention import EndedRuns, Retention
from stepwave_server.journal.sqlite.database import Synchronous, connect, create, migrate
from stepwave_server.journal.sqlite.group import Addition, Breakage, Detachment, Group, Removal
from stepwave_server.journal.sqlite.owner import Lock
from stepwave_server.journal.sqlite.reader import Reader
from stepwave_server.journal.sqlite.recent_events import RecentEvents
from stepwave_server.journal.sqlite.rows import ENDED, PLACES, UNFINISHED
from stepwave_server.journal.sqlite.storage_errors import explain
from stepwave_server.journal.sqlite.writer import Writer
from stepwave_server.wire.events.encode import Record

__all__ = ["SqliteJournal"]

SWEEP_INTERVAL = 60.0
"""Seconds between checks for ended runs that are too old."""

MAX_REMOVALS = 500
"""Runs deleted in one transaction."""


@dataclass(slots=True)
class _Log:
    """A run in the file, or one that will be there with its first events.

    Attributes:
        run: Its number.
        appended: The sequence number of the last appended event.
        committed: The sequence number of the last event that is committed, as far as the event loop knows.
        definition: Bytes of its definition.
        size: Bytes of its events.
        header: Its header, until it is queued with the first events.
    """

    run: int
    appended: int = 0
    committed: int = 0
    definition: int = 0
    size: int = 0
    header: Header | None = None


class SqliteJournal:
    """Keeps events in a file. They are committed before they have an effect.

    Events are committed in groups: a group has all events that were appended while the writer was busy. The recent
    events of every run stay in memory for the watchers of runs under way.
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
        self.location = str(path)
        self._lock = lock
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._logs: dict[RunKey, _Log] = {}
        self._keys: dict[int, RunKey] = {}
        self._recent_events = RecentEvents()
        self._listeners: list[CommitListener] = []
        self._trouble = ""
        self.lost = False
        self.commits = Commits()
        self.kept_bytes = KeptBytes()
        self._changes: set[asyncio.Future[None]] = set()
        self._sweep_scheduled = False
        self._closed = False
        self._ended_runs = EndedRuns(clock, retention, self._schedule_sweep)
        self._earlier_runs = self._load(connection)
        self._writer = Writer(path, connection, self._publish, self._on_trouble, observe)
        self.clean = self._writer.clean
        self._recovered = False
        self._reader = Reader(path)
        self._timer = self._loop.call_later(SWEEP_INTERVAL, self._sweep_periodically)

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
        """Open the journal in a file, or create it. The event loop must be running.

        Args:
            path: The file. It and its folder are created if they are missing.
            clock: Nanoseconds since the epoch, for the age of ended runs.
            retention: How long ended runs are kept.
            synchronous: `full`: commits survive a power cut; `normal`: they survive the end of the process only.
            observe: Called with `before-commit` and `after-commit` on the writer's thread, and with
                `before-publication` on the event loop.

        Raises:
            JournalError: The file is in use, damaged, from a later version, not a journal, or cannot be written.
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
        """Load the keys of all runs, and return those that have not ended, the oldest first."""
        (self._next_run,) = connection.execute(
            "SELECT 1 + max(coalesce((SELECT max(run) FROM runs), 0), coalesce((SELECT max(run) FROM rubbish), 0))"
        ).fetchone()
        for run, namespace, run_id, definition, end_time, size in connection.execute(ENDED):
            log = _Log(run, committed=PLACES - 1, definition=definition, size=size)
            key = self._register(log, RunKey(namespace, run_id))
            self._ended_runs.add(key, end_time, size)
        return [
            self._register(_Log(run, definition=definition, size=size), RunKey(namespace, run_id))
            for run, namespace, run_id, definition, size in connection.execute(UNFINISHED)
        ]

    def _register(self, log: _Log, key: RunKey) -> RunKey:
        self._logs[key] = log
        self._keys[log.run] = key
        self.kept_bytes.add(key.namespace, log.definition + log.size)
        return key

    def _forget(self, key: RunKey) -> int:
        """Forget a run, and return its number."""
        log = self._logs.pop(key)
        del self._keys[log.run]
        self.kept_bytes.add(key.namespace, -log.definition - log.size)
        return log.run

    # Writing.

    def create(self, header: Header) -> None:
        """Add a run. It is committed with its first events."""
        definition = definition_size(header.workflow, header.input)
        self._register(_Log(self._next_run, definition=definition, header=header), header.key)
        self._next_run += 1

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Append events to a run, all or none."""
        log = self._logs[key]
        added = sum(len(record.data) for record in records)
        log.size += added
        self.kept_bytes.add(key.namespace, added)
        header, log.header = log.header, None
        self._writer.put(
            Addition(
                run=log.run,
                first=log.appended + 1,
                records=records,
                committed=committed,
                header=header,
                ended=ended,
                size=log.size,
            )
        )
        log.appended += len(records)

    async def detach(self, key: RunKey) -> None:
        """Detach a run under way; returns when that is committed."""
        self._require_commits()
        done = self._loop.create_future()
        await self._change(Detachment(self._logs[key].run, done), done)

    async def delete(self, key: RunKey) -> None:
        """Delete a run that has ended; returns when that is committed."""
        self._require_commits()
        if key in self._ended_runs:
            done = self._loop.create_future()
            await self._change(Removal([self._delete(key)], done), done)

    def _require_commits(self) -> None:
        if self._trouble:
            raise JournalError(self._trouble)

    async def _change(self, change: Detachment | Removal, done: asyncio.Future[None]) -> None:
        """Queue a change, and wait until it is committed.

        Raises:
            JournalError: Commits fail. The caller does not wait until they succeed again.
        """
        self._changes.add(done)
        self._writer.put(change)
        try:
            await done
        finally:
            self._changes.discard(done)

    def mark_broken(self, key: RunKey) -> None:
        """Mark a run under way as broken by a defect, after its events so far."""
        log = self._logs[key]
        if log.header is None:
            self._writer.put(Breakage(log.run))

    def discard(self, key: RunKey) -> bool:
        """Discard a run under way. It stays in the file for the next server if it has events."""
        log = self._logs[key]
        if log.header is None:
            return True
        self._forget(key)
        return False

    def _publish(self, group: Group) -> None:
        """Publish a committed group: its effects may happen now."""
        self._observe("before-publication")
        self.commits.add(sum(len(addition.records) for addition in group.additions), group.seconds)
        for addition in group.additions:
            key = self._keys[addition.run]
            log = self._logs[key]
            log.committed += len(addition.records)
            self._recent_events.add(addition.run, addition.first, addition.records)
            if addition.ended is not None:
                self._ended_runs.add(key, addition.ended.info.end_time or 0, addition.size)
            addition.committed()
        for done in group.futures:
            if not done.done():
                done.set_result(None)

    # Retention.

    def _schedule_sweep(self) -> None:
        """Schedule a sweep, so that runs that end at the same time are deleted in one transaction."""
        if not self._sweep_scheduled:
            self._sweep_scheduled = True
            self._loop.call_soon(self._sweep)

    def _sweep(self) -> None:
        self._sweep_scheduled = False
        runs: list[int] = []
        while len(runs) < MAX_REMOVALS and (key := self._ended_runs.oldest_in_excess()) is not None:
            runs.append(self._delete(key))
        if runs:
            self._writer.put(Removal(runs))
            self._schedule_sweep()

    def _sweep_periodically(self) -> None:
        self._schedule_sweep()
        self._timer = self._loop.call_later(SWEEP_INTERVAL, self._sweep_periodically)

    def _delete(self, key: RunKey) -> int:
        self._ended_runs.remove(key)
        run = self._forget(key)
        self._recent_events.remove(run)
        return run

    # Reading.

    async def read(self, key: RunKey, after: int, max_bytes: int) -> Sequence[Record] | None:
        """Return committed events after a sequence number."""
        log = self._logs.get(key)
        if log is None:
            return None
        if after >= log.committed:
            return []
        records = self._recent_events.read(log.run, after, max_bytes)
        if records is None:
            records = await self._reader.events(log.run, after, log.committed, max_bytes)
            if self._logs.get(key) is not log:  # the run was deleted during the read, which may lack events
                return None
        return records

    def reading(self, key: RunKey) -> AbstractContextManager[None]:
        """Keep retention from deleting a run while inside."""
        return self._ended_runs.reading(key)

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the committed events with these sequence numbers."""
        log = self._logs.get(key)
        return [] if log is None else await self._reader.pick(log.run, sequences)

    def has_ended(self, key: RunKey) -> bool:
        """Return whether a run has ended and is in the journal."""
        self._sweep()
        return key in self._ended_runs

    async def header(self, key: RunKey) -> Header | None:
        """Return the header of a run that has ended."""
        return await self._reader.header(self._logs[key].run) if self.has_ended(key) else None

    async def info(self, key: RunKey) -> RunInfo | None:
        """Return the final state of a run that has ended."""
        return await self._reader.info(self._logs[key].run) if self.has_ended(key) else None

    async def finishes(self, key: RunKey) -> Sequence[int] | None:
        """Return the sequence numbers of the `step_finished` events of a run that has ended."""
        return await self._reader.finishes(self._logs[key].run) if self.has_ended(key) else None

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return runs that have ended and match, newest first."""
        self._sweep()
        found: list[RunInfo] = []
        while len(found) < most:
            page = await self._reader.list_ended(listing, before, most)
            found += [info for info in page if info.key in self._ended_runs]  # the others are being deleted
            if len(page) < most:
                break
            before = page[-1].position
        return found[:most]

    async def unfinished(self) -> AsyncIterator[Unfinished]:
        """Yield the runs that an earlier process left under way, the oldest first."""
        for key in self._earlier_runs:
            log = self._logs[key]
            unfinished = await self._reader.unfinished(log.run)
            if unfinished is not None:
                log.appended = log.committed = len(unfinished.records)
                yield unfinished
        self._recovered = True

    # Failing commits, and closing.

    def listen(self, listener: CommitListener) -> None:
        """Add a listener for failing commits."""
        self._listeners.append(listener)
        if self._trouble:
            listener(self._trouble)

    def _on_trouble(self, error: JournalError | None) -> None:
        trouble = "" if error is None else str(error)
        if trouble == self._trouble:
            return
        self._trouble = trouble
        self.lost = error is not None and error.lasting
        for done in self._changes:
            if error is not None and not done.done():
                done.set_exception(error)
        for listener in self._listeners:
            listener(trouble)

    async def close(self) -> None:
        """Commit the outstanding events, and close the file. Does nothing if it is closed already."""
        if self._closed:
            return
        self._closed = True
        self._timer.cancel()
        await self._reader.close()
        # A server that could not start has recovered no runs: a crash of the server before stays marked.
        await self._writer.close(clean=self.clean or self._recovered)
        self._lock.release()


def _ignore(_point: str) -> None:
    """Observe nothing."""
