"""A limiter: whether another attempt may start under a limit now, and if not, why and when. Pure: the time is given.

Times are nanoseconds of a clock that never goes back.
"""

from enum import Enum

from stepwave_server.core.explanation import WaitCause
from stepwave_server.engine.admission.adaptive import AdaptiveBound
from stepwave_server.engine.admission.limits import Bound, Rate

__all__ = ["Feedback", "Limiter"]

REMEMBERED = 600_000_000_000
"""For how long an unused limiter of one key keeps what it learned from refusals, in nanoseconds."""


class Feedback(Enum):
    """The feedback of an attempt's outcome on the service behind its action."""

    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    NOTHING = "nothing"


class _Bucket:
    """A token bucket by the generic cell rate algorithm (ITU-T I.371): one number, and exact.

    Times in it are multiplied by the rate's count, so no division rounds.
    """

    __slots__ = ("_count", "_next", "_per", "_slack")

    def __init__(self, rate: Rate) -> None:
        self._count = rate.count
        self._per = rate.per
        self._slack = (rate.burst - 1) * rate.per
        self._next = 0

    def due(self, now: int) -> int:
        """Return when an attempt may start: now, or later."""
        return max(now, -((self._slack - self._next) // self._count))

    def take(self, now: int) -> None:
        self._next = max(self._next, now * self._count) + self._per

    def full(self, now: int) -> bool:
        return self._next <= now * self._count


class Limiter:
    """Enforces one bound; with a key, for one value of that key.

    Attributes:
        actions: What the limit covers, as it was configured.
        keyed: It counts one value of a key.
        bound: What is allowed.
        in_flight: Attempts that have a place.
        lanes: Lanes of waiting attempts that need it.
        adaptive: The adaptive bound; `None`: there is none.
        paused_until: The end of the pause that a refusal asked for; 0: no pause.
    """

    __slots__ = ("_bucket", "_used", "actions", "adaptive", "bound", "in_flight", "keyed", "lanes", "paused_until")

    def __init__(self, actions: str, bound: Bound, *, keyed: bool = False) -> None:
        self.actions = actions
        self.keyed = keyed
        self.bound = bound
        self.in_flight = self.lanes = 0
        self.adaptive = AdaptiveBound(bound.adaptive) if bound.adaptive else None
        self.paused_until = 0
        self._bucket = _Bucket(bound.rate) if bound.rate else None
        self._used = 0

    @property
    def places(self) -> int | None:
        """The bound of attempts in flight now; `None`: no bound."""
        adapted = self.adaptive.limit if self.adaptive is not None else None
        if self.bound.concurrency is None:
            return adapted
        return self.bound.concurrency if adapted is None else min(adapted, self.bound.concurrency)

    def due(self, now: int) -> int:
        """Return when time allows another attempt to start: now, or later."""
        due = max(now, self.paused_until)
        return due if self._bucket is None else max(due, self._bucket.due(now))

    def cause(self, now: int) -> WaitCause | None:
        """Return the cause for which an attempt must wait; `None`: it need not."""
        if self.due(now) > now:
            return WaitCause.RATE
        places = self.places
        return WaitCause.CONCURRENCY if places is not None and self.in_flight >= places else None

    def why(self, now: int) -> str:
        """Return the message of an attempt that must wait."""
        whose = f'"{self.actions}"' + (" for this key" if self.keyed else "")
        if self.paused_until > now:
            return f"{whose} is paused for another {_span(self.paused_until - now)}, as its service asked"
        if self.due(now) > now and self.bound.rate is not None:
            rate = self.bound.rate
            return f"the limit {whose} lets {rate.count:,} start every {_span(rate.per)}"
        places = self.places or 0
        taken = "the only place" if places == 1 else f"all {places:,} places"
        return f"{taken} of the limit {whose} {'is' if places == 1 else 'are'} taken"

    def take(self, now: int) -> int:
        """Give a place to an attempt; return the mark to give the place back with."""
        self.in_flight += 1
        if self._bucket is not None:
            self._bucket.take(now)
        return self.adaptive.start(self.in_flight) if self.adaptive is not None else 0

    def give(self, mark: int, feedback: Feedback, retry_after: int, now: int) -> None:
        """Take back the place of an attempt that has ended.

        Args:
            mark: The mark that came with the place.
            feedback: The feedback of the attempt's outcome.
            retry_after: Pause in nanoseconds that a refusal asked for; 0: none.
            now: The time.
        """
        if self.adaptive is not None:
            if feedback is Feedback.SUCCEEDED:
                self.adaptive.succeed(mark, self.in_flight)
            elif feedback is Feedback.REFUSED:
                self.adaptive.refuse(mark, self.in_flight)
                self.paused_until = max(self.paused_until, now + retry_after)
        self.in_flight -= 1
        self._used = now

    def forgettable(self, now: int) -> bool:
        """Return whether the limiter can be forgotten: a new one would do the same."""
        if self.in_flight or self.lanes or self.due(now) > now:
            return False
        if self._bucket is not None and not self._bucket.full(now):
            return False
        return self.adaptive is None or now - self._used >= REMEMBERED


def _span(nanos: int) -> str:
    """Return a length of time as text."""
    for name, unit in (("h", 3_600_000_000_000), ("min", 60_000_000_000), ("s", 1_000_000_000)):
        if nanos >= unit:
            return f"{nanos / unit:.3g} {name}"
    return f"{nanos / 1e6:.3g} ms"
