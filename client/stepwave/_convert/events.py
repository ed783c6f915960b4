"""Converts events of the contract to the SDK's, fast enough for runs with many thousands of events."""

from collections.abc import Callable, Iterable
from datetime import datetime

from stepwave._model.events import (
    AnyEvent,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepExpanded,
    StepFinished,
    StepLog,
    StepProgress,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    StepWaiting,
    UnknownEvent,
    Wave,
    WaveFinished,
    WaveStarted,
)
from stepwave._model.results import RunResult
from stepwave._values.payload import from_payload
from stepwave.v1 import event_pb2, run_pb2

from .results import failure_from_proto, log_level, moment, step_from_proto, wait_cause

__all__ = ["event_from_proto", "log_from_proto"]


def _waves(messages: Iterable[event_pb2.Wave]) -> tuple[Wave, ...]:
    return tuple(Wave(wave.index, tuple(wave.step_ids)) for wave in messages)


def event_from_proto(message: event_pb2.RunEvent, finish: Callable[[run_pb2.Result], RunResult]) -> AnyEvent:
    """Convert an event of the contract to the SDK's.

    Args:
        message: The event.
        finish: Assembles the run's result from that of `run_finished`.
    """
    kind = message.WhichOneof("kind") or ""
    run_id, sequence, time = message.run_id, message.sequence, moment(message.time)
    if kind == "step_finished":  # first: the most frequent kind, with `step_started`
        return StepFinished(run_id, sequence, time, step_from_proto(message.step_finished.result))
    if kind == "run_finished":
        return RunFinished(run_id, sequence, time, finish(message.run_finished.result))
    make = _MAKERS.get(kind, _unknown)
    return make(message, run_id, sequence, time)


def _unknown(_: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    return UnknownEvent(run_id, sequence, time)


def _run_started(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.run_started
    deadline = moment(body.deadline) if body.HasField("deadline") else None
    return RunStarted(
        run_id=run_id,
        sequence=sequence,
        time=time,
        workflow_name=body.workflow_name,
        waves=_waves(body.waves),
        more=body.more,
        step_count=body.step_count,
        deadline=deadline,
        open=body.open,
    )


def _wave_started(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    return WaveStarted(run_id, sequence, time, event.wave_started.wave)


def _step_started(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.step_started
    deadline = moment(body.deadline) if body.HasField("deadline") else None
    ready = moment(body.ready_time) if body.HasField("ready_time") else None
    return StepStarted(run_id, sequence, time, body.step_id, body.action, body.wave, body.attempt, deadline, ready)


def _step_chunk(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.step_chunk
    return StepChunk(run_id, sequence, time, body.step_id, body.attempt, body.index, from_payload(body.payload))


def _step_progress(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.step_progress
    fraction = body.fraction if body.HasField("fraction") else None
    return StepProgress(run_id, sequence, time, body.step_id, body.attempt, fraction, body.message)


def log_from_proto(event: event_pb2.RunEvent) -> StepLog:
    """Convert a `step_log` event of the contract."""
    return _step_log(event, event.run_id, event.sequence, moment(event.time))


def _step_log(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> StepLog:
    body = event.step_log
    return StepLog(
        run_id=run_id,
        sequence=sequence,
        time=time,
        index=body.index,
        step_id=body.step_id,
        attempt=body.attempt,
        level=log_level(body.level),
        logger=body.logger,
        message=body.message,
    )


def _step_waiting(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.step_waiting
    return StepWaiting(run_id, sequence, time, body.step_id, wait_cause(body.cause), body.message, body.limit)


def _step_retrying(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.step_retrying
    return StepRetrying(
        run_id=run_id,
        sequence=sequence,
        time=time,
        step_id=body.step_id,
        attempt=body.attempt,
        failure=failure_from_proto(body.failure),
        next_time=moment(body.next_time) if body.HasField("next_time") else None,
        fallback=body.fallback,
        abandoned=body.abandoned,
    )


def _step_ready(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    return StepReady(run_id, sequence, time, event.step_ready.step_id, event.step_ready.attempt)


def _wave_finished(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    return WaveFinished(run_id, sequence, time, event.wave_finished.wave)


def _steps_added(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.steps_added
    return StepsAdded(run_id, sequence, time, tuple(step.id for step in body.steps), _waves(body.waves), body.sealed)


def _steps_reused(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.steps_reused
    outputs = {step_id: from_payload(payload) for step_id, payload in body.outputs.items()}
    return StepsReused(run_id, sequence, time, body.run_id, outputs)


def _step_expanded(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.step_expanded
    return StepExpanded(
        run_id=run_id,
        sequence=sequence,
        time=time,
        step_id=body.step_id,
        action=body.action,
        wave=body.wave,
        ready_time=moment(body.ready_time) if body.HasField("ready_time") else None,
        item_count=body.item_count if body.HasField("item_count") else None,
        workflow_name=body.workflow.name,
        nested_step_ids=tuple(step.id for step in body.workflow.steps),
        input=from_payload(body.input),
    )


def _step_stopping(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    failure = failure_from_proto(event.step_stopping.failure)
    return StepStopping(run_id, sequence, time, failure.step_id, failure)


def _run_stopping(event: event_pb2.RunEvent, run_id: str, sequence: int, time: datetime) -> AnyEvent:
    body = event.run_stopping
    return RunStopping(run_id, sequence, time, failure_from_proto(body.failure), body.cancel_reason, body.cancelled_by)


_MAKERS: dict[str, Callable[[event_pb2.RunEvent, str, int, datetime], AnyEvent]] = {
    "run_started": _run_started,
    "wave_started": _wave_started,
    "step_started": _step_started,
    "step_chunk": _step_chunk,
    "step_progress": _step_progress,
    "step_log": _step_log,
    "step_waiting": _step_waiting,
    "step_retrying": _step_retrying,
    "step_ready": _step_ready,
    "wave_finished": _wave_finished,
    "steps_added": _steps_added,
    "steps_reused": _steps_reused,
    "step_expanded": _step_expanded,
    "step_stopping": _step_stopping,
    "run_stopping": _run_stopping,
}
