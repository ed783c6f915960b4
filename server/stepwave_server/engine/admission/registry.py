"""The limits of a server, and the gates that stand for them: found by action and key, and forgotten when at rest."""

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache

from stepwave_server.core.info import LimitInfo
from stepwave_server.engine.admission.limiter import Limiter
from stepwave_server.engine.admission.limits import Bound, Limit

__all__ = ["LimitLimiters", "LimiterRegistry"]


class LimitLimiters:
    """A limit and its gates.

    Attributes:
        limit: What is allowed.
        total: The gate of all that it covers; `None`: there is no such bound.
        keys: The gates of values of keys, of those that are not at rest, and some that are.
    """

    __slots__ = ("keys", "limit", "total")

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.total = Limiter(limit.actions, limit.total) if limit.total is not None else None
        self.keys: dict[str, Limiter] = {}

    def key_gate(self, key: str, now: int) -> Limiter | None:
        """Return the gate of a key's value; `None`: keys have no bound."""
        if self.limit.per_key is None:
            return None
        gate = self.keys.get(key)
        if gate is None:
            self._tidy(now)
            gate = self.keys[key] = Limiter(self.limit.actions, self.limit.per_key, keyed=True)
        return gate

    def infos(self, now: int, clock: int) -> Iterator[LimitInfo]:
        """Yield what is allowed, of the whole and of keys, and how it stands; `clock` is the time since the epoch."""
        actions, per_key = self.limit.actions, self.limit.per_key
        if self.total is not None:
            yield _info(actions, self.total.bound, (self.total,), now, clock, per_key=False)
        if per_key is not None:
            yield _info(actions, per_key, self.keys.values(), now, clock, per_key=True)

    def _tidy(self, now: int) -> None:
        """Look at the two that were not looked at for longest: so there are never many more than there have to be."""
        for key in [key for key, _ in zip(self.keys, range(2), strict=False)]:
            gate = self.keys.pop(key)
            if not gate.forgettable(now):
                self.keys[key] = gate


class LimiterRegistry:
    """The limits of a server.

    Args:
        limits: What actions are allowed; all that cover an action apply to it.
    """

    def __init__(self, limits: Sequence[Limit] = ()) -> None:
        self._states = [LimitLimiters(limit) for limit in limits]
        self.covering = lru_cache(4_096)(self._covering)

    def __bool__(self) -> bool:
        return bool(self._states)

    def keyed(self, action: str) -> bool:
        """Say whether a limit of an action counts by keys."""
        return any(state.limit.per_key is not None for state in self.covering(action))

    def gates(self, action: str, key: str, now: int) -> tuple[Limiter, ...]:
        """Return what an attempt must pass, in the order of the limits; to be used before the next call."""
        found: list[Limiter] = []
        for state in self.covering(action):
            if state.total is not None:
                found.append(state.total)
            if (gate := state.key_gate(key, now)) is not None:
                found.append(gate)
        return tuple(found)

    def _covering(self, action: str) -> tuple[LimitLimiters, ...]:
        """Return the limits that cover an action."""
        return tuple(state for state in self._states if state.limit.covers(action))


def _info(actions: str, bound: Bound, gates: Collection[Limiter], now: int, clock: int, *, per_key: bool) -> LimitInfo:
    """Return how the gates of one bound stand together."""
    adaptive = [gate.adaptive for gate in gates if gate.adaptive is not None]
    lowest = min((it.limit for it in adaptive), default=bound.adaptive.initial if bound.adaptive else 0)
    paused = max((gate.paused_until for gate in gates), default=0) - now
    return LimitInfo(
        actions,
        per_key,
        bound.concurrency,
        (bound.rate.count, bound.rate.per, bound.rate.burst) if bound.rate else None,
        (bound.adaptive.least, bound.adaptive.most, lowest) if bound.adaptive else None,
        sum(gate.in_flight for gate in gates),
        sum(it.refused for it in adaptive),
        clock + paused if paused > 0 else None,
    )
