"""The newest events of runs, in memory: who watches a run live reads no file."""

from collections import OrderedDict
from collections.abc import Sequence

from stepwave_server.wire.events.encode import Record

__all__ = ["RecentEvents"]

MAX_RUN_BYTES = 512 * 1024
"""Bytes of events that are kept for one run."""

MAX_TOTAL_BYTES = 64 << 20
"""Bytes of events that are kept for all runs."""

OVERHEAD = 120
"""Bytes that a record takes beside its data."""


class _Tail:
    """The newest events of one run, without gaps."""

    __slots__ = ("_first", "_records", "_start", "size")

    def __init__(self) -> None:
        self._first = 1
        self._records: list[Record] = []
        self._start = 0
        self.size = 0

    def add(self, first: int, records: Sequence[Record]) -> None:
        """Put the next events behind the others, and let the oldest go when they are too many."""
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

    def read(self, after: int, most_bytes: int) -> Sequence[Record] | None:
        """Return events after a number; `None`: they are not all here."""
        index = after + 1 - self._first
        if index < self._start:
            return None
        size = 0
        for end in range(index, len(self._records)):
            size += len(self._records[end].data)
            if size >= most_bytes:
                return self._records[index : end + 1]
        return self._records[index:]


class RecentEvents:
    """The newest events of many runs, within bounds for each and for all: the run that is silent longest goes first."""

    def __init__(self) -> None:
        self._tails: OrderedDict[int, _Tail] = OrderedDict()
        self._size = 0

    def add(self, run: int, first: int, records: Sequence[Record]) -> None:
        """Keep the next events of a run."""
        tail = self._tails.get(run)
        if tail is None:
            tail = self._tails[run] = _Tail()
        else:
            self._tails.move_to_end(run)
        before = tail.size
        tail.add(first, records)
        self._size += tail.size - before
        while self._size > MAX_TOTAL_BYTES and len(self._tails) > 1:
            _, gone = self._tails.popitem(last=False)
            self._size -= gone.size

    def read(self, run: int, after: int, most_bytes: int) -> Sequence[Record] | None:
        """Return events of a run after a number; `None`: they are not all here."""
        tail = self._tails.get(run)
        return None if tail is None else tail.read(after, most_bytes)

    def remove(self, run: int) -> None:
        """Forget a run."""
        tail = self._tails.pop(run, None)
        if tail is not None:
            self._size -= tail.size
