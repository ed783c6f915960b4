"""The server-wide gate before an attempt starts: how many may be in flight, shared fairly among runs. Pure."""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

from stepwave_server.core.explanation import WaitCause
from stepwave_server.engine.admission.limiter import Feedback, Limiter

__all__ = ["Admission", "FairAdmission", "Group", "Held", "Obstacle", "Ticket", "server_full"]


class Held(NamedTuple):
    """A place at a gate, and the mark to give it back with."""

    gate: Limiter
    mark: int


class Ticket(Protocol):
    """What waits for admission: an attempt.

    Attributes:
        withdrawn: It waits no more.
        held: Its places at gates.
    """

    withdrawn: bool
    held: tuple[Held, ...]

    @property
    def run_key(self) -> Hashable:
        """The run whose turn it takes."""
        ...

    @property
    def gates(self) -> tuple[Limiter, ...]:
        """What it must pass beside the server's own bound."""
        ...


class Obstacle(NamedTuple):
    """What attempts wait for: the cause, in a line, and what the limit covers, if it is one."""

    cause: WaitCause
    message: str
    limit: str = ""


T = TypeVar("T", bound=Ticket)


class Group(NamedTuple, Generic[T]):
    """Attempts of one run that wait for one thing: how many, and these, first come first."""

    obstacle: Obstacle
    size: int
    tickets: Iterator[T]


class Admission(Protocol[T]):
    """Lets attempts start. It has no clock: times are given, in nanoseconds of one that never goes back.

    Attributes:
        limit: Attempts in flight at once, over all runs.
        in_flight: How many there are now.
    """

    limit: int
    in_flight: int

    @property
    def next_time(self) -> int | None:
        """When to call `admit` again although nothing has ended; `None`: that would be in vain."""
        ...

    def submit(self, ticket: T) -> None:
        """Put an attempt at the end of its run's queue."""
        ...

    def withdraw(self, ticket: T, now: int) -> None:
        """Let an attempt wait no more that was submitted and not admitted."""
        ...

    def admit(self, now: int) -> T | None:
        """Return the attempt whose turn it is, its places taken; `None` if none may start now."""
        ...

    def release(self, ticket: T, verdict: Feedback, retry_after: int, now: int) -> None:
        """Give back the places of an attempt that was admitted and has ended.

        Args:
            ticket: The attempt.
            verdict: What its end says of the service behind its action.
            retry_after: For how many nanoseconds a refusal asked to be left alone.
            now: The time.
        """
        ...

    def obstacle(self, ticket: T, now: int) -> Obstacle:
        """Say what an attempt that was submitted and not admitted waits for."""
        ...

    def waiting(self, run_key: Hashable, now: int) -> Iterator[Group[T]]:
        """Yield what attempts of a run wait for, by what that is."""
        ...

    def waiting_at(self, gate: Limiter) -> Iterator[T]:
        """Yield the attempts that a gate holds up, in no order."""
        ...


def server_full(limit: int) -> Obstacle:
    """Say that the server's own bound is reached."""
    return Obstacle(WaitCause.CONCURRENCY, f"the server's max_attempts is {limit:,}")


@dataclass(slots=True)
class FairAdmission(Generic[T]):
    """Admission without limits but the server's own. Runs take turns, one attempt each: a wide run holds up no other.

    Attributes:
        limit: Attempts in flight at once, over all runs.
        in_flight: How many there are now.
    """

    limit: int
    in_flight: int = 0
    _queues: dict[Hashable, deque[T]] = field(default_factory=dict)
    _turns: deque[Hashable] = field(default_factory=deque)

    @property
    def next_time(self) -> int | None:
        """Return `None`: time alone lets nothing start."""
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
        """Let an attempt wait no more; it is passed over when its turn comes."""
        ticket.withdrawn = True

    def admit(self, now: int) -> T | None:
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

    def release(self, ticket: T, verdict: Feedback, retry_after: int, now: int) -> None:
        """Give back the place of an attempt that has ended."""
        self.in_flight -= 1

    def obstacle(self, ticket: T, now: int) -> Obstacle:
        """Say what an attempt waits for: a place."""
        return server_full(self.limit)

    def waiting(self, run_key: Hashable, now: int) -> Iterator[Group[T]]:
        """Yield the attempts of a run that wait for a place."""
        waiting = [ticket for ticket in self._queues.get(run_key, ()) if not ticket.withdrawn]
        if waiting:
            yield Group(server_full(self.limit), len(waiting), iter(waiting))

    def waiting_at(self, gate: Limiter) -> Iterator[T]:
        """Yield nothing: there are no gates."""
        return iter(())
