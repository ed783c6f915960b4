"""The critical path of a run, and all that a report says beside it: a pure function of what is kept of the run.

The critical path method (J. E. Kelley and M. R. Walker, "Critical-path planning and scheduling", Proceedings of the
Eastern Joint Computer Conference, 1959), applied to what happened instead of estimates. Each step's time reaches from
the end of the dependency that it had to wait for, its *decider*, to its own end, so that along a chain of deciders
spans touch, and add up to the makespan without remainder. Slack is the method's total float, by a pass backwards; what
a run without waiting would have taken is its forward pass. All of it is linear in steps and dependencies.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter

from stepwave._model.report import Phase, PhaseKind, RunReport, StepReport, TimeParts
from stepwave._model.results import State
from stepwave._values.time import NANOS_PER_MICROSECOND, to_nanos
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .timeline import Timeline, Track, read_timeline

__all__ = ["report_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = timedelta()
_NO_PARTS = TimeParts()
_KINDS = tuple(PhaseKind)  # in the order of the fields of `TimeParts`; a place in here is hashed faster than a kind
_WORK, _WAITING, _BACKOFF, _BARRIER, _PLANNING = range(len(_KINDS))
_FINISH = attrgetter("finish")


@dataclass(slots=True, eq=False)
class _Span:
    """A step's time: what decided its beginning, and where it went.

    Attributes:
        finish: The number of the event that says that it ended; 0: there is none.
        decider: The dependency whose end let it begin; `None`: the run's start did.
        begin: When that was.
        anchor: When it was ready; `begin` if it never was.
        end: When it ended; if it has not, the newest event's time for one that waits or runs, else `begin`.
        phases: What its time went to, in order.
        parts: The same, added up.
        own: The time that is its own: its work, and its pauses between attempts.
        slack: How much later it could have ended.
        latest: When it could have ended at the latest, as far as its dependents are known.
        replayed: When it would have ended had nobody waited for a place.
        on_path: It is on the critical path.
        deps: The dependencies that had to end before it was ready.
        options: Those of which any one would have done.
    """

    track: Track
    finish: int
    decider: "_Span | None"
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
        """Whether it was, or is, held up by anything but its dependencies."""
        return self.track.ready is not None or self.end > self.begin


def report_of(
    given: pb.RunDefinition, events: Sequence[event_pb2.RunEvent], until: datetime | None = None
) -> RunReport:
    """Report where a run's time went, by all that is kept of it.

    Args:
        given: What the run was given.
        events: Its numbered events, in order.
        until: Up to when a run under way is reported; `None`, or a time before it: its newest event.

    Raises:
        InvalidExport: Its events name a step that it does not have.
    """
    timeline = read_timeline(given, events)
    if until is not None and not timeline.state.ended:
        timeline.end = max(timeline.end, to_nanos(until))
    waves = _spans(timeline)
    path = _path(waves, under_way=not timeline.state.ended)
    _set_slack(timeline, waves)
    return _report(timeline, waves, path)


def _spans(timeline: Timeline) -> list[list[_Span]]:
    """Return the spans of all steps whose wave is known, wave by wave."""
    spans: dict[str, _Span] = {}
    waves: list[list[_Span]] = []
    passed: int | None = timeline.start  # when all earlier waves had ended, if they have
    for tracks in timeline.by_wave():
        wave = [_span(timeline, track, [spans[dep] for dep in track.deps if dep in spans], passed) for track in tracks]
        spans.update((span.track.step_id, span) for span in wave)
        waves.append(wave)
        ended = all(span.finish for span in wave)
        passed = max(passed, *(span.end for span in wave)) if ended and passed is not None and wave else None
    return waves


def _span(timeline: Timeline, track: Track, deps: list[_Span], passed: int | None) -> _Span:
    """Make the span of a step, given those of its dependencies, and when all earlier waves had ended."""
    finish = track.finish
    ended = [dep for dep in deps if dep.finish and not 0 < finish < dep.finish]
    succeeded = [dep for dep in deps if dep.track.state is State.SUCCEEDED] if track.any_join else []
    by_one = bool(succeeded) and (track.ready is not None or not finish)
    decider = min(succeeded, key=_FINISH) if by_one else max(ended, key=_FINISH) if ended else None
    begin = timeline.start if decider is None else decider.end
    may_begin = by_one or len(ended) == len(track.deps)
    if may_begin and timeline.state is State.RUNNING and not finish and not track.marks:
        _expect(timeline, track, begin, passed)
    lasts = may_begin or bool(track.marks)
    end = max(begin, track.end if track.end is not None else timeline.end if lasts else begin)
    phases, sums = _phases(timeline, track, begin, end)
    return _Span(
        track=track,
        finish=finish,
        decider=decider,
        begin=begin,
        anchor=begin if track.ready is None else max(begin, track.ready),
        end=end,
        phases=phases,
        parts=_parts(sums),
        own=sums[_WORK] + sums[_BACKOFF],
        deps=[decider] if by_one and decider is not None else ended,
        options=succeeded if by_one else (),
        latest=timeline.end,
    )


def _expect(timeline: Timeline, track: Track, begin: int, passed: int | None) -> None:
    """Note since when a step waits for its first attempt: events say so only when that starts."""
    if not timeline.by_waves:
        track.ready = max(begin, track.added)
    elif passed is not None:
        track.ready = max(begin, passed)


def _phases(timeline: Timeline, track: Track, begin: int, end: int) -> tuple[tuple[Phase, ...], list[int]]:
    """Return what a step's time went to, in order, and the sums by kind; nothing goes beyond its end, or is empty."""
    found = _turns(timeline, track, begin)
    phases, sums = [], [0] * len(_KINDS)
    stop = _delta(end - timeline.start)
    for place, time in reversed(found):  # a pause that is cut short ends with what follows
        if time < end:
            start = _delta(time - timeline.start)
            phases.append(Phase(_KINDS[place], start, stop))
            sums[place] += end - time
            end, stop = time, start
    return tuple(phases[::-1]), sums


def _turns(timeline: Timeline, track: Track, begin: int) -> list[tuple[int, int]]:
    """Return what a step's time went to, as places in `_KINDS`, each with the time from which it did."""
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
    """Walk back from the last step along what each had to wait for; return the chain in order."""
    spans = [span for wave in waves for span in wave if span.finish or span.begun]
    if under_way:
        spans = [span for span in spans if not span.finish and span.begun] or spans
    last = max(spans, key=_last, default=None)
    path: list[_Span] = []
    while last is not None:
        last.on_path = True
        path.append(last)
        last = last.decider
    return path[::-1]


def _last(span: _Span) -> tuple[int, bool, int, int]:
    """Order spans by their ends: of those that end together, one that had anything to do, and of several the last."""
    return span.end, span.begun, span.finish, -span.begin


def _set_slack(timeline: Timeline, waves: Sequence[Sequence[_Span]]) -> None:
    """Find by how much each step could have ended later: as its dependents could have begun later, or its run ended."""
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
    """Return the makespan had no step waited for a place: the forward pass, with each step's own time."""
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
    """Return when the dependencies let a step begin, by their ends in the same pass."""
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
    replayed = _replay(timeline, waves, barriers=timeline.by_waves)
    unbarred = _replay(timeline, waves, barriers=False) if timeline.by_waves else replayed
    # An open run that had nothing left to do ended when its planner said so, whatever its steps would have taken.
    shortest = makespan if idle else 0
    without_waiting, without_barriers = max(replayed, shortest), max(unbarred, shortest)
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
    """Add up what spans went to."""
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
