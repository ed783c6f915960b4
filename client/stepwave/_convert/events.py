"""Events of the contract to the SDK's; made for runs of many thousands of them."""

from collections.abc import Callable, Iterable
from datetime import datetime

from stepwave._model.events import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepFinished,
    StepProgress,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    StepWaiting,
    UnknownEvent,
    Wave,
    WaveFinished,
    WaveStarted,
)
from stepwave._model.results import RunResult
from stepwave._values.payload import from_payload
from stepwave.v1 import event_pb2, run_pb2

from .results import failure_from_proto, moment, step_from_proto, wait_cause

__all__ = ["event_from_proto"]


def _waves(messages: Iterable[event_pb2.Wave]) -> tuple[Wave, ...]:
    return tuple(Wave(wave.index, tuple(wave.step_ids)) for wave in messages)


def event_from_proto(message: event_pb2.RunEvent, finish: Callable[[run_pb2.Result], RunResult]) -> Event:
    """Turn an event of the contract into ours.

    Args:
        message: The event.
        finish: Puts the run's result together from what `run_finished` holds of it.
    """
    kind = message.WhichOneof("kind") or ""
    run_id, sequence, time = message.run_id, message.sequence, moment(message.time)
    if kind == "step_finished":  # first: with `step_started`, most of a run's events
        return StepFinished(run_id, sequence, time, step_from_proto(message.step_finished.result))
    if kind == "run_finished":
        return RunFinished(run_id, sequence, time, finish(message.run_finished.result))
    make = _MAKERS.get(kind, _unknown)
    return make(message, run_id, sequence, time)


def _unknown(_: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    return UnknownEvent(run_id, sequence, time)


def _run_started(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.run_started
    deadline = moment(said.deadline) if said.HasField("deadline") else None
    waves = _waves(said.waves)
    return RunStarted(
        run_id, sequence, time, said.workflow_name, waves, said.more, said.step_count, deadline, said.open
    )


def _wave_started(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    return WaveStarted(run_id, sequence, time, event.wave_started.wave)


def _step_started(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.step_started
    deadline = moment(said.deadline) if said.HasField("deadline") else None
    ready = moment(said.ready_time) if said.HasField("ready_time") else None
    return StepStarted(run_id, sequence, time, said.step_id, said.action, said.wave, said.attempt, deadline, ready)


def _step_chunk(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.step_chunk
    return StepChunk(run_id, sequence, time, said.step_id, said.attempt, said.index, from_payload(said.payload))


def _step_progress(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.step_progress
    fraction = said.fraction if said.HasField("fraction") else None
    return StepProgress(run_id, sequence, time, said.step_id, said.attempt, fraction, said.message)


def _step_waiting(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.step_waiting
    return StepWaiting(run_id, sequence, time, said.step_id, wait_cause(said.cause), said.message)


def _step_retrying(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.step_retrying
    next_time = moment(said.next_time) if said.HasField("next_time") else None
    failure = failure_from_proto(said.failure)
    return StepRetrying(
        run_id, sequence, time, said.step_id, said.attempt, failure, next_time, said.fallback, said.abandoned
    )


def _step_ready(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    return StepReady(run_id, sequence, time, event.step_ready.step_id, event.step_ready.attempt)


def _wave_finished(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    return WaveFinished(run_id, sequence, time, event.wave_finished.wave)


def _steps_added(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    said = event.steps_added
    return StepsAdded(run_id, sequence, time, tuple(step.id for step in said.steps), _waves(said.waves), said.sealed)


def _run_stopping(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> Event:
    return RunStopping(run_id, sequence, time, failure_from_proto(event.run_stopping.failure))


_MAKERS: dict[str, Callable[[event_pb2.RunEvent, str, int, datetime], Event]] = {
    "run_started": _run_started,
    "wave_started": _wave_started,
    "step_started": _step_started,
    "step_chunk": _step_chunk,
    "step_progress": _step_progress,
    "step_waiting": _step_waiting,
    "step_retrying": _step_retrying,
    "step_ready": _step_ready,
    "wave_finished": _wave_finished,
    "steps_added": _steps_added,
    "run_stopping": _run_stopping,
}
