"""The server-wide gate before an attempt starts: how many may be in flight, shared fairly among runs. Pure."""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

__all__ = ["Admission", "Ticket"]


class Ticket(Protocol):
    """What waits for admission: an attempt. `withdrawn` ones are passed over."""

    @property
    def run_key(self) -> Hashable:
        """The run whose turn it takes."""
        ...

    @property
    def withdrawn(self) -> bool:
        """Whether it waits no more."""
        ...


T = TypeVar("T", bound=Ticket)


@dataclass(slots=True)
class Admission(Generic[T]):
    """Lets at most `limit` attempts be in flight. Runs take turns, one attempt each: a wide run holds up no other.

    Attributes:
        limit: Attempts in flight at once, over all runs.
        in_flight: How many there are now.
    """

    limit: int
    in_flight: int = 0
    _queues: dict[Hashable, deque[T]] = field(default_factory=dict)
    _turns: deque[Hashable] = field(default_factory=deque)

    def submit(self, ticket: T) -> None:
        """Put an attempt at the end of its run's queue."""
        queue = self._queues.get(ticket.run_key)
        if queue is None:
            self._queues[ticket.run_key] = deque((ticket,))
            self._turns.append(ticket.run_key)
        else:
            queue.append(ticket)

    def admit(self) -> T | None:
        """Return the attempt whose turn it is and count it in flight; `None` if there is no place or none waits."""
        while self.in_flight < self.limit and self._turns:
            key = self._turns.popleft()
            queue = self._queues[key]
            ticket = queue.popleft()
            if queue:
                self._turns.append(key)
            else:
                del self._queues[key]
            if not ticket.withdrawn:
                self.in_flight += 1
                return ticket
        return None

    def release(self) -> None:
        """Give back the place of an attempt that has ended."""
        self.in_flight -= 1
