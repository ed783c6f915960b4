"""A line in which everyone has a place of their own and may leave from anywhere."""

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Generic, TypeAlias, TypeVar

__all__ = ["Priority", "PriorityQueue"]

T = TypeVar("T")

Priority: TypeAlias = tuple[int, int]
"""Where one stands: the turn, and a number that tells apart those of one turn."""


class PriorityQueue(Generic[T]):
    """Those who wait, by their places: a heap, in which the places of those who left are passed over."""

    __slots__ = ("_heap", "_number", "_places")

    def __init__(self) -> None:
        self._heap: list[tuple[Priority, int, T]] = []
        self._places: dict[T, Priority] = {}
        self._number = count()

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[T]:
        """Iterate over those who wait, in no order."""
        return iter(self._places)

    def put(self, item: T, place: Priority) -> None:
        """Let someone stand at a place, instead of where they stood."""
        self._places[item] = place
        heapq.heappush(self._heap, (place, next(self._number), item))
        if len(self._heap) > 2 * len(self._places) + 64:
            self._tidy()

    def first(self) -> tuple[Priority, T] | None:
        """Return whose turn it is."""
        heap, places = self._heap, self._places
        while heap:
            place, _, item = heap[0]
            if places.get(item) == place:
                return place, item
            heapq.heappop(heap)
        return None

    def leave(self, item: T) -> None:
        """Forget someone, if they stand here."""
        self._places.pop(item, None)

    def _tidy(self) -> None:
        self._heap = [(place, next(self._number), item) for item, place in self._places.items()]
        heapq.heapify(self._heap)
