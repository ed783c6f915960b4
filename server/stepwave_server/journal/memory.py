"""The journal in memory. It commits at once, and its events are lost with the process."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from heapq import nlargest

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.journal.base import CommitListener, Ended, Header, Listing, Position, Unfinished
from stepwave_server.journal.commits import Commits
from stepwave_server.journal.kept_bytes import KeptBytes, definition_size
from stepwave_server.journal.retention import EndedRuns, Retention
from stepwave_server.wire.events.encode import Kind, Record

__all__ = ["MemoryJournal"]


@dataclass(slots=True)
class _Log:
    """A run's header, events and summary. Two flat lists take half the memory of one list of records.

    Attributes:
        definition: Bytes of its definition.
        size: Bytes of its events.
    """

    header: Header
    kinds: list[Kind] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    definition: int = 0
    size: int = 0
    ended: Ended | None = None

    def record(self, sequence: int) -> Record:
        return Record(self.kinds[sequence - 1], self.data[sequence - 1])


class MemoryJournal:
    """Keeps events in this process.

    Args:
        clock: Nanoseconds since the epoch, for the age of ended runs.
        retention: How long ended runs are kept.
    """

    name = "memory"
    durable = False
    lost = False
    clean = True
    location = "memory"

    def __init__(self, clock: Callable[[], int], retention: Retention | None = None) -> None:
        self._logs: dict[RunKey, _Log] = {}
        self._ended_runs = EndedRuns(clock, retention or Retention(), self.sweep)
        self.commits = Commits()
        self.kept_bytes = KeptBytes()

    def create(self, header: Header) -> None:
        """Add a run."""
        log = self._logs[header.key] = _Log(header, definition=definition_size(header.workflow, header.input))
        self.kept_bytes.add(header.key.namespace, log.definition)

    def append(
        self, key: RunKey, records: Sequence[Record], committed: Callable[[], None], ended: Ended | None = None
    ) -> None:
        """Append events to a run, and commit them at once."""
        log = self._logs[key]
        before = log.size
        for kind, data in records:
            log.kinds.append(kind)
            log.data.append(data)
            log.size += len(data)
        self.kept_bytes.add(key.namespace, log.size - before)
        if ended is not None:
            log.ended = ended
            self._ended_runs.add(key, ended.info.end_time or 0, log.size)
        committed()

    async def detach(self, key: RunKey) -> None:
        """Do nothing: no run outlives the process."""

    def sweep(self) -> None:
        """Delete the ended runs that exceed the retention."""
        while (key := self._ended_runs.oldest_in_excess()) is not None:
            self._delete(key)

    async def read(self, key: RunKey, after: int, max_bytes: int) -> Sequence[Record] | None:
        """Return events after a sequence number."""
        log = self._logs.get(key)
        if log is None:
            return None
        records = []
        size = 0
        for index in range(after, len(log.data)):
            records.append(log.record(index + 1))
            size += len(log.data[index])
            if size >= max_bytes:
                break
        return records

    def reading(self, key: RunKey) -> AbstractContextManager[None]:
        """Keep retention from deleting a run while inside."""
        return self._ended_runs.reading(key)

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the events with these sequence numbers."""
        log = self._logs.get(key)
        return [] if log is None else [log.record(sequence) for sequence in sequences]

    def has_ended(self, key: RunKey) -> bool:
        """Return whether a run has ended and is in the journal."""
        self.sweep()
        return key in self._ended_runs

    async def header(self, key: RunKey) -> Header | None:
        """Return the header of a run that has ended."""
        return self._logs[key].header if self.has_ended(key) else None

    async def info(self, key: RunKey) -> RunInfo | None:
        """Return the final state of a run that has ended."""
        ended = self._ended(key)
        return None if ended is None else ended.info

    async def finishes(self, key: RunKey) -> Sequence[int] | None:
        """Return the sequence numbers of the `step_finished` events of a run that has ended."""
        ended = self._ended(key)
        return None if ended is None else ended.finishes

    async def list_ended(self, listing: Listing, before: Position | None, most: int) -> Sequence[RunInfo]:
        """Return runs that have ended and match, newest first."""
        self.sweep()
        infos = (log.ended.info for log in self._logs.values() if log.ended is not None)
        found = (info for info in infos if listing.matches(info) and (before is None or info.position < before))
        return nlargest(most, found, key=lambda info: info.position)

    async def delete(self, key: RunKey) -> None:
        """Delete a run that has ended."""
        if key in self._ended_runs:
            self._delete(key)

    def mark_broken(self, key: RunKey) -> None:
        """Do nothing: no other server recovers the run."""

    def discard(self, key: RunKey) -> bool:
        """Delete a run under way, or one that has ended."""
        if key in self._ended_runs:
            self._ended_runs.remove(key)
        if key in self._logs:
            self._forget(key)
        return False

    async def unfinished(self) -> AsyncIterator[Unfinished]:
        """Yield nothing: no run outlives the process."""
        return
        yield

    def listen(self, listener: CommitListener) -> None:
        """Do nothing: commits never fail."""

    async def close(self) -> None:
        """Do nothing: every event is committed."""

    def _ended(self, key: RunKey) -> Ended | None:
        return self._logs[key].ended if self.has_ended(key) else None

    def _delete(self, key: RunKey) -> None:
        self._ended_runs.remove(key)
        self._forget(key)

    def _forget(self, key: RunKey) -> None:
        log = self._logs.pop(key)
        self.kept_bytes.add(key.namespace, -log.definition - log.size)
