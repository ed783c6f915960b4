"""Admission without limits but the server's own: a fair queue, between namespaces and in each of them."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stepwave_server.engine.admission.base import Group, Obstacle, Permit, Ticket, server_full
from stepwave_server.engine.admission.limiter import Feedback, Limiter
from stepwave_server.engine.admission.shares import Shares

__all__ = ["FairAdmission"]

T = TypeVar("T", bound=Ticket)

PERMIT = Permit()


@dataclass(slots=True)
class FairAdmission(Generic[T]):
    """Admits attempts up to a bound. Namespaces have their shares of the places.

    The runs of a namespace take turns, one attempt each, so a wide run does not delay the others.

    Attributes:
        limit: The bound of attempts in flight, over all runs.
        shares: The shares of namespaces.
        in_flight: Attempts in flight now.
    """

    limit: int
    shares: Shares = field(default_factory=Shares)
    in_flight: int = 0
    _queues: dict[Hashable, deque[T]] = field(default_factory=dict)
    _turns: defaultdict[str, deque[Hashable]] = field(default_factory=lambda: defaultdict(deque))
    _withdrawn: set[T] = field(default_factory=set)

    @property
    def next_time(self) -> int | None:
        """Return `None`: nothing here depends on time."""
        return None

    def submit(self, ticket: T) -> None:
        """Put an attempt at the end of its run's queue."""
        queue = self._queues.get(ticket.run_key)
        if queue is None:
            self._queues[ticket.run_key] = deque((ticket,))
            turns = self._turns[ticket.namespace]
            if not turns:
                self.shares.add(ticket.namespace)
            turns.append(ticket.run_key)
        else:
            queue.append(ticket)

    def withdraw(self, ticket: T, now: int) -> None:
        """Remove an attempt. It leaves its queue when its turn comes."""
        self._withdrawn.add(ticket)

    def admit(self, now: int) -> tuple[T, Permit] | None:
        """Return the next attempt, and count it in flight; `None`: there is no place, or none waits."""
        while self.in_flight < self.limit:
            namespace = self.shares.first()
            if namespace is None:
                self.shares.reset()
                return None
            ticket = self._take(namespace)
            if self._withdrawn and ticket in self._withdrawn:
                self._withdrawn.remove(ticket)
                continue
            self.shares.charge(namespace)
            self.in_flight += 1
            return ticket, PERMIT
        return None

    def _take(self, namespace: str) -> T:
        """Return the next attempt of a namespace, and remove it."""
        turns = self._turns[namespace]
        key = turns.popleft()
        queue = self._queues[key]
        ticket = queue.popleft()
        if queue:
            turns.append(key)
            return ticket
        del self._queues[key]
        if not turns:
            self.shares.remove(namespace)
        return ticket

    def occupy(self) -> Permit:
        """Take a place, even beyond the bound."""
        self.in_flight += 1
        return PERMIT

    def release(self, permit: Permit, feedback: Feedback, retry_after: int, now: int) -> None:
        """Take a permit back."""
        self.in_flight -= 1

    def review(self, limiter: Limiter, now: int) -> None:
        """Do nothing: there are no limiters."""

    def obstacle(self, ticket: T, now: int) -> Obstacle:
        """Return what an attempt waits for: a place."""
        return server_full(self.limit)

    def waiting(self, run_key: Hashable, now: int) -> Iterator[Group[T]]:
        """Yield the attempts of a run that wait for a place."""
        waiting = [ticket for ticket in self._queues.get(run_key, ()) if ticket not in self._withdrawn]
        if waiting:
            yield Group(server_full(self.limit), len(waiting), iter(waiting))

    def waiting_at(self, limiter: Limiter) -> Iterator[T]:
        """Yield nothing: there are no limiters."""
        return iter(())
