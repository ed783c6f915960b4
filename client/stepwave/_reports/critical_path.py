"""The report on a run, with its critical path: a pure function of the run's export.

The critical path method (J. E. Kelley and M. R. Walker, "Critical-path planning and scheduling", Proceedings of the
Eastern Joint Computer Conference, 1959), applied to actual times instead of estimates. Each step's span reaches from
the end of the last dependency that it waited for, its *driver*, to its own end. So along a chain of drivers, spans
touch, and add up to the makespan exactly. Slack is the method's total float, from a backward pass. The makespan
without waiting comes from a forward pass. All of it is linear in steps and dependencies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from stepwave._model.report import RunReport
from stepwave._model.results import State
from stepwave._model.step_report import Phase, PhaseKind, StepReport, TimeParts
from stepwave._values.time import NANOS_PER_MICROSECOND, to_nanos
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .timeline import Timeline, Track, read_timeline

__all__ = ["report_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = timedelta()
_NO_PARTS = TimeParts()
_KINDS = tuple(PhaseKind)  # in the order of the fields of `TimeParts`; an index is faster than a kind
_WORK, _WAITING, _BACKOFF, _BARRIER, _PLANNING = range(len(_KINDS))
_FINISH = attrgetter("finish")


@dataclass(slots=True, eq=False)
class _Span:
    """A step's time: what determined its beginning, and its phases.

    Attributes:
        finish: The number of its `step_finished` event; 0: it has not ended.
        driver: The dependency whose end determined `begin`; `None`: the run's start did.
        begin: When its time begins.
        anchor: When it was ready; `begin` if it never was.
        end: When it ended. If it has not: the newest event's time if it waits or runs, else `begin`.
        phases: The phases of its time, in order.
        parts: The sums of its phases.
        own: Its work and backoff.
        slack: How much later it could have ended.
        latest: The latest time at which it could have ended, by its dependents so far.
        replayed: When it would have ended without waiting.
        on_path: Whether it is on the critical path.
        deps: The dependencies that had to end before it was ready.
        options: The dependencies of which any one was enough.
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
    slack: int = 0
    replayed: int = 0
    on_path: bool = False

    @property
    def begun(self) -> bool:
        """Whether it was ready, or spent any time."""
        return self.track.ready is not None or self.end > self.begin


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
    waves = _spans(timeline)
    path = _path(waves, under_way=not timeline.state.ended)
    _set_slack(timeline, waves)
    return _report(timeline, waves, path)


def _spans(timeline: Timeline) -> list[list[_Span]]:
    """Return the spans of all steps whose wave is known, by wave."""
    spans: dict[str, _Span] = {}
    waves: list[list[_Span]] = []
    passed: int | None = timeline.start  # when all earlier waves had ended; `None`: they have not
    for tracks in timeline.by_wave():
        wave = [_span(timeline, track, [spans[dep] for dep in track.deps if dep in spans], passed) for track in tracks]
        spans.update((span.track.step_id, span) for span in wave)
        waves.append(wave)
        ended = all(span.finish for span in wave)
        passed = max(passed, *(span.end for span in wave)) if ended and passed is not None and wave else None
    return waves


def _span(timeline: Timeline, track: Track, deps: list[_Span], passed: int | None) -> _Span:
    """Return the span of a step, from those of its dependencies and the end of all earlier waves."""
    finish = track.finish
    ended = [dep for dep in deps if dep.finish and not 0 < finish < dep.finish]
    succeeded = [dep for dep in deps if dep.track.state is State.SUCCEEDED] if track.any_join else []
    any_satisfied = bool(succeeded) and (track.ready is not None or not finish)
    driver = min(succeeded, key=_FINISH) if any_satisfied else max(ended, key=_FINISH) if ended else None
    begin = timeline.start if driver is None else driver.end
    may_begin = any_satisfied or len(ended) == len(track.deps)
    if may_begin and timeline.state is State.RUNNING and not finish and not track.marks:
        _set_ready(timeline, track, begin, passed)
    lasts = may_begin or bool(track.marks)
    end = max(begin, track.end if track.end is not None else timeline.end if lasts else begin)
    phases, sums = _phases(timeline, track, begin, end)
    return _Span(
        track=track,
        finish=finish,
        driver=driver,
        begin=begin,
        anchor=begin if track.ready is None else max(begin, track.ready),
        end=end,
        phases=phases,
        parts=_parts(sums),
        own=sums[_WORK] + sums[_BACKOFF],
        deps=[driver] if any_satisfied and driver is not None else ended,
        options=succeeded if any_satisfied else (),
        latest=timeline.end,
    )


def _set_ready(timeline: Timeline, track: Track, begin: int, passed: int | None) -> None:
    """Set when a waiting step became ready: events have this only once its first attempt starts."""
    if not timeline.by_waves:
        track.ready = max(begin, track.added)
    elif passed is not None:
        track.ready = max(begin, passed)


def _phases(timeline: Timeline, track: Track, begin: int, end: int) -> tuple[tuple[Phase, ...], list[int]]:
    """Return the phases of a step's time in order, none of them empty or beyond its end, and their sums by kind."""
    found = _changes(timeline, track, begin)
    phases, sums = [], [0] * len(_KINDS)
    stop = _delta(end - timeline.start)
    for kind, time in reversed(found):  # a pause that was cut short ends with the next phase
        if time < end:
            start = _delta(time - timeline.start)
            phases.append(Phase(_KINDS[kind], start, stop))
            sums[kind] += end - time
            end, stop = time, start
    return tuple(phases[::-1]), sums


def _changes(timeline: Timeline, track: Track, begin: int) -> list[tuple[int, int]]:
    """Return the phases of a step's time, as indexes in `_KINDS`, with the time when each began."""
    found = [(_BARRIER if timeline.by_waves else _PLANNING, begin)]
    if track.ready is not None:
        found.append((_WAITING, max(begin, track.ready)))
    for time, kind, until in track.marks:
        since = max(begin, time)
        if kind is PhaseKind.WORK:
            found.append((_WORK, since))
        else:
            found += (_BACKOFF, since), (_WAITING, max(until, since))
    return found


def _path(waves: Sequence[Sequence[_Span]], *, under_way: bool) -> list[_Span]:
    """Walk back from the last step along the drivers, and return the chain in order."""
    spans = [span for wave in waves for span in wave if span.finish or span.begun]
    if under_way:
        spans = [span for span in spans if not span.finish and span.begun] or spans
    last = max(spans, key=_last, default=None)
    path: list[_Span] = []
    while last is not None:
        last.on_path = True
        path.append(last)
        last = last.driver
    return path[::-1]


def _last(span: _Span) -> tuple[int, bool, int, int]:
    """Order spans by their ends. Ties: those that spent time, then the latest event, then the earliest beginning."""
    return span.end, span.begun, span.finish, -span.begin


def _set_slack(timeline: Timeline, waves: Sequence[Sequence[_Span]]) -> None:
    """Set the slack of all steps, by a backward pass from the run's end."""
    barrier = timeline.end
    for wave in reversed(waves):
        following = barrier
        for span in wave:
            span.slack = min(span.latest, following) - span.end
            begins = span.anchor + span.slack
            for dep in span.deps:
                if begins < dep.latest:
                    dep.latest = begins
            if timeline.by_waves and span.track.ready is not None:
                barrier = min(barrier, begins)


def _replay(timeline: Timeline, waves: Sequence[Sequence[_Span]], *, barriers: bool) -> int:
    """Return the makespan without waiting, by a forward pass over the steps' own times."""
    passed = latest = timeline.start
    for wave in waves:
        for span in wave:
            begin = max(timeline.start, span.track.added, _allowed(span))
            if barriers and span.track.ready is not None:
                begin = max(begin, passed)
            span.replayed = begin + span.own if span.finish or span.begun else timeline.start
            latest = max(latest, span.replayed)
        passed = latest
    return latest - timeline.start


def _allowed(span: _Span) -> int:
    """Return when a step could begin, by the ends of its dependencies in the same pass."""
    if span.options:
        return min([dep.replayed for dep in span.options])
    return max([dep.replayed for dep in span.deps], default=0)


def _report(timeline: Timeline, waves: Sequence[Sequence[_Span]], path: Sequence[_Span]) -> RunReport:
    spans = {span.track.step_id: span for wave in waves for span in wave}
    steps = {track.step_id: _step(timeline, track, spans.get(track.step_id)) for track in timeline.tracks.values()}
    makespan = timeline.end - timeline.start
    idle = timeline.end - path[-1].end if path else makespan
    totals = _sum(spans.values())
    sequential = totals.work + totals.backoff
    without_waits = _replay(timeline, waves, barriers=timeline.by_waves)
    unbarred = _replay(timeline, waves, barriers=False) if timeline.by_waves else without_waits
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
        path_parts=_sum(path, planning=idle),
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
    )


def _sum(spans: Iterable[_Span], *, planning: int = 0) -> TimeParts:
    """Return the sums of the parts of spans."""
    work = waiting = backoff = barrier = _ZERO
    planned = _delta(planning)
    for parts in (span.parts for span in spans):
        work += parts.work
        waiting += parts.waiting
        backoff += parts.backoff
        barrier += parts.barrier
        planned += parts.planning
    return TimeParts(work, waiting, backoff, barrier, planned)


def _parts(sums: Iterable[int]) -> TimeParts:
    return TimeParts(*[timedelta(0, 0, time // NANOS_PER_MICROSECOND) if time else _ZERO for time in sums])


def _delta(nanoseconds: int) -> timedelta:
    return timedelta(0, 0, nanoseconds // NANOS_PER_MICROSECOND) if nanoseconds else _ZERO
