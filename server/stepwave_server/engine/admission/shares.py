"""Weighted fair shares of places between namespaces. Pure.

It is start-time fair queueing (Goyal, Vin and Cheng, 1996). The next place goes to the waiting namespace with the
lowest start tag. A place moves the namespace's tag on by 1 / weight, so a heavier namespace comes sooner again. The
virtual time is the tag of the latest place. A namespace that begins to wait gets no tag before it: time without
attempts earns nothing. Between two namespaces that wait, places / weight differ by at most 1 / weight of the one plus
1 / weight of the other, however long both wait. A place costs O(log of the waiting namespaces).
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Generic, Protocol, TypeVar

from stepwave_server.engine.admission.priority_queue import Priority, PriorityQueue

__all__ = ["Shares", "SharesQueue", "WeightOf", "equal_weights"]

WeightOf = Callable[[str], float]
"""Returns the weight of a namespace, a positive number. It is asked with every place."""

SCALE = 1 << 32
"""The cost of a place for a namespace of weight 1. Tags are whole numbers, so they stay exact."""


def equal_weights(namespace: str) -> float:
    """Return 1, the weight of every namespace."""
    return 1.0


class Shares:
    """The order of namespaces with waiting attempts.

    While a single namespace is known, there is nothing to share, and no tags are kept.

    Args:
        weight_of: Returns the weight of a namespace.
    """

    __slots__ = ("_now", "_numbers", "_sole", "_sole_waits", "_tags", "_waiting", "_weight_of")

    def __init__(self, weight_of: WeightOf = equal_weights) -> None:
        self._weight_of = weight_of
        self._waiting: PriorityQueue[str] = PriorityQueue()
        self._tags: dict[str, int] = {}
        self._numbers = count()
        self._now = 0
        self._sole: str | None = None
        self._sole_waits = False

    def __bool__(self) -> bool:
        """Return whether a namespace waits."""
        return self._sole_waits or bool(self._waiting)

    def add(self, namespace: str) -> None:
        """Let a namespace wait that did not."""
        if namespace == self._sole:
            self._sole_waits = True
        elif self._sole is None and not self._tags:
            self._sole, self._sole_waits = namespace, True
        else:
            self._share()
            tag = self._tags[namespace] = max(self._now, self._tags.get(namespace, 0))
            self._waiting.put(namespace, (tag, next(self._numbers)))

    def _share(self) -> None:
        """Begin to keep tags: another namespace has come."""
        sole, self._sole = self._sole, None
        if sole is not None:
            self._tags[sole] = self._now
            if self._sole_waits:
                self._waiting.put(sole, (self._now, next(self._numbers)))
            self._sole_waits = False

    def remove(self, namespace: str) -> None:
        """Let a namespace wait no more. Its tag stays, so it gains nothing if it waits again soon."""
        if self._sole is not None:
            self._sole_waits = False
        else:
            self._waiting.remove(namespace)

    def first(self) -> str | None:
        """Return the namespace that gets the next place; `None`: none waits."""
        if self._sole is not None:
            return self._sole if self._sole_waits else None
        found = self._waiting.first()
        return None if found is None else found[1]

    def charge(self, namespace: str) -> None:
        """Count a place of a namespace, whether it still waits or not."""
        if namespace == self._sole:
            return
        self._share()
        self._now = max(self._now, self._tags.get(namespace, 0))
        tag = self._tags[namespace] = self._now + max(1, round(SCALE / self._weight_of(namespace)))
        if namespace in self._waiting:
            self._waiting.put(namespace, (tag, next(self._numbers)))

    def reset(self) -> None:
        """Forget all tags. None waits, and there are free places."""
        if self._tags:
            self._tags.clear()
            self._now = 0


class Item(Protocol):
    """An item of a namespace. It is hashed by identity."""

    @property
    def namespace(self) -> str:
        """The namespace."""
        ...


T = TypeVar("T", bound=Item)


class SharesQueue(Generic[T]):
    """Items of namespaces. Namespaces have their shares; in a namespace, items go by priority.

    Args:
        weight_of: Returns the weight of a namespace.
    """

    __slots__ = ("_queues", "shares")

    def __init__(self, weight_of: WeightOf = equal_weights) -> None:
        self.shares = Shares(weight_of)
        self._queues: dict[str, PriorityQueue[T]] = {}

    def __bool__(self) -> bool:
        return bool(self.shares)

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items, in no order."""
        return (item for queue in self._queues.values() for item in queue)

    def put(self, item: T, priority: Priority) -> None:
        """Add an item, or change its priority."""
        namespace = item.namespace
        queue = self._queues.get(namespace)
        if queue is None:
            queue = self._queues[namespace] = PriorityQueue()
        if not queue:
            self.shares.add(namespace)
        queue.put(item, priority)

    def first(self) -> tuple[Priority, T] | None:
        """Return the first item and its priority, and leave it in; `None`: there is none."""
        namespace = self.shares.first()
        return None if namespace is None else self._queues[namespace].first()

    def remove(self, item: T) -> None:
        """Remove an item, if it is in."""
        queue = self._queues.get(item.namespace)
        if queue:
            queue.remove(item)
            if not queue:
                self.shares.remove(item.namespace)
