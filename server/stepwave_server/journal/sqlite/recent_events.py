"""The recent events of runs, in memory, so that a watcher of a run under way does not read the file."""

from collections import OrderedDict
from collections.abc import Sequence

from stepwave_server.wire.events.encode import Record

__all__ = ["RecentEvents"]

MAX_RUN_BYTES = 512 * 1024
"""Bytes kept for one run."""

MAX_TOTAL_BYTES = 64 << 20
"""Bytes kept for all runs together."""

OVERHEAD = 120
"""Bytes of memory that a record takes besides its data."""


class _RunEvents:
    """The recent events of one run, without gaps.

    Attributes:
        size: Bytes of memory that the events take.
    """

    __slots__ = ("_first", "_records", "_start", "size")

    def __init__(self) -> None:
        self._first = 1
        self._records: list[Record] = []
        self._start = 0
        self.size = 0

    def add(self, first: int, records: Sequence[Record]) -> None:
        """Append events, the first of which has the number `first`, and drop the oldest beyond the bound."""
        if not self._records:
            self._first = first
        self._records.extend(records)
        self.size += sum(len(record.data) for record in records) + OVERHEAD * len(records)
        while self.size > MAX_RUN_BYTES and self._start < len(self._records) - 1:
            self.size -= len(self._records[self._start].data) + OVERHEAD
            self._start += 1
        if self._start > len(self._records) // 2:
            del self._records[: self._start]
            self._first += self._start
            self._start = 0

    def read(self, after: int, max_bytes: int) -> Sequence[Record] | None:
        """Return the events after a number; `None`: some of them are no longer in memory."""
        index = after + 1 - self._first
        if index < self._start:
            return None
        size = 0
        for end in range(index, len(self._records)):
            size += len(self._records[end].data)
            if size >= max_bytes:
                return self._records[index : end + 1]
        return self._records[index:]


class RecentEvents:
    """The recent events of many runs, within a bound for each run and one for all.

    Beyond the bound for all, the run whose last event is the oldest is dropped first.
    """

    def __init__(self) -> None:
        self._runs: OrderedDict[int, _RunEvents] = OrderedDict()
        self._size = 0

    def add(self, run: int, first: int, records: Sequence[Record]) -> None:
        """Append events to a run; the first of them has the number `first`."""
        events = self._runs.get(run)
        if events is None:
            events = self._runs[run] = _RunEvents()
        else:
            self._runs.move_to_end(run)
        before = events.size
        events.add(first, records)
        self._size += events.size - before
        while self._size > MAX_TOTAL_BYTES and len(self._runs) > 1:
            _, dropped = self._runs.popitem(last=False)
            self._size -= dropped.size

    def read(self, run: int, after: int, max_bytes: int) -> Sequence[Record] | None:
        """Return a run's events after a number; `None`: some of them are no longer in memory."""
        events = self._runs.get(run)
        return None if events is None else events.read(after, max_bytes)

    def remove(self, run: int) -> None:
        """Drop the events of a run."""
        events = self._runs.pop(run, None)
        if events is not None:
            self._size -= events.size
