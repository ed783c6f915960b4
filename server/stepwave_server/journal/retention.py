"""Which ended runs are kept: the newest, within a count, an age and a size, and those that are being read."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import SECOND

__all__ = ["Retention", "Shelf"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long ended runs are kept: the newest `count`, none older than `age` nanoseconds, within `size` bytes."""

    count: int = 1_000
    age: int = 24 * 3600 * SECOND
    size: int = 1 << 30


class _Entry(NamedTuple):
    end_time: int
    size: int


class Shelf:
    """The ended runs that are kept, in the order in which they ended: the oldest goes first.

    Args:
        clock: Nanoseconds since the epoch.
        retention: How long they are kept.
        excess: Called when there may be runs too many, too old or too large: when one has been put here, and when one
            is not read any more.
    """

    def __init__(self, clock: Callable[[], int], retention: Retention, excess: Callable[[], None]) -> None:
        self._clock = clock
        self._retention = retention
        self._excess = excess
        self._entries: dict[RunKey, _Entry] = {}
        self._readers: Counter[RunKey] = Counter()
        self._size = 0

    def __contains__(self, key: RunKey) -> bool:
        """Say whether a run is kept here."""
        return key in self._entries

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._entries)

    def put(self, key: RunKey, end_time: int, size: int) -> None:
        """Keep a run that has ended just now, or later than all others."""
        self._entries[key] = _Entry(end_time, size)
        self._size += size
        self._excess()

    def remove(self, key: RunKey) -> None:
        """Forget a run."""
        self._size -= self._entries.pop(key).size

    def oldest_in_excess(self) -> RunKey | None:
        """Return the run to forget next; `None`: all may stay.

        The newest stays whatever its size. A run that is being read stays until it is not, and does not count.
        """
        oldest = next((key for key in self._entries if key not in self._readers), None)
        return oldest if oldest is not None and self._exceeds(self._entries[oldest]) else None

    @contextmanager
    def reading(self, key: RunKey) -> Iterator[None]:
        """Keep a run from being forgotten while inside."""
        self._readers[key] += 1
        try:
            yield
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key]
                self._excess()

    def _exceeds(self, oldest: _Entry) -> bool:
        bounds = self._retention
        if oldest.end_time < self._clock() - bounds.age:
            return True
        if len(self._entries) <= bounds.count and self._size <= bounds.size:  # as nearly always
            return False
        read = [self._entries[key] for key in self._readers if key in self._entries]
        count = len(self._entries) - len(read)
        size = self._size - sum(entry.size for entry in read)
        return count > bounds.count or (size > bounds.size and count > 1)
