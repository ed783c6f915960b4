"""Admission: which attempts may start, over all runs. The interface; its implementations are pure."""

from collections.abc import Hashable, Iterator
from typing import Generic, NamedTuple, Protocol, TypeVar

from stepwave_server.core.explanation import WaitCause
from stepwave_server.core.state import StepState
from stepwave_server.engine.admission.limiter import Feedback, Limiter

__all__ = [
    "EXTERNAL",
    "Admission",
    "Group",
    "LimiterPlace",
    "Obstacle",
    "Permit",
    "Ticket",
    "place_taken",
    "server_full",
]


class LimiterPlace(NamedTuple):
    """A place under a limiter, and the mark to return it with."""

    limiter: Limiter
    mark: int


class Permit(NamedTuple):
    """The permission of an attempt to start. It is released once, at the attempt's end.

    Attributes:
        places: Its places under limiters, beside the one among the attempts in flight.
    """

    places: tuple[LimiterPlace, ...] = ()


class Ticket(Protocol):
    """An attempt as admission sees it. It is hashed by identity."""

    @property
    def run_key(self) -> Hashable:
        """The run that it belongs to. Runs take turns."""
        ...

    @property
    def namespace(self) -> str:
        """The namespace of that run. Namespaces have their shares of the places."""
        ...

    @property
    def limiters(self) -> tuple[Limiter, ...]:
        """The limiters under which it needs a place, beside the server's own bound."""
        ...


class Obstacle(NamedTuple):
    """The reason why an attempt waits.

    Attributes:
        cause: The cause.
        message: The reason in one line.
        limit: The actions that the limit covers; empty: the attempt waits for no limit.
    """

    cause: WaitCause
    message: str
    limit: str = ""


T = TypeVar("T", bound=Ticket)


class Group(NamedTuple, Generic[T]):
    """Attempts of one run that wait for one thing: their count, and the attempts in their order."""

    obstacle: Obstacle
    size: int
    tickets: Iterator[T]


class Admission(Protocol[T]):
    """Decides which attempts may start. Times are given, in nanoseconds of a clock that never goes back.

    Attributes:
        limit: The bound of attempts in flight, over all runs.
        in_flight: Attempts in flight now.
    """

    limit: int
    in_flight: int

    @property
    def next_time(self) -> int | None:
        """The time at which to call `admit` again even if nothing has ended; `None`: no need."""
        ...

    def submit(self, ticket: T) -> None:
        """Put an attempt at the end of its run's queue."""
        ...

    def withdraw(self, ticket: T, now: int) -> None:
        """Remove an attempt that was submitted and not admitted."""
        ...

    def admit(self, now: int) -> tuple[T, Permit] | None:
        """Return the next attempt that may start, with its permit; `None`: none may start now."""
        ...

    def occupy(self) -> Permit:
        """Take a place for work that goes on after its attempt has ended, even beyond the bound."""
        ...

    def release(self, permit: Permit, feedback: Feedback, retry_after: int, now: int) -> None:
        """Take a permit back.

        Args:
            permit: The permit.
            feedback: The feedback of the attempt's outcome on the service behind its action.
            retry_after: Pause in nanoseconds that a refusal asked for; 0: none.
            now: The time.
        """
        ...

    def review(self, limiter: Limiter, now: int) -> None:
        """Note that the bound of a limiter has changed. Call `admit` afterwards."""
        ...

    def obstacle(self, ticket: T, now: int) -> Obstacle:
        """Return what an attempt that was submitted and not admitted waits for."""
        ...

    def waiting(self, run_key: Hashable, now: int) -> Iterator[Group[T]]:
        """Yield the waiting attempts of a run, grouped by what they wait for."""
        ...

    def waiting_at(self, limiter: Limiter) -> Iterator[T]:
        """Yield the attempts that wait for a limiter, in no order."""
        ...


EXTERNAL = Obstacle(WaitCause.EXTERNAL, "it waits to be completed from outside")
"""The obstacle of a step of `core.wait`."""


def place_taken(step: StepState) -> Obstacle:
    """Return the obstacle of a step that waits for a place of its run, of its list or of a workflow around it."""
    gate = step.gates[step.held]
    what = f'the max_parallelism of step "{gate.step_id}"' if gate.step_id else "the workflow's max_parallelism"
    return Obstacle(WaitCause.CONCURRENCY, f"{what} is {gate.limit:,}")


def server_full(limit: int) -> Obstacle:
    """Return the obstacle of the server's own bound."""
    return Obstacle(WaitCause.CONCURRENCY, f"the server's max_attempts is {limit:,}")
