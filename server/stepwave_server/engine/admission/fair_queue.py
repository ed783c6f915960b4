"""Admission without limits but the server's own: a fair queue."""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stepwave_server.engine.admission.base import Group, Obstacle, Permit, Ticket, server_full
from stepwave_server.engine.admission.limiter import Feedback, Limiter

__all__ = ["FairAdmission"]

T = TypeVar("T", bound=Ticket)

PERMIT = Permit()


@dataclass(slots=True)
class FairAdmission(Generic[T]):
    """Admits attempts up to a bound. Runs take turns, one attempt each, so a wide run does not delay the others.

    Attributes:
        limit: The bound of attempts in flight, over all runs.
        in_flight: Attempts in flight now.
    """

    limit: int
    in_flight: int = 0
    _queues: dict[Hashable, deque[T]] = field(default_factory=dict)
    _turns: deque[Hashable] = field(default_factory=deque)
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
            self._turns.append(ticket.run_key)
        else:
            queue.append(ticket)

    def withdraw(self, ticket: T, now: int) -> None:
        """Remove an attempt. It leaves its queue when its turn comes."""
        self._withdrawn.add(ticket)

    def admit(self, now: int) -> tuple[T, Permit] | None:
        """Return the next attempt, and count it in flight; `None`: there is no place, or none waits."""
        while self.in_flight < self.limit and self._turns:
            key = self._turns.popleft()
            queue = self._queues[key]
            ticket = queue.popleft()
            if queue:
                self._turns.append(key)
            else:
                del self._queues[key]
            if self._withdrawn and ticket in self._withdrawn:
                self._withdrawn.remove(ticket)
                continue
            self.in_flight += 1
            return ticket, PERMIT
        return None

    def occupy(self) -> Permit:
        """Take a place, even beyond the bound."""
        self.in_flight += 1
        return PERMIT

    def release(self, permit: Permit, feedback: Feedback, retry_after: int, now: int) -> None:
        """Take a permit back."""
        self.in_flight -= 1

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
