"""When things happened to a run's steps, read from its events: the facts that a report is made of.

Times are whole nanoseconds since the epoch, cut to the microsecond, so that what is made of them adds up exactly as
`timedelta`s too.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from google.protobuf import timestamp_pb2

from stepwave._convert.results import state_from_proto
from stepwave._model.report import PhaseKind
from stepwave._model.results import State
from stepwave._values.time import NANOS_PER_MICROSECOND, NANOS_PER_SECOND
from stepwave.exceptions import InvalidExport
from stepwave.v1 import event_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

__all__ = ["Mark", "Timeline", "Track", "dependencies", "read_timeline"]


class Mark(NamedTuple):
    """A step's time goes to something else from here on; a backoff does so `until` then, and waits afterwards."""

    time: int
    kind: PhaseKind
    until: int = 0


@dataclass(slots=True, eq=False)
class Track:
    """What happened to a step.

    Attributes:
        deps: What it depends on.
        any_join: One dependency that succeeds is enough.
        added: When the run knew of it.
        wave: Its topological level; -1: not known yet, for an ancestor is still to be added to the open run.
        ready: When its dependencies, and the barrier, allowed it to start; `None`: they did not, or nobody said so yet.
        marks: When attempts started and failed, in order.
        end: When it ended; `None`: not yet.
        finish: The number of the event that says so; 0: there is none.
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
        """Whether an attempt of it runs, by the newest of its marks."""
        return bool(self.marks) and not self.finish and self.marks[-1].kind is PhaseKind.WORK


@dataclass(slots=True, eq=False)
class Timeline:
    """What happened in a run.

    Attributes:
        by_waves: It is scheduled in waves.
        max_parallelism: How many of its attempts may be in flight at once; 0: any number.
        start: When it began, or was accepted, if it has not begun.
        end: When its newest event happened.
        tracks: Every step by id, in declaration order.
        peak: How many attempts were in flight at once, at most.
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
        """Return the steps whose wave is known, by wave: each comes after all that it depends on."""
        waves: list[list[Track]] = []
        for track in self.tracks.values():
            if track.wave >= 0:
                waves.extend([] for _ in range(track.wave + 1 - len(waves)))
                waves[track.wave].append(track)
        return waves


def read_timeline(given: pb.RunDefinition, events: Iterable[event_pb2.RunEvent]) -> Timeline:
    """Read what is kept of a run, in one pass over its events.

    Raises:
        InvalidExport: Its events name a step that it does not have.
    """
    accepted = _nanoseconds(given.create_time)
    timeline = Timeline(
        given.run_id,
        given.workflow.name,
        given.workflow.scheduling == workflow_pb2.SCHEDULING_WAVE,
        given.workflow.max_parallelism,
        accepted,
        accepted,
    )
    _add(timeline, given.workflow.steps, accepted)
    for number, event in enumerate(events, start=1):
        try:
            _take(timeline, event, number)
        except KeyError as unknown:
            place = f"run {given.run_id!r}, events[{number - 1}]"
            raise InvalidExport(f"{place}: its events name a step that it does not have: {unknown}") from None
    return timeline


def dependencies(step: workflow_pb2.Step) -> tuple[str, ...]:
    """Return the ids that a step depends on, those that its bindings imply included, each once."""
    implied = [binding.step.id for binding in step.bindings if binding.HasField("step")]
    if step.HasField("fallback"):
        implied += [binding.step.id for binding in step.fallback.action.bindings if binding.HasField("step")]
    if step.HasField("for_each") and step.for_each.HasField("step"):
        implied.append(step.for_each.step.id)
    return tuple(dict.fromkeys((*step.depends_on, *implied)))


def _take(timeline: Timeline, event: event_pb2.RunEvent, number: int) -> None:
    time = _nanoseconds(event.time)
    if time > timeline.end:
        timeline.end = time
    take = _TAKERS.get(event.WhichOneof("kind") or "")
    if take is not None:
        take(timeline, event, time, number)


def _run_started(timeline: Timeline, event: event_pb2.RunEvent, time: int, number: int) -> None:
    if number == 1:
        timeline.start = timeline.end = time
        timeline.state = State.RUNNING
        for track in timeline.tracks.values():
            track.added = time
    _place(timeline, event.run_started.waves)


def _step_started(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    said = event.step_started
    track = timeline.tracks[said.step_id]
    if not track.running:
        timeline.in_flight += 1
        timeline.peak = max(timeline.peak, timeline.in_flight)
    if track.ready is None and said.HasField("ready_time"):
        track.ready = _nanoseconds(said.ready_time)
    track.state, track.attempts = State.RUNNING, said.attempt
    track.marks.append(Mark(time, PhaseKind.WORK))


def _step_retrying(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    track = timeline.tracks[event.step_retrying.step_id]
    timeline.in_flight -= track.running
    track.marks.append(Mark(time, PhaseKind.BACKOFF, _nanoseconds(event.step_retrying.next_time)))


def _step_ready(timeline: Timeline, event: event_pb2.RunEvent, time: int, _: int) -> None:
    """End a pause when the server says that it is over: it may have been away when it was."""
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
    _place(timeline, event.steps_added.waves)


def _run_finished(timeline: Timeline, event: event_pb2.RunEvent, _: int, __: int) -> None:
    timeline.state = state_from_proto(event.run_finished.result.state)


_TAKERS: dict[str, Callable[[Timeline, event_pb2.RunEvent, int, int], None]] = {
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
        timeline.tracks[step.id] = Track(step.id, step.action, dependencies(step), any_join, time)


def _place(timeline: Timeline, waves: Iterable[event_pb2.Wave]) -> None:
    for wave in waves:
        for step_id in wave.step_ids:
            timeline.tracks[step_id].wave = wave.index


def _nanoseconds(stamp: timestamp_pb2.Timestamp) -> int:
    return stamp.seconds * NANOS_PER_SECOND + stamp.nanos // NANOS_PER_MICROSECOND * NANOS_PER_MICROSECOND
