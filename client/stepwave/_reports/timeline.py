"""The timeline of a run's steps, read from its events, for reports.

Times are nanoseconds since the epoch, truncated to microseconds, so sums are exact as `timedelta`s too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf import timestamp_pb2

from stepwave._convert.results import state_from_proto
from stepwave._model.results import State
from stepwave._model.step_report import PhaseKind
from stepwave._values.time import NANOS_PER_MICROSECOND, NANOS_PER_SECOND
from stepwave.exceptions import InvalidExport
from stepwave.v1 import event_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["Mark", "Timeline", "Track", "dependencies", "read_timeline"]


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
        wave: Its topological level; -1: not known yet, because an ancestor is still to be added.
        ready: When it became ready; `None`: it did not, or no event says so yet.
        marks: The starts and failures of attempts, in order.
        end: When it ended; `None`: not yet.
        finish: The number of its `step_finished` event; 0: it has not ended.
    """

    step_id: str
    action: str
    deps: tuple[str, ...]
    any_join: bool
    added: int
    wave: int = -1
    ready: int | None = None
    marks: list[Mark] = field(default_factory=list)
    end: int | None = None
    finish: int = 0
    state: State = State.PENDING
    attempts: int = 0
    reused_from: str = ""

    @property
    def running(self) -> bool:
        """Whether an attempt runs, by the newest mark."""
        return bool(self.marks) and not self.finish and self.marks[-1].kind is PhaseKind.WORK


@dataclass(slots=True, eq=False)
class Timeline:
    """The timeline of a run.

    Attributes:
        by_waves: Whether it has `wave` scheduling.
        max_parallelism: The workflow's limit on attempts in flight; 0: no limit.
        start: When it began; if it has not, when it was accepted.
        end: The time of its newest event.
        tracks: All steps by id, in declaration order.
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

    def by_wave(self) -> list[list[Track]]:
        """Return the steps whose wave is known, by wave. Each comes after its dependencies."""
        waves: list[list[Track]] = []
        for track in self.tracks.values():
            if track.wave >= 0:
                waves.extend([] for _ in range(track.wave + 1 - len(waves)))
                waves[track.wave].append(track)
        return waves


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
    if not track.running:
        timeline.in_flight += 1
        timeline.peak = max(timeline.peak, timeline.in_flight)
    if track.ready is None and body.HasField("ready_time"):
        track.ready = _nanoseconds(body.ready_time)
    track.state, track.attempts = State.RUNNING, body.attempt
    track.marks.append(Mark(time, PhaseKind.WORK))


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
    "step_finished": _step_finished,
    "steps_added": _steps_added,
    "run_finished": _run_finished,
}


def _add(timeline: Timeline, steps: Iterable[workflow_pb2.Step], time: int) -> None:
    for step in steps:
        any_join = step.join == workflow_pb2.JOIN_ANY
        timeline.tracks[step.id] = Track(
            step_id=step.id, action=step.action, deps=dependencies(step), any_join=any_join, added=time
        )


def _set_waves(timeline: Timeline, waves: Iterable[event_pb2.Wave]) -> None:
    for wave in waves:
        for step_id in wave.step_ids:
            timeline.tracks[step_id].wave = wave.index


def _nanoseconds(stamp: timestamp_pb2.Timestamp) -> int:
    return stamp.seconds * NANOS_PER_SECOND + stamp.nanos // NANOS_PER_MICROSECOND * NANOS_PER_MICROSECOND
