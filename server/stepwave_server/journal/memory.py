"""The journal in memory: commits at once, forgets with the process; ended runs are kept up to a count and an age."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from heapq import nlargest

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.journal.base import Ended, Header, Listing, Position, Trouble, Unfinished
from stepwave_server.journal.retention import Retention, Shelf
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["MemoryJournal"]


@dataclass(slots=True)
class _Log:
    """A run's events, what it was given and how it ended. Two flat sequences take half the memory of one of records."""

    header: Header
    kinds: list[Kind] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    size: int = 0
    ended: Ended | None = None

    def record(self, sequence: int) -> Record:
        return Record(self.kinds[sequence - 1], self.data[sequence - 1])


class MemoryJournal:
    """Keeps events in this process.

    Args:
        clock: Nanoseconds since the epoch, for the age of ended runs.
        retention: How long these are kept.
    """

    name = "memory"
    durable = False
    lost = False
    clean = True
    place = "memory"

    def __init__(self, clock: Callable[[], int], retention: Retention | None = None) -> None:
        self._logs: dict[RunKey, _Log] = {}
        self._shelf = Shelf(clock, retention or Retention(), self.sweep)

    def create(self, header: Header) -> None:
        """Open a run."""
        self._logs[header.key] = _Log(header)

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Add events to a run and commit them at once; forget ended runs that are too many or too old."""
        log = self._logs[key]
        for kind, data in records:
            log.kinds.append(kind)
            log.data.append(data)
            log.size += len(data)
        if ended is not None:
            log.ended = ended
            self._shelf.put(key, ended.info.end_time or 0, log.size)
        committed()

    async def detach(self, key: RunKey) -> None:
        """Do nothing: who holds a run is forgotten with the process."""

    def sweep(self) -> None:
        """Forget ended runs that are too many, too old, or too large together."""
        while (key := self._shelf.oldest_in_excess()) is not None:
            self._forget(key)

    async def read(self, key: RunKey, after: int, most_bytes: int) -> Sequence[Record] | None:
        """Return events after a number."""
        log = self._logs.get(key)
        if log is None:
            return None
        records = []
        size = 0
        for index in range(after, len(log.data)):
            records.append(log.record(index + 1))
            size += len(log.data[index])
            if size >= most_bytes:
                break
        return records

    def reading(self, key: RunKey) -> AbstractContextManager[None]:
        """Keep retention from forgetting a run while inside."""
        return self._shelf.reading(key)

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the events with these numbers."""
        log = self._logs.get(key)
        return [] if log is None else [log.record(sequence) for sequence in sequences]

    def has_ended(self, key: RunKey) -> bool:
        """Say whether a run has ended and is kept."""
        self.sweep()
        return key in self._shelf

    async def header(self, key: RunKey) -> Header | None:
        """Return what a run that has ended was given."""
        return self._logs[key].header if self.has_ended(key) else None

    async def info(self, key: RunKey) -> RunInfo | None:
        """Return how a run that has ended stands."""
        ended = self._ended(key)
        return None if ended is None else ended.info

    async def finishes(self, key: RunKey) -> Sequence[int] | None:
        """Return the numbers of the `step_finished` events of a run that has ended."""
        ended = self._ended(key)
        return None if ended is None else ended.finishes

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return runs that have ended and match, newest first."""
        self.sweep()
        infos = (log.ended.info for log in self._logs.values() if log.ended is not None)
        found = (info for info in infos if listing.matches(info) and (before is None or info.position < before))
        return nlargest(most, found, key=lambda info: info.position)

    async def delete(self, key: RunKey) -> None:
        """Forget a run that has ended."""
        if key in self._shelf:
            self._forget(key)

    def mark_broken(self, key: RunKey) -> None:
        """Do nothing: no other server takes the run up."""

    def discard(self, key: RunKey) -> bool:
        """Forget a run under way."""
        self._logs.pop(key, None)
        return False

    async def unfinished(self) -> AsyncIterator[Unfinished]:
        """Yield nothing: no run outlives its process."""
        return
        yield

    def listen(self, told: Trouble) -> None:
        """Do nothing: commits never fail."""

    async def close(self) -> None:
        """Do nothing: there is nothing outstanding."""

    def _ended(self, key: RunKey) -> Ended | None:
        return self._logs[key].ended if self.has_ended(key) else None

    def _forget(self, key: RunKey) -> None:
        self._shelf.remove(key)
        del self._logs[key]
