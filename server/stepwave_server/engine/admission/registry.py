"""The limiters of a server, by action and key. Those of unused keys are forgotten."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache

from stepwave_server.core.info import LimitInfo
from stepwave_server.engine.admission.limiter import Limiter
from stepwave_server.engine.admission.limits import Bound, Limit

__all__ = ["LimitLimiters", "LimiterRegistry"]


class LimitLimiters:
    """A limit and its limiters.

    Attributes:
        limit: The limit.
        total: The limiter of all that it covers; `None`: it has no such bound.
        keys: The limiters of keys' values: those in use, and some that are not.
    """

    __slots__ = ("keys", "limit", "total")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.total = Limiter(limit.actions, limit.total) if limit.total is not None else None
        self.keys: dict[str, Limiter] = {}

    def key_limiter(self, key: str, now: int) -> Limiter | None:
        """Return the limiter of a key's value; `None`: keys have no bound."""
        if self.limit.per_key is None:
            return None
        limiter = self.keys.get(key)
        if limiter is None:
            self._forget_unused(now)
            limiter = self.keys[key] = Limiter(self.limit.actions, self.limit.per_key, keyed=True)
        return limiter

    def infos(self, now: int, clock: int) -> Iterator[LimitInfo]:
        """Yield the bounds, in all and per key, and their state now; `clock` is the time since the epoch."""
        actions, per_key = self.limit.actions, self.limit.per_key
        if self.total is not None:
            yield _info(actions, self.total.bound, (self.total,), now, clock, per_key=False)
        if per_key is not None:
            yield _info(actions, per_key, list(self.keys.values()), now, clock, per_key=True)

    def _forget_unused(self, now: int) -> None:
        """Check the two limiters that were checked longest ago, so few are kept that could be forgotten."""
        for key in [key for key, _ in zip(self.keys, range(2), strict=False)]:
            limiter = self.keys.pop(key)
            if not limiter.forgettable(now):
                self.keys[key] = limiter


class LimiterRegistry:
    """The limiters of a server.

    Args:
        limits: The limits of actions. All that cover an action apply to it.
        namespaces: How many attempts of a namespace may be in flight. Others have no bound. `None`: none ever has one.
    """

    def __init__(self, limits: Sequence[Limit] = (), namespaces: Mapping[str, int] | None = None) -> None:
        self._limits = [LimitLimiters(limit) for limit in limits]
        self._bounds = namespaces
        self._namespaces: dict[str, Limiter] = {}
        self.covering = lru_cache(4_096)(self._covering)

    def __bool__(self) -> bool:
        return bool(self._limits or self._bounds)

    def bound_namespaces(self, namespaces: Mapping[str, int]) -> Collection[Limiter]:
        """Replace the bounds of namespaces. Return the limiters that they change."""
        self._bounds = namespaces
        changed = {name: it for name, it in self._namespaces.items() if it.bound.concurrency != namespaces.get(name)}
        for name, limiter in changed.items():
            limiter.bound = Bound(concurrency=namespaces.get(name))
        return changed.values()

    def keyed(self, action: str) -> bool:
        """Return whether a limit of an action counts by keys."""
        return any(limit.limit.per_key is not None for limit in self.covering(action))

    def limiters(self, action: str, key: str, now: int, namespace: str = "") -> tuple[Limiter, ...]:
        """Return the limiters of an attempt: that of its namespace, then in the order of the limits.

        Submit the attempt before the next call.
        """
        found = [] if self._bounds is None else [self._of_namespace(namespace, self._bounds)]
        for limit in self.covering(action):
            if limit.total is not None:
                found.append(limit.total)
            if (limiter := limit.key_limiter(key, now)) is not None:
                found.append(limiter)
        return tuple(found)

    def _of_namespace(self, namespace: str, bounds: Mapping[str, int]) -> Limiter:
        """Return the limiter of a namespace. One without a bound has a limiter, too: it may get a bound."""
        limiter = self._namespaces.get(namespace)
        if limiter is None:
            bound = Bound(concurrency=bounds.get(namespace))
            limiter = self._namespaces[namespace] = Limiter(f"namespace {namespace}", bound)
        return limiter

    def infos(self, now: int, clock: int) -> list[LimitInfo]:
        """Return all limits, and their state now; `clock` is the time since the epoch."""
        return [info for limit in self._limits for info in limit.infos(now, clock)]

    def _covering(self, action: str) -> tuple[LimitLimiters, ...]:
        """Return the limits that cover an action."""
        return tuple(limit for limit in self._limits if limit.limit.covers(action))


def _info(
    actions: str, bound: Bound, limiters: Collection[Limiter], now: int, clock: int, *, per_key: bool
) -> LimitInfo:
    """Return the state of the limiters of one bound together."""
    adaptive = [limiter.adaptive for limiter in limiters if limiter.adaptive is not None]
    lowest = min((it.limit for it in adaptive), default=bound.adaptive.initial if bound.adaptive else 0)
    paused = max((limiter.paused_until for limiter in limiters), default=0) - now
    return LimitInfo(
        actions=actions,
        per_key=per_key,
        concurrency=bound.concurrency,
        rate=(bound.rate.count, bound.rate.per, bound.rate.burst) if bound.rate else None,
        adaptive=(bound.adaptive.least, bound.adaptive.most, lowest) if bound.adaptive else None,
        in_flight=sum(limiter.in_flight for limiter in limiters),
        refused=sum(it.refused for it in adaptive),
        paused_until=clock + paused if paused > 0 else None,
    )
