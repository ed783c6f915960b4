"""The rate at which the callers of a namespace may start runs."""

from collections.abc import Callable

__all__ = ["StartRates"]


class StartRates:
    """Counts starts by namespace, by the generic cell rate algorithm (ITU-T I.371): one number for each namespace.

    A second's worth may start at once after a quiet time.

    Args:
        rate_of: Returns the starts in a second of a namespace; `None`: no bound.
        now: Returns the time of a monotonic clock, in seconds.
    """

    def __init__(self, rate_of: Callable[[str], float | None], now: Callable[[], float]) -> None:
        self._rate_of = rate_of
        self._now = now
        self._next: dict[str, float] = {}

    def take(self, namespace: str) -> float:
        """Count a start. Return 0, or the seconds after which it may be tried again: it does not count then."""
        rate = self._rate_of(namespace)
        if rate is None:
            self._next.pop(namespace, None)
            return 0.0
        now, slack = self._now(), max(1.0, rate) - 1
        due = max(self._next.get(namespace, now), now)
        if (delay := due - slack / rate - now) > 0:
            return delay
        self._next[namespace] = due + 1 / rate
        return 0.0
