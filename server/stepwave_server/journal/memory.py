"""The journal in memory: commits at once, forgets with the process; ended runs are kept up to a count and an age."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.journal.base import Header, Kept, Listing
from stepwave_server.wire.events import Kind, Record

__all__ = ["MemoryJournal", "Retention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long ended runs are kept: the newest `count`, none older than `age` nanoseconds, within `size` bytes."""

    count: int = 1_000
    age: int = 24 * 3600 * 1_000_000_000
    size: int = 1 << 30


@dataclass(slots=True)
class _Log:
    """A run's events. Two flat sequences take half the memory of one of records."""

    kinds: list[Kind] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    size: int = 0

    def record(self, sequence: int) -> Record:
        return Record(self.kinds[sequence - 1], self.data[sequence - 1])


class MemoryJournal:
    """Keeps events in this process.

    Args:
        clock: Nanoseconds since the epoch, for the age of ended runs.
        retention: How long these are kept.
    """

    name = "memory"

    def __init__(self, clock: Callable[[], int], retention: Retention | None = None) -> None:
        self._clock = clock
        self._retention = retention or Retention()
        self._logs: dict[RunKey, _Log] = {}
        self._kept: dict[RunKey, Kept] = {}  # in the order in which they ended
        self._readers: Counter[RunKey] = Counter()
        self._size = 0

    def create(self, header: Header) -> None:
        """Open a run."""
        self._logs[header.key] = _Log()

    def append(self, key: RunKey, records: Sequence[Record], committed: Callable[[], None]) -> None:
        """Add events to a run and commit them at once."""
        log = self._logs[key]
        for kind, data in records:
            log.kinds.append(kind)
            log.data.append(data)
            log.size += len(data)
        committed()

    def finish(self, kept: Kept) -> None:
        """Note that a run has ended, and forget ended runs that are too many or too old."""
        self._kept[kept.header.key] = kept
        self._size += self._logs[kept.header.key].size
        self.sweep()

    def sweep(self) -> None:
        """Forget ended runs that are too many, too old, or too large together; the newest stays whatever its size.

        A run that is being read stays until it is not, and does not count.
        """
        while (oldest := self._oldest()) is not None and self._exceeds(oldest):
            self.delete(oldest.header.key)

    def _oldest(self) -> Kept | None:
        return next((kept for key, kept in self._kept.items() if key not in self._readers), None)

    def _exceeds(self, oldest: Kept) -> bool:
        bounds = self._retention
        if (oldest.info.end_time or 0) < self._clock() - bounds.age:
            return True
        if len(self._kept) <= bounds.count and self._size <= bounds.size:  # as nearly always
            return False
        read = [key for key in self._readers if key in self._kept]
        count = len(self._kept) - len(read)
        size = self._size - sum(self._logs[key].size for key in read)
        return count > bounds.count or (size > bounds.size and count > 1)

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

    @contextmanager
    def reading(self, key: RunKey) -> Iterator[None]:
        """Keep retention from forgetting a run while inside."""
        self._readers[key] += 1
        try:
            yield
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key]
                self.sweep()

    async def pick(self, key: RunKey, sequences: Sequence[int]) -> Sequence[Record]:
        """Return the events with these numbers."""
        log = self._logs[key]
        return [log.record(sequence) for sequence in sequences]

    def kept(self, key: RunKey) -> Kept | None:
        """Return a run that has ended."""
        self.sweep()
        return self._kept.get(key)

    def list_kept(self, listing: Listing) -> Sequence[RunInfo]:
        """Return the runs that have ended and match."""
        self.sweep()
        return [kept.info for kept in self._kept.values() if listing.matches(kept.info)]

    def delete(self, key: RunKey) -> None:
        """Forget a run that has ended."""
        del self._kept[key]
        self._size -= self._logs.pop(key).size

    def discard(self, key: RunKey) -> None:
        """Forget a run that never will end."""
        self._logs.pop(key, None)

    async def close(self) -> None:
        """Do nothing: there is nothing outstanding."""
