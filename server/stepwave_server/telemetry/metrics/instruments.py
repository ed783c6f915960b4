"""The instruments: the name, unit and meaning of every metric, and where its numbers come from."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple

from stepwave_server.core.info import LimitInfo, Load
from stepwave_server.telemetry.metrics.histogram import Histogram
from stepwave_server.telemetry.metrics.measures import ActionMeasures, Key, Measures

__all__ = ["INSTRUMENTS", "Instrument", "Kind", "Reading"]

ACTION, STATE, OUTCOME = "stepwave.action", "stepwave.state", "stepwave.outcome"
NAMESPACE, LIMIT, PER_KEY = "stepwave.namespace", "stepwave.limit", "stepwave.limit.per_key"
METHOD, CODE, REASON = "rpc.method", "rpc.response.status_code", "stepwave.reason"


class Kind(Enum):
    """The meaning of a metric."""

    COUNTER = "counter"
    """A number since the start, which only grows."""

    GAUGE = "gauge"
    """A number now, which only makes sense for itself."""

    UP_DOWN_COUNTER = "up-down counter"
    """A number now, which can be added up over servers."""

    HISTOGRAM = "histogram"
    """Values since the start, by size."""


class Reading(NamedTuple):
    """The sources of the metrics: the numbers since the start, and the load now."""

    measures: Measures
    load: Load


class Instrument(NamedTuple):
    """A metric.

    Attributes:
        name: Its name.
        kind: Its kind.
        unit: Its unit, by the Unified Code for Units of Measure.
        description: Its meaning.
        attributes: The names of its attributes.
        read: Returns its values, by the values of its attributes.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: Key
    read: Callable[[Reading], Mapping[Key, float | Histogram]]


def _actions(read: Callable[[ActionMeasures], Histogram]) -> Callable[[Reading], Mapping[Key, Histogram]]:
    """Return what reads a histogram of every action, of those that have values."""

    def all_actions(reading: Reading) -> Mapping[Key, Histogram]:
        found = {(name,): read(action) for name, action in list(reading.measures.actions.items())}
        return {key: histogram for key, histogram in found.items() if histogram.count}

    return all_actions


def _counts(read: Callable[[ActionMeasures], Mapping[str, int]]) -> Callable[[Reading], Mapping[Key, float]]:
    """Return what reads counts of every action."""

    def all_actions(reading: Reading) -> Mapping[Key, float]:
        actions = list(reading.measures.actions.items())
        return {(name, label): count for name, action in actions for label, count in read(action).items()}

    return all_actions


def _load(read: Callable[[Load], Mapping[str, int]]) -> Callable[[Reading], Mapping[Key, float]]:
    """Return what reads the load by action. Actions that are counted together are added up."""

    def all_actions(reading: Reading) -> Mapping[Key, float]:
        counts: Counter[Key] = Counter()
        for name, count in read(reading.load).items():
            counts[(reading.measures.action_name(name),)] += count
        return {(name,): counts[name,] for name in [*reading.measures.actions, *(name for (name,) in counts)]}

    return all_actions


def _single(read: Callable[[Reading], float | Histogram]) -> Callable[[Reading], Mapping[Key, float | Histogram]]:
    """Return what reads a metric without attributes. A histogram without values is left out."""

    def one(reading: Reading) -> Mapping[Key, float | Histogram]:
        value = read(reading)
        return {} if isinstance(value, Histogram) and not value.count else {(): value}

    return one


def _limits(read: Callable[[LimitInfo], float | None]) -> Callable[[Reading], Mapping[Key, float]]:
    """Return what reads a number of every limit; `None`: the limit has none."""

    def all_limits(reading: Reading) -> Iterator[tuple[Key, float]]:
        for limit in reading.load.limits:
            if (value := read(limit)) is not None:
                yield (limit.actions, str(limit.per_key).lower()), value

    return lambda reading: dict(all_limits(reading))


def _kept(reading: Reading) -> Mapping[Key, float]:
    """Return the bytes that runs keep by namespace. Namespaces that are counted together are added up."""
    sizes: Counter[Key] = Counter()
    for name, size in reading.load.kept_bytes.items():
        sizes[(reading.measures.namespace_name(name),)] += size
    return sizes


def _bound(limit: LimitInfo) -> float | None:
    """Return how many attempts a limit lets run now; `None`: it has no such bound."""
    bounds = [bound for bound in (limit.concurrency, limit.adaptive and limit.adaptive[2]) if bound is not None]
    return min(bounds, default=None)


INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument(
        "stepwave.run.started",
        Kind.COUNTER,
        "{run}",
        "Runs that have started.",
        (NAMESPACE,),
        lambda it: it.measures.started_runs.copy(),
    ),
    Instrument(
        "stepwave.run.ended",
        Kind.COUNTER,
        "{run}",
        "Runs that have ended, by state.",
        (NAMESPACE, STATE),
        lambda it: it.measures.ended_runs.copy(),
    ),
    Instrument(
        "stepwave.run.in_flight",
        Kind.UP_DOWN_COUNTER,
        "{run}",
        "Runs that have not ended.",
        (),
        _single(lambda it: it.load.runs),
    ),
    Instrument(
        "stepwave.run.duration",
        Kind.HISTOGRAM,
        "s",
        "Time from the start of a run to its end.",
        (NAMESPACE, STATE),
        lambda it: it.measures.runs.copy(),
    ),
    Instrument(
        "stepwave.step.ended",
        Kind.COUNTER,
        "{step}",
        "Steps that have ended, by action and state.",
        (ACTION, STATE),
        _counts(lambda action: action.states),
    ),
    Instrument(
        "stepwave.step.duration",
        Kind.HISTOGRAM,
        "s",
        "Time from the start of a step's first attempt to its end. A step with a list has none.",
        (ACTION,),
        _actions(lambda action: action.steps),
    ),
    Instrument(
        "stepwave.attempt.in_flight",
        Kind.UP_DOWN_COUNTER,
        "{attempt}",
        "Attempts that run in this process.",
        (ACTION,),
        _load(lambda load: load.attempts),
    ),
    Instrument(
        "stepwave.attempt.queued",
        Kind.UP_DOWN_COUNTER,
        "{attempt}",
        "Attempts that are ready, and wait for a place.",
        (ACTION,),
        _load(lambda load: load.queued),
    ),
    Instrument(
        "stepwave.attempt.ended",
        Kind.COUNTER,
        "{attempt}",
        "Attempts that have ended: succeeded, or the reason of the failure.",
        (ACTION, OUTCOME),
        _counts(lambda action: action.outcomes),
    ),
    Instrument(
        "stepwave.attempt.wait",
        Kind.HISTOGRAM,
        "s",
        "Time from when an attempt is ready to its start.",
        (ACTION,),
        _actions(lambda action: action.wait),
    ),
    Instrument(
        "stepwave.attempt.duration",
        Kind.HISTOGRAM,
        "s",
        "Time from the start of an attempt to its end.",
        (ACTION,),
        _actions(lambda action: action.attempts),
    ),
    Instrument(
        "stepwave.stream.open",
        Kind.UP_DOWN_COUNTER,
        "{stream}",
        "Streams of events that are open.",
        (),
        _single(lambda it: it.load.streams),
    ),
    Instrument(
        "stepwave.stream.lag",
        Kind.GAUGE,
        "{event}",
        "Committed events that the slowest stream has not sent.",
        (),
        _single(lambda it: it.load.stream_lag),
    ),
    Instrument(
        "stepwave.journal.commit.size",
        Kind.HISTOGRAM,
        "{event}",
        "Events in a commit of the journal on disk.",
        (),
        _single(lambda it: it.measures.commit_sizes),
    ),
    Instrument(
        "stepwave.journal.commit.duration",
        Kind.HISTOGRAM,
        "s",
        "Time from the first change of a commit of the journal on disk to its end.",
        (),
        _single(lambda it: it.measures.commits),
    ),
    Instrument(
        "stepwave.journal.kept",
        Kind.UP_DOWN_COUNTER,
        "By",
        "Bytes that the runs of a namespace keep in the server's journal, those that have ended too.",
        (NAMESPACE,),
        _kept,
    ),
    Instrument(
        "stepwave.event_loop.lag",
        Kind.HISTOGRAM,
        "s",
        "How late the event loop called a timer.",
        (),
        _single(lambda it: it.measures.loop_lag),
    ),
    Instrument(
        "stepwave.call.ended",
        Kind.COUNTER,
        "{call}",
        "Calls that have ended, streams too, by method and code.",
        (METHOD, CODE),
        lambda it: it.measures.calls.copy(),
    ),
    Instrument(
        "stepwave.call.refused",
        Kind.COUNTER,
        "{call}",
        "Calls that were refused, by the reason of the error.",
        (METHOD, REASON),
        lambda it: it.measures.refusals.copy(),
    ),
    Instrument(
        "stepwave.call.duration",
        Kind.HISTOGRAM,
        "s",
        "Time of a call that is no stream.",
        (METHOD,),
        lambda it: it.measures.call_durations.copy(),
    ),
    Instrument(
        "stepwave.limit.concurrency",
        Kind.GAUGE,
        "{attempt}",
        "Attempts that a limit lets run at once now. An adaptive limit changes it.",
        (LIMIT, PER_KEY),
        _limits(_bound),
    ),
    Instrument(
        "stepwave.limit.in_flight",
        Kind.UP_DOWN_COUNTER,
        "{attempt}",
        "Attempts that run under a limit.",
        (LIMIT, PER_KEY),
        _limits(lambda limit: limit.in_flight),
    ),
    Instrument(
        "stepwave.limit.paused",
        Kind.GAUGE,
        "1",
        "Whether an adaptive limit is paused, as its service asked: 1 or 0.",
        (LIMIT, PER_KEY),
        _limits(lambda limit: None if limit.adaptive is None else int(limit.paused_until is not None)),
    ),
)
"""All metrics of Stepwave."""
