"""A priority queue. The priority of an item can be changed, and items can be removed."""

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Generic, TypeAlias, TypeVar

__all__ = ["Priority", "PriorityQueue"]

T = TypeVar("T")

Priority: TypeAlias = tuple[int, int]
"""A turn, and a number that orders items of the same turn. The lowest is the first."""


class PriorityQueue(Generic[T]):
    """Items by priority: a heap with lazy deletion. Entries that are out of date are skipped when they come first."""

    __slots__ = ("_heap", "_numbers", "_priorities")

    def __init__(self) -> None:
        self._heap: list[tuple[Priority, int, T]] = []
        self._priorities: dict[T, Priority] = {}
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._priorities)

    def __contains__(self, item: T) -> bool:
        return item in self._priorities

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items, in no order."""
        return iter(self._priorities)

    def put(self, item: T, priority: Priority) -> None:
        """Add an item, or change its priority."""
        self._priorities[item] = priority
        heapq.heappush(self._heap, (priority, next(self._numbers), item))
        if len(self._heap) > 2 * len(self._priorities) + 64:
            self._compact()

    def first(self) -> tuple[Priority, T] | None:
        """Return the first item and its priority, and leave it in; `None`: there is none."""
        heap, priorities = self._heap, self._priorities
        while heap:
            priority, _, item = heap[0]
            if priorities.get(item) == priority:
                return priority, item
            heapq.heappop(heap)
        return None

    def remove(self, item: T) -> None:
        """Remove an item, if it is in."""
        self._priorities.pop(item, None)

    def _compact(self) -> None:
        self._heap = [(priority, next(self._numbers), item) for item, priority in self._priorities.items()]
        heapq.heapify(self._heap)
