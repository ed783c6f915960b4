"""The timeline of a run's steps, read from its events, for reports.

Times are nanoseconds since the epoch, truncated to microseconds, so sums are exact as `timedelta`s too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import NamedTuple

from google.protobuf import timestamp_pb2

from stepwave._convert.results import state_from_proto
from stepwave._model.results import State
from stepwave._model.step_report import PhaseKind
from stepwave._values.time import NANOS_PER_MICROSECOND, NANOS_PER_SECOND
from stepwave.exceptions import InvalidExport
from stepwave.v1 import event_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["Mark", "Timeline", "Track", "by_level", "dependencies", "read_timeline"]

_WAIT_ACTION = "core.wait"
_WORKFLOW_ACTION = "core.workflow"


@dataclass(slots=True, eq=False)
class _Shape:
    """A nested workflow: its steps in declaration order, and whether it has `wave` scheduling."""

    steps: "list[_ShapeStep]"
    by_waves: bool


class _ShapeStep(NamedTuple):
    """A step of a nested workflow. `level` is its topological level there, and `inner` the workflow that it runs."""

    id: str
    action: str
    deps: tuple[str, ...]
    any_join: bool
    level: int
    max_parallelism: int
    inner: _Shape | None


class Mark(NamedTuple):
    """The beginning of a phase. A backoff lasts `until` then, and waiting follows."""

    time: int
    kind: PhaseKind
    until: int = 0


@dataclass(slots=True, eq=False)
class Track:
    """The timeline of a step.

    Attributes:
        deps: The ids of its dependencies.
        any_join: Whether one dependency that succeeds is enough.
        added: When it was added to the run.
        shape: The workflow that it runs, if that is known: its own, or the one that its action chose.
        outer: The step that it is directly within; `None`: it is a step of the run's own workflow.
        level: Its topological level among the steps within `outer`.
        expanded: When it became several; `None`: it did not.
        inner: The steps directly within it, in declaration order.
        item_count: The number of children of its list; `None`: it has none.
        max_parallelism: The list's limit on children in flight; 0: none.
        wave: Its topological level; -1: not known yet, because an ancestor is still to be added.
        ready: When it became ready; `None`: it did not, or no event says so yet.
        marks: The starts and failures of attempts, and that it became several, in order.
        end: When it ended; `None`: not yet.
        finish: The number of its `step_finished` event; 0: it has not ended.
    """

    step_id: str
    action: str
    deps: tuple[str, ...]
    any_join: bool
    added: int
    shape: _Shape | None = None
    outer: "Track | None" = None
    level: int = 0
    wave: int = -1
    ready: int | None = None
    marks: list[Mark] = field(default_factory=list)
    end: int | None = None
    finish: int = 0
    state: State = State.PENDING
    attempts: int = 0
    reused_from: str = ""
    expanded: int | None = None
    inner: "list[Track]" = field(default_factory=list)
    item_count: int | None = None
    max_parallelism: int = 0

    @property
    def running(self) -> bool:
        """Whether an attempt runs, by the newest mark."""
        return bool(self.marks) and not self.finish and self.marks[-1].kind is PhaseKind.WORK

    @property
    def nested_end(self) -> int | None:
        """When the steps that it became had ended; `None`: not before its own end, as it needed no fallback."""
        for mark, following in pairwise(self.marks):
            if mark.kind is PhaseKind.NESTED:
                return following.time
        return None

    @property
    def has_barriers(self) -> bool:
        """Whether it runs a workflow with `wave` scheduling."""
        return self.item_count is None and self.shape is not None and self.shape.by_waves


@dataclass(slots=True, eq=False)
class Timeline:
    """The timeline of a run.

    Attributes:
        by_waves: Whether it has `wave` scheduling.
        max_parallelism: The workflow's limit on attempts in flight; 0: no limit.
        start: When it began; if it has not, when it was accepted.
        end: The time of its newest event.
        tracks: All steps by id; first those of the run's own workflow, in declaration order.
        by_any_waves: Whether a workflow within it has `wave` scheduling, or it has.
        peak: The largest number of attempts in flight at once.
    """

    run_id: str
    workflow_name: str
    by_waves: bool
    max_parallelism: int
    start: int
    end: int
    state: State = State.PENDING
    tracks: dict[str, Track] = field(default_factory=dict)
    peak: int = 0
    in_flight: int = 0
    by_any_waves: bool = False

    def in_order(self) -> Iterator[Track]:
        """Yield all steps in declaration order, those within a step after it."""
        yield from _with_inner(track for track in self.tracks.values() if track.outer is None)

    def by_wave(self) -> list[list[Track]]:
        """Return the steps of the run's own workflow whose wave is known, by wave."""
        return by_level((track for track in self.tracks.values() if track.outer is None), lambda track: track.wave)


def by_level(tracks: Iterable[Track], level_of: Callable[[Track], int]) -> list[list[Track]]:
    """Return the steps whose level is known, by level. Each comes after its dependencies."""
    levels: list[list[Track]] = []
    for track in tracks:
        level = level_of(track)
        if level >= 0:
            levels.extend([] for _ in range(level + 1 - len(levels)))
            levels[level].append(track)
    return levels


def _with_inner(tracks: Iterable[Track]) -> Iterator[Track]:
    for track in tracks:
        yield track
        yield from _with_inner(track.inner)


def read_timeline(definition: pb.RunDefinition, events: Iterable[event_pb2.RunEvent]) -> Timeline:
    """Return the timeline of a run, by one pass over its events.

    Raises:
        InvalidExport: The events name a step that the run does not have.
    """
    workflow, accepted = definition.workflow, _nanoseconds(definition.create_time)
    timeline = Timeline(
        run_id=definition.run_id,
        workflow_name=workflow.name,
        by_waves=workflow.scheduling == workflow_pb2.SCHEDULING_WAVE,
        max_parallelism=workflow.max_parallelism,
        start=accepted,
        end=accepted,
    )
    timeline.by_any_waves = timeline.by_waves
    _add(timeline, workflow.steps, accepted)
    for number, event in enumerate(events, start=1):
        try:
            _apply(timeline, event, number)
        except KeyError as unknown:
            place = f"run {definition.run_id!r}, events[{number - 1}]"
            raise InvalidExport(f"{place}: its events name a step that it does not have: {unknown}") from None
    return timeline


def dependencies(step: workflow_pb2.Step) -> tuple[str, ...]:
    """Return the distinct ids of a step's dependencies, with those implied by bindings."""
    implied = [binding.step.id for binding in step.bindings if binding.HasField("step")]
    if step.HasField("fallback"):
        implied += [binding.step.id for binding in step.fallback.action.bindings if binding.HasField("step")]
    if step.HasField("for_each") and step.for_each.HasField("step"):
        implied.append(step.for_each.step.id)
    return tuple(dict.fromkeys((*step.depends_on, *implied)))


def _apply(timeline: Timeline, event: event_pb2.RunEvent, number: int) -> None:
    time = _nanoseconds(event.time)
    if time > timeline.end:
        timeline.end = time
    handle = _HANDLERS.get(event.WhichOneof("kind") or "")
    if handle is not None:
        handle(timeline, event, time, number)


def _run_started(timeline: Timeline, event: event_pb2.RunEvent, time: int, number: int) -> None:
    if number == 1:
        timeline.start = timeline.end = time
        timeline.state = State.RUNNING
        for track in timeline.tracks.values():
            track.added = time
    _set_waves(timeline, event.run_started.waves)


def _step_started(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    body = event.step_started
    track = timeline.tracks[body.step_id]
    external = body.action == _WAIT_ACTION
    if not (track.running or external):
        timeline.in_flight += 1
        timeline.peak = max(timeline.peak, timeline.in_flight)
    if track.ready is None and body.HasField("ready_time"):
        track.ready = _nanoseconds(body.ready_time)
    track.state, track.attempts = State.RUNNING, body.attempt
    track.marks.append(Mark(time, PhaseKind.EXTERNAL if external else PhaseKind.WORK))


def _step_expanded(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    body = event.step_expanded
    track = timeline.tracks[body.step_id]
    timeline.in_flight -= track.running
    if track.ready is None and body.HasField("ready_time"):
        track.ready = _nanoseconds(body.ready_time)
    track.state, track.expanded = State.RUNNING, time
    track.marks.append(Mark(time, PhaseKind.NESTED))
    if body.HasField("workflow"):
        track.shape = _shape(body.workflow)
    if body.HasField("item_count"):
        track.item_count = body.item_count
        for index in range(body.item_count):
            child = Track(
                step_id=f"{track.step_id}[{index}]",
                action=track.action,
                deps=(),
                any_join=False,
                added=time,
                shape=track.shape,
                outer=track,
                wave=track.wave,
            )
            _add_within(timeline, track, child)
    elif track.shape is not None:
        timeline.by_any_waves = timeline.by_any_waves or track.shape.by_waves
        for step in track.shape.steps:
            _add_within(timeline, track, _nested_track(track, step, time))


def _nested_track(outer: Track, step: _ShapeStep, time: int) -> Track:
    return Track(
        step_id=f"{outer.step_id}/{step.id}",
        action=step.action,
        deps=tuple([f"{outer.step_id}/{dep}" for dep in step.deps]),
        any_join=step.any_join,
        added=time,
        shape=step.inner,
        outer=outer,
        level=step.level,
        wave=outer.wave,
        max_parallelism=step.max_parallelism,
    )


def _add_within(timeline: Timeline, outer: Track, track: Track) -> None:
    outer.inner.append(track)
    timeline.tracks[track.step_id] = track


def _step_retrying(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    track = timeline.tracks[event.step_retrying.step_id]
    timeline.in_flight -= track.running
    track.marks.append(Mark(time, PhaseKind.BACKOFF, _nanoseconds(event.step_retrying.next_time)))


def _step_ready(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    """End a pause at the time of its event: the server may have been down when the pause was over."""
    marks = timeline.tracks[event.step_ready.step_id].marks
    if marks and marks[-1].kind is PhaseKind.BACKOFF:
        marks[-1] = marks[-1]._replace(until=time)


def _step_finished(timeline: Timeline, event: event_pb2.RunEvent, time: int, number: int) -> None:
    result = event.step_finished.result
    track = timeline.tracks[result.step_id]
    timeline.in_flight -= track.running
    if result.HasField("ready_time"):
        track.ready = _nanoseconds(result.ready_time)
    track.end, track.finish = time, number
    track.state = state_from_proto(result.state)
    track.attempts, track.reused_from = result.attempts, result.reused_from


def _steps_added(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    _add(timeline, event.steps_added.steps, time)
    _set_waves(timeline, event.steps_added.waves)


def _run_finished(timeline: Timeline, event: event_pb2.RunEvent, _: int, __: int) -> None:
    timeline.state = state_from_proto(event.run_finished.result.state)


_HANDLERS: dict[str, Callable[[Timeline, event_pb2.RunEvent, int, int], None]] = {
    "run_started": _run_started,
    "step_started": _step_started,
    "step_retrying": _step_retrying,
    "step_ready": _step_ready,
    "step_expanded": _step_expanded,
    "step_finished": _step_finished,
    "steps_added": _steps_added,
    "run_finished": _run_finished,
}


def _add(timeline: Timeline, steps: Iterable[workflow_pb2.Step], time: int) -> None:
    for step in steps:
        any_join = step.join == workflow_pb2.JOIN_ANY
        timeline.tracks[step.id] = Track(
            step_id=step.id,
            action=_action(step),
            deps=dependencies(step),
            any_join=any_join,
            added=time,
            shape=_shape(step.workflow) if step.HasField("workflow") else None,
            max_parallelism=step.for_each.max_parallelism,
        )


def _action(step: workflow_pb2.Step) -> str:
    return _WORKFLOW_ACTION if step.HasField("workflow") else step.action


def _shape(workflow: workflow_pb2.Workflow) -> _Shape:
    """Return the shape of a workflow, and of those within it."""
    deps = {step.id: dependencies(step) for step in workflow.steps}
    levels = _levels(deps)
    steps = [
        _ShapeStep(
            id=step.id,
            action=_action(step),
            deps=deps[step.id],
            any_join=step.join == workflow_pb2.JOIN_ANY,
            level=levels[step.id],
            max_parallelism=step.for_each.max_parallelism,
            inner=_shape(step.workflow) if step.HasField("workflow") else None,
        )
        for step in workflow.steps
    ]
    return _Shape(steps, workflow.scheduling == workflow_pb2.SCHEDULING_WAVE)


def _levels(deps: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """Return the topological level of each step: 0 without dependencies, else 1 + the highest of theirs.

    Raises:
        InvalidExport: They depend on each other in a circle, or on a step that the workflow does not have.
    """
    levels: dict[str, int] = {}
    sorter = TopologicalSorter(deps)
    try:
        for step_id in sorter.static_order():
            levels[step_id] = max((levels[dep] + 1 for dep in deps[step_id]), default=0)
    except (CycleError, KeyError) as error:
        raise InvalidExport(f"a nested workflow is malformed: {error}") from error
    return levels


def _set_waves(timeline: Timeline, waves: Iterable[event_pb2.Wave]) -> None:
    for wave in waves:
        for step_id in wave.step_ids:
            timeline.tracks[step_id].wave = wave.index


def _nanoseconds(stamp: timestamp_pb2.Timestamp) -> int:
    return stamp.seconds * NANOS_PER_SECOND + stamp.nanos // NANOS_PER_MICROSECOND * NANOS_PER_MICROSECOND
