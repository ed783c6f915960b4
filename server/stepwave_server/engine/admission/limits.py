"""The configured limits of actions: attempts at once, and starts per time. Data alone."""

from dataclasses import dataclass

from stepwave_server.actions.known import covers

__all__ = ["Adaptive", "Bound", "Limit", "Rate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A rate of starts: `count` in every `per` nanoseconds, evenly spread.

    Attributes:
        count: Starts.
        per: Nanoseconds.
        burst: Starts that may come together after a quiet time.
    """

    count: int
    per: int
    burst: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """An adaptive bound: it falls when the service refuses attempts, and climbs back slowly.

    Attributes:
        initial: Attempts at once to begin with.
        least: The lowest bound.
        most: The highest bound.
    """

    initial: int = 8
    least: int = 1
    most: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The bounds of a limit. All bounds that are set apply.

    Attributes:
        concurrency: The bound of attempts in flight.
        rate: The rate of their starts.
        adaptive: A bound of attempts in flight that follows the service's refusals.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    adaptive: Adaptive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit of some actions, counted over all of them and all runs.

    Attributes:
        actions: The name of an action, or a prefix of names and `*`.
        total: The bound of all of them together.
        per_key: The bound for each value of their steps' `concurrency_key`. Steps without a key, or with nothing at
            its place in their input, count as one more value.
    """

    actions: str
    total: Bound | None = None
    per_key: Bound | None = None

    def covers(self, action: str) -> bool:
        """Return whether the limit covers an action."""
        return covers(self.actions, action)
