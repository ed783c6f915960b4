"""The limits that Temporal can enforce: the rate of one action, over all hosts."""

from collections.abc import Iterable, Iterator, Mapping

from stepwave_server.core.model import SECOND
from stepwave_server.engine.admission.limits import Limit

__all__ = ["UnsupportedLimits", "rates_of"]


class UnsupportedLimits(ValueError):
    """Raised when limits need the memory of one server. The message has a line for each problem."""


def rates_of(limits: Iterable[Limit]) -> Mapping[str, float]:
    """Return the starts in a second by action.

    Raises:
        UnsupportedLimits: A limit is not the rate of one action.
    """
    limits = tuple(limits)
    if problems := [problem for limit in limits for problem in _problems(limit)]:
        raise UnsupportedLimits("\n".join(problems))
    rates = {limit.actions: limit.total.rate for limit in limits if limit.total is not None}
    return {action: rate.count * SECOND / rate.per for action, rate in rates.items() if rate is not None}


def _problems(limit: Limit) -> Iterator[str]:
    """Yield what Temporal cannot enforce of a limit, and what to do instead."""
    where = f'the limit "{limit.actions}"'
    if limit.actions.endswith("*"):
        yield f"{where}: Temporal limits each action alone: name each action, with a rate of its own"
    if limit.per_key is not None:
        yield f"{where}: per_key: Temporal does not count by key: only --engine local does"
    if (total := limit.total) is None:
        return
    if total.concurrency is not None:
        yield f"{where}: concurrency: Temporal does not count over all hosts: use --slots, for each host"
    if total.adaptive is not None:
        yield f"{where}: adaptive: Temporal does not adapt to refusals: set a rate, or use --slots, for each host"
    if total.rate is not None and total.rate.burst > 1:
        yield f"{where}: rate: Temporal takes no burst: leave it out"
