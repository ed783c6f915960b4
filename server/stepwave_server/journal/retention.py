"""Retention: the newest ended runs are kept within a count, an age and a size. Runs being read are kept as well."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import SECOND

__all__ = ["EndedRuns", "Retention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Bounds on the ended runs that are kept. Beyond any of them, the oldest runs are deleted.

    Attributes:
        count: Number of runs.
        age: Nanoseconds since the run ended.
        size: Bytes of events of all runs together. The newest run is kept whatever its size.
    """

    count: int = 1_000
    age: int = 24 * 3600 * SECOND
    size: int = 1 << 30


class _Entry(NamedTuple):
    end_time: int
    size: int


class EndedRuns:
    """The ended runs that are kept, in the order in which they ended.

    Args:
        clock: Nanoseconds since the epoch.
        retention: The bounds on the runs.
        on_excess: Called when runs may exceed the bounds: after a run was added, and after a read of a run has ended.
    """

    def __init__(self, clock: Callable[[], int], retention: Retention, on_excess: Callable[[], None]) -> None:
        self._clock = clock
        self._retention = retention
        self._on_excess = on_excess
        self._entries: dict[RunKey, _Entry] = {}
        self._readers: Counter[RunKey] = Counter()
        self._size = 0

    def __contains__(self, key: RunKey) -> bool:
        """Return whether a run has ended and is kept."""
        return key in self._entries

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._entries)

    def add(self, key: RunKey, end_time: int, size: int) -> None:
        """Add a run, which has ended later than all others."""
        self._entries[key] = _Entry(end_time, size)
        self._size += size
        self._on_excess()

    def remove(self, key: RunKey) -> None:
        """Remove a run."""
        self._size -= self._entries.pop(key).size

    def oldest_in_excess(self) -> RunKey | None:
        """Return the run to delete next; `None`: all runs are within the bounds.

        A run that is being read is not deleted, and does not count towards the bounds.
        """
        oldest = next((key for key in self._entries if key not in self._readers), None)
        return oldest if oldest is not None and self._exceeds(self._entries[oldest]) else None

    @contextmanager
    def reading(self, key: RunKey) -> Iterator[None]:
        """Keep a run from being deleted while inside."""
        self._readers[key] += 1
        try:
            yield
        finally:
            self._readers[key] -= 1
            if not self._readers[key]:
                del self._readers[key]
                self._on_excess()

    def _exceeds(self, oldest: _Entry) -> bool:
        bounds = self._retention
        if oldest.end_time < self._clock() - bounds.age:
            return True
        if len(self._entries) <= bounds.count and self._size <= bounds.size:  # the common case
            return False
        being_read = [self._entries[key] for key in self._readers if key in self._entries]
        count = len(self._entries) - len(being_read)
        size = self._size - sum(entry.size for entry in being_read)
        return count > bounds.count or (size > bounds.size and count > 1)
