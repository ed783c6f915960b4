"""The report on a run, with its critical path: a pure function of the run's export.

The critical path method (J. E. Kelley and M. R. Walker, "Critical-path planning and scheduling", Proceedings of the
Eastern Joint Computer Conference, 1959), applied to actual times instead of estimates. Each step's span reaches from
the end of the last dependency that it waited for, its *driver*, to its own end. So along a chain of drivers, spans
touch, and add up to the makespan exactly. Slack is the method's total float, from a backward pass. The makespan
without waiting comes from a forward pass. All of it is linear in steps and dependencies.

A step that becomes several is a graph of its own, within its span: the steps in it that wait for no others begin when
it becomes several, and it ends after the last of them. So the path leads through them, and the step itself has on it
only its time before that.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from stepwave._model.report import RunReport
from stepwave._model.results import State
from stepwave._model.step_report import Phase, PhaseKind, StepReport, TimeParts
from stepwave._values.time import NANOS_PER_MICROSECOND, to_nanos
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .timeline import Timeline, Track, by_level, read_timeline

__all__ = ["report_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = timedelta()
_NO_PARTS = TimeParts()
_KINDS = tuple(PhaseKind)  # in the order of the fields of `TimeParts`; an index is faster than a kind
_WORK, _WAITING, _BACKOFF, _BARRIER, _PLANNING, _EXTERNAL, _NESTED = range(len(_KINDS))
_MARKED = {PhaseKind.WORK: _WORK, PhaseKind.EXTERNAL: _EXTERNAL, PhaseKind.NESTED: _NESTED}
_FINISH = attrgetter("finish")
_LEVEL = attrgetter("level")


@dataclass(slots=True, eq=False)
class _Span:
    """A step's time: what determined its beginning, and its phases.

    Attributes:
        finish: The number of its `step_finished` event; 0: it has not ended.
        driver: The dependency whose end determined `begin`; `None`: the start of its graph did.
        begin: When its time begins.
        anchor: When it was ready; `begin` if it never was.
        end: When it ended. If it has not: the newest event's time if it waits or runs, else `begin`.
        phases: The phases of its time, in order.
        parts: The sums of its phases.
        own: Its work and backoff, and the time in which someone outside had to complete it.
        slack: How much later it could have ended.
        latest: The latest time at which it could have ended, by its dependents so far.
        replayed: When it would have ended without waiting.
        on_path: Whether it is on the critical path.
        deps: The dependencies that had to end before it was ready.
        options: The dependencies of which any one was enough.
        outer: The span of the step that it is within; `None`: it is a step of the run's own workflow.
        inner: The spans of the steps within it, by level.
    """

    track: Track
    finish: int
    driver: "_Span | None"
    begin: int
    anchor: int
    end: int
    phases: tuple[Phase, ...]
    parts: TimeParts
    own: int
    deps: "Sequence[_Span]"
    options: "Sequence[_Span]"
    latest: int
    outer: "_Span | None" = None
    inner: "_Levels" = ()
    slack: int = 0
    replayed: int = 0
    on_path: bool = False

    @property
    def started(self) -> bool:
        """Whether an attempt of it started, or it became several."""
        return bool(self.track.marks)

    @property
    def begun(self) -> bool:
        """Whether it was ready, or spent any time."""
        return self.track.ready is not None or self.end > self.begin


_Levels: TypeAlias = Sequence[Sequence[_Span]]
"""The spans of one graph, by topological level."""


def report_of(
    definition: pb.RunDefinition, events: Sequence[event_pb2.RunEvent], until: datetime | None = None
) -> RunReport:
    """Return the report on a run.

    Args:
        definition: The run's definition.
        events: The run's numbered events, in order.
        until: The end of the report on a run under way; `None` or an earlier time: the newest event's time.

    Raises:
        InvalidExport: The events name a step that the run does not have.
    """
    timeline = read_timeline(definition, events)
    if until is not None and not timeline.state.ended:
        timeline.end = max(timeline.end, to_nanos(until))
    waves = _spans(timeline, timeline.by_wave(), _Graph(timeline.start, timeline.by_waves))
    path = _path(waves, under_way=not timeline.state.ended)
    _set_slack(waves, timeline.end, by_waves=timeline.by_waves)
    return _report(timeline, waves, path)


class _Graph(NamedTuple):
    """A graph: that of the run, or that of a step that became several. `outer` is the span of that step."""

    start: int
    by_waves: bool
    outer: _Span | None = None


def _spans(timeline: Timeline, levels: Iterable[Sequence[Track]], graph: _Graph) -> _Levels:
    """Return the spans of the steps of a graph, by level, with those within them."""
    spans: dict[str, _Span] = {}
    found: list[list[_Span]] = []
    passed: int | None = graph.start  # when all earlier levels had ended; `None`: they have not
    for tracks in levels:
        level = []
        for track in tracks:
            span = _span(timeline, graph, track, [spans[dep] for dep in track.deps if dep in spans], passed)
            if track.inner and track.expanded is not None:
                inner = _Graph(track.expanded, track.has_barriers, span)
                span.inner = _spans(timeline, by_level(track.inner, _LEVEL), inner)
            level.append(span)
        spans.update((span.track.step_id, span) for span in level)
        found.append(level)
        ended = all(span.finish for span in level)
        passed = max(passed, *(span.end for span in level)) if ended and passed is not None and level else None
    return found


def _span(timeline: Timeline, graph: _Graph, track: Track, deps: list[_Span], passed: int | None) -> _Span:
    """Return the span of a step, from those of its dependencies and the end of all earlier levels."""
    finish = track.finish
    ended = [dep for dep in deps if dep.finish and not 0 < finish < dep.finish]
    succeeded = [dep for dep in deps if dep.track.state is State.SUCCEEDED] if track.any_join else []
    any_satisfied = bool(succeeded) and (track.ready is not None or not finish)
    driver = min(succeeded, key=_FINISH) if any_satisfied else max(ended, key=_FINISH) if ended else None
    begin = graph.start if driver is None else driver.end
    may_begin = any_satisfied or len(ended) == len(track.deps)
    if may_begin and timeline.state is State.RUNNING and not finish and not track.marks:
        _set_ready(graph, track, begin, passed)
    lasts = may_begin or bool(track.marks)
    end = max(begin, track.end if track.end is not None else timeline.end if lasts else begin)
    phases, sums = _phases(timeline, graph, track, begin, end)
    return _Span(
        track=track,
        finish=finish,
        driver=driver,
        begin=begin,
        anchor=begin if track.ready is None else max(begin, track.ready),
        end=end,
        phases=phases,
        parts=_parts(sums),
        own=sums[_WORK] + sums[_BACKOFF] + sums[_EXTERNAL],
        deps=[driver] if any_satisfied and driver is not None else ended,
        options=succeeded if any_satisfied else (),
        latest=timeline.end,
        outer=graph.outer,
    )


def _set_ready(graph: _Graph, track: Track, begin: int, passed: int | None) -> None:
    """Set when a waiting step became ready: events have this only once its first attempt starts."""
    if not graph.by_waves:
        track.ready = max(begin, track.added)
    elif passed is not None:
        track.ready = max(begin, passed)


def _phases(
    timeline: Timeline, graph: _Graph, track: Track, begin: int, end: int
) -> tuple[tuple[Phase, ...], list[int]]:
    """Return the phases of a step's time in order, none of them empty or beyond its end, and their sums by kind."""
    found = _changes(graph, track, begin)
    phases, sums = [], [0] * len(_KINDS)
    stop = _delta(end - timeline.start)
    for kind, time in reversed(found):  # a pause that was cut short ends with the next phase
        if time < end:
            start = _delta(time - timeline.start)
            phases.append(Phase(_KINDS[kind], start, stop))
            sums[kind] += end - time
            end, stop = time, start
    return tuple(phases[::-1]), sums


def _changes(graph: _Graph, track: Track, begin: int) -> list[tuple[int, int]]:
    """Return the phases of a step's time, as indexes in `_KINDS`, with the time when each began."""
    found = [(_BARRIER if graph.by_waves else _PLANNING, begin)]
    if track.ready is not None:
        found.append((_WAITING, max(begin, track.ready)))
    for time, kind, until in track.marks:
        since = max(begin, time)
        if kind is PhaseKind.BACKOFF:
            found += (_BACKOFF, since), (_WAITING, max(until, since))
        else:
            found.append((_MARKED[kind], since))
    return found


def _path(waves: _Levels, *, under_way: bool) -> list[_Span]:
    """Walk back from the last step along the drivers, and return the chain in order.

    Before a step that became several come the steps within it, from the last one back to where it became several.
    """
    path: list[_Span] = []
    span = _last_of(waves, under_way=under_way)
    while span is not None:
        while (inner := _last_of(span.inner, under_way=under_way and not span.finish)) is not None:
            span = inner
        path.append(span)
        while span.driver is None and span.outer is not None:
            span = span.outer
            path.append(span)
        span = span.driver
    for span in path:
        span.on_path = True
    return path[::-1]


def _last_of(levels: _Levels, *, under_way: bool) -> _Span | None:
    """Return the step of a graph that ended last; in a run under way the one that has been under way longest."""
    spans = [span for level in levels for span in level if span.finish or span.begun]
    if under_way:
        spans = [span for span in spans if not span.finish and span.begun] or spans
    return max(spans, key=_last, default=None)


def _last(span: _Span) -> tuple[int, bool, bool, int, int]:
    """Order spans by their ends. Ties: those that spent time, that started, the latest event, the earliest begin."""
    return span.end, span.begun, span.started, span.finish, -span.begin


def _set_slack(levels: _Levels, end: int, *, by_waves: bool) -> None:
    """Set the slack of all steps of a graph that may end at a time, by a backward pass from there."""
    barrier = end
    for level in reversed(levels):
        following = barrier
        for span in level:
            span.slack = min(span.latest, following) - span.end
            inner_end = span.end if span.track.nested_end is None else span.track.nested_end
            _set_slack(span.inner, inner_end + span.slack, by_waves=span.track.has_barriers)
            begins = span.anchor + span.slack
            for dep in span.deps:
                if begins < dep.latest:
                    dep.latest = begins
            if by_waves and span.track.ready is not None:
                barrier = min(barrier, begins)


def _makespan(timeline: Timeline, waves: _Levels, *, barriers: bool) -> int:
    """Return the makespan without waiting."""
    return _replay(waves, timeline.start, barriers=barriers, by_waves=timeline.by_waves) - timeline.start


def _replay(levels: _Levels, start: int, *, barriers: bool, by_waves: bool) -> int:
    """Return when a graph would end without waiting, by a forward pass over the steps' own times."""
    passed = latest = start
    for level in levels:
        for span in level:
            begin = max(start, span.track.added if span.outer is None else start, _allowed(span))
            if barriers and by_waves and span.track.ready is not None:
                begin = max(begin, passed)
            span.replayed = begin + span.own if span.finish or span.begun else start
            if span.inner:
                span.replayed = _replay(span.inner, span.replayed, barriers=barriers, by_waves=span.track.has_barriers)
            latest = max(latest, span.replayed)
        passed = latest
    return latest


def _allowed(span: _Span) -> int:
    """Return when a step could begin, by the ends of its dependencies in the same pass."""
    if span.options:
        return min([dep.replayed for dep in span.options])
    return max([dep.replayed for dep in span.deps], default=0)


def _report(timeline: Timeline, waves: _Levels, path: Sequence[_Span]) -> RunReport:
    spans = {span.track.step_id: span for span in _all(waves)}
    steps = {track.step_id: _step(timeline, track, spans.get(track.step_id)) for track in timeline.in_order()}
    makespan = timeline.end - timeline.start
    idle = timeline.end - max(span.end for span in path) if path else makespan
    totals = _sum(spans.values())
    sequential = totals.work + totals.backoff + totals.external
    without_waits = _makespan(timeline, waves, barriers=timeline.by_any_waves)
    unbarred = _makespan(timeline, waves, barriers=False) if timeline.by_any_waves else without_waits
    # An open run that was idle at its end was ended by its planner, however fast its steps were.
    shortest = makespan if idle else 0
    without_waiting, without_barriers = max(without_waits, shortest), max(unbarred, shortest)
    return RunReport(
        run_id=timeline.run_id,
        workflow_name=timeline.workflow_name,
        state=timeline.state,
        start_time=_EPOCH + _delta(timeline.start),
        end_time=_EPOCH + _delta(timeline.end),
        makespan=_delta(makespan),
        path=tuple(span.track.step_id for span in path),
        path_parts=_path_parts(path, makespan, idle),
        totals=totals,
        sequential=sequential,
        speed_up=sequential / _delta(makespan) if makespan else None,
        without_waiting=_delta(without_waiting),
        without_barriers=_delta(without_barriers),
        saved_by_more_parallelism=_delta(makespan - without_waiting),
        peak=timeline.peak,
        max_parallelism=timeline.max_parallelism,
        bounded=0 < timeline.max_parallelism <= timeline.peak and bool(totals.waiting),
        steps=steps,
    )


def _step(timeline: Timeline, track: Track, span: _Span | None) -> StepReport:
    since = timeline.start
    return StepReport(
        step_id=track.step_id,
        action=track.action,
        state=track.state,
        wave=track.wave,
        attempts=track.attempts,
        begin=_delta((timeline.end if span is None else span.begin) - since),
        end=_delta((timeline.end if span is None else span.end) - since),
        phases=() if span is None else span.phases,
        parts=_NO_PARTS if span is None else span.parts,
        slack=_ZERO if span is None else _delta(span.slack),
        on_path=span is not None and span.on_path,
        reused_from=track.reused_from,
        item_count=track.item_count,
        max_parallelism=track.max_parallelism,
    )


def _all(levels: _Levels) -> Iterator[_Span]:
    """Yield the spans of a graph, and of those within it."""
    for level in levels:
        for span in level:
            yield span
            yield from _all(span.inner)


def _path_parts(path: Sequence[_Span], makespan: int, idle: int) -> TimeParts:
    """Return the parts of the makespan. What a step took to end after all that it became is `nested`."""
    parts = _sum(path, planning=idle)
    return replace(parts, nested=_delta(makespan) - parts.total)


def _sum(spans: Iterable[_Span], *, planning: int = 0) -> TimeParts:
    """Return the sums of the parts of spans, without the time of steps within them."""
    work = waiting = backoff = barrier = external = _ZERO
    planned = _delta(planning)
    for parts in (span.parts for span in spans):
        work += parts.work
        waiting += parts.waiting
        backoff += parts.backoff
        barrier += parts.barrier
        planned += parts.planning
        external += parts.external
    return TimeParts(work, waiting, backoff, barrier, planned, external)


def _parts(sums: Iterable[int]) -> TimeParts:
    return TimeParts(*[timedelta(0, 0, time // NANOS_PER_MICROSECOND) if time else _ZERO for time in sums])


def _delta(nanoseconds: int) -> timedelta:
    return timedelta(0, 0, nanoseconds // NANOS_PER_MICROSECOND) if nanoseconds else _ZERO
