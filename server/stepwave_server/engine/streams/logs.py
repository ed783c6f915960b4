"""What actions log, kept in memory within bounds: for each run, and for all runs together.

Attempts log from any thread, so a lock protects the logs. It is reentrant: while a thread holds it, Python may run a
finalizer that logs. No other code of an action runs under the lock.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from stepwave_server.core.info import RunKey
from stepwave_server.engine.base import LogPage
from stepwave_server.wire.events.encode import LogEntry, encode_log

__all__ = ["LogStore", "RunLog"]

MAX_RECORDS = 1_000
"""Maximum number of records of one run."""

MAX_RUN_BYTES = 256 * 1024
"""Maximum size of the records of one run in bytes. A single record may be larger than the rest of this."""

MAX_BYTES = 64 << 20
"""Maximum size of the records of all runs in bytes."""

RECORD_OVERHEAD = 150
"""Bytes of memory that a record takes beside its data."""


class _Record(NamedTuple):
    """A message that an attempt logged: its number in the run, its step, and an encoded `step_log` event."""

    number: int
    step_id: str
    data: bytes

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return len(self.data) + RECORD_OVERHEAD


class LogStore:
    """The logs of all runs that have logged anything.

    Args:
        clock: Returns the time in nanoseconds since the epoch.
        max_bytes: Maximum size of all records in bytes. Beyond it, the records of the run that ended first are dropped,
            the oldest first; if none has ended, those of the run that logged first.
    """

    def __init__(self, clock: Callable[[], int], max_bytes: int = MAX_BYTES) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.size = 0
        self._max_bytes = max_bytes
        self._logs: dict[RunKey, RunLog] = {}
        # Each log is in one of these as well, unless its run is under way and all its records were dropped.
        self._running: dict[RunKey, RunLog] = {}
        self._ended: dict[RunKey, RunLog] = {}
        self._emptied: dict[RunKey, RunLog] = {}

    def open(self, key: RunKey) -> "RunLog":
        """Return an empty log for a new run. It takes the place of the log of a deleted run with the same id."""
        self.delete(key)
        return RunLog(self, key)

    def page(self, key: RunKey, step_id: str, after: int, most: int) -> LogPage:
        """Return at most `most` records of a run after a number; with a step, only records of this step."""
        with self.lock:
            log = self._logs.get(key)
            if log is None:
                return LogPage([], 0, 0)
            found = [it for it in log.records if it.number > after and step_id in {"", it.step_id}]
            following = found[most - 1].number if len(found) > most else 0
            return LogPage([it.data for it in found[:most]], log.dropped, following)

    def delete(self, key: RunKey) -> None:
        """Delete the log of a run that has ended."""
        with self.lock:
            log = self._logs.pop(key, None)
            if log is not None:
                self.size -= log.size
                for logs in (self._running, self._ended, self._emptied):
                    logs.pop(key, None)

    def delete_evicted(self, is_kept: Callable[[RunKey], bool]) -> None:
        """Delete the logs of ended runs that are no longer kept. Retention deletes the run that ended first, first."""
        for logs in (self._ended, self._emptied):
            while (key := next(iter(logs), None)) is not None and not is_kept(key):
                self.delete(key)

    def hold(self, log: "RunLog") -> None:
        """Note that the log of a run under way has records again."""
        self._logs[log.key] = self._running[log.key] = log

    def end(self, log: "RunLog") -> None:
        """Note that a run has ended."""
        if self._logs.get(log.key) is log:
            self._running.pop(log.key, None)
            (self._ended if log.records else self._emptied)[log.key] = log

    def fit(self) -> None:
        """Drop records until all fit."""
        while self.size > self._max_bytes:
            logs = self._ended or self._running
            log = next(iter(logs.values()))
            log.drop()
            if not log.records:
                del logs[log.key]
                if logs is self._ended:
                    self._emptied[log.key] = log


class RunLog:
    """The log of one run: its newest records.

    Attributes:
        key: The run.
        records: The records that are kept, in order.
        size: Their size in bytes.
        dropped: Number of records that are no longer kept.

    Args:
        store: The logs of all runs.
    """

    __slots__ = ("_count", "_ended", "_store", "_time", "dropped", "key", "records", "size")

    def __init__(self, store: LogStore, key: RunKey) -> None:
        self._store = store
        self._count = 0
        self._time = 0
        self._ended = False
        self.key = key
        self.records: deque[_Record] = deque()
        self.size = 0
        self.dropped = 0

    def add(self, step_id: str, attempt: int, entry: LogEntry) -> bytes | None:
        """Add what an attempt logged, and return it as an encoded `step_log` event; `None`: the run has ended."""
        store = self._store
        with store.lock:
            if self._ended:
                return None
            if not self.records:
                store.hold(self)
            self._count += 1
            self._time = max(self._time, store.clock())
            data = encode_log(self.key.run_id, self._time, self._count, step_id, attempt, entry)
            record = _Record(self._count, step_id, data)
            self.records.append(record)
            self.size += record.size
            store.size += record.size
            while len(self.records) > MAX_RECORDS or self.size > MAX_RUN_BYTES:
                self.drop()
            store.fit()
            return data

    def drop(self) -> None:
        """Drop the oldest record."""
        size = self.records.popleft().size
        self.dropped += 1
        self.size -= size
        self._store.size -= size

    def end(self) -> None:
        """End with the run. The log takes no more records."""
        with self._store.lock:
            self._ended = True
            self._store.end(self)
