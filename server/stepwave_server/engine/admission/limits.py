"""What a server is told to allow its actions: how many attempts at once, and how many in which time. Data alone."""

from dataclasses import dataclass

__all__ = ["Adaptive", "Bound", "Limit", "Rate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How often attempts may start: `count` in every `per` nanoseconds, evenly spread.

    Attributes:
        count: How many.
        per: In how many nanoseconds.
        burst: How many may start together after a quiet time.
    """

    count: int
    per: int
    burst: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """A bound that finds itself: it falls when a service says that it is too much, and climbs back slowly.

    Attributes:
        initial: How many attempts at once to begin with.
        least: How far it may fall.
        most: How far it may climb.
    """

    initial: int = 8
    least: int = 1
    most: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What is allowed: all that is set applies.

    Attributes:
        concurrency: Attempts in flight at once.
        rate: How often they may start.
        adaptive: Attempts in flight at once, as the service's refusals tell.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    adaptive: Adaptive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What some actions are allowed, counted over all of them and all runs.

    Attributes:
        actions: The name of an action, or the beginning of names and `*`.
        total: What they are allowed together.
        per_key: What they are allowed for each value of their steps' `concurrency_key`; steps without one, or whose
            input has nothing there, count as one more value.
    """

    actions: str
    total: Bound | None = None
    per_key: Bound | None = None

    def covers(self, action: str) -> bool:
        """Say whether it is about an action."""
        if self.actions.endswith("*"):
            return action.startswith(self.actions[:-1])
        return action == self.actions
