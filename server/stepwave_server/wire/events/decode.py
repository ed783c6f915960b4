"""Decodes records and messages into events: the inverse of `encode.Encoder`."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from google.protobuf.message import DecodeError

from stepwave.v1 import event_pb2, payload_pb2, run_pb2, workflow_pb2
from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    Wave,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import Blob, Payload, Skip, SkipCause, State, Step, Workflow
from stepwave_server.wire.events.encode import Kind, Record, decode
from stepwave_server.wire.values import from_counts, from_failure, from_time
from stepwave_server.wire.workflows.workflow import Parsed, parse_step, parse_workflow

__all__ = ["from_message", "to_event", "to_events"]

_Read: TypeAlias = Callable[[event_pb2.RunEvent, int], Event]

_STATES = {state.value: state for state in State}


def to_event(record: Record) -> Event:
    """Return the event of a record.

    Maps of the contract come sorted by key: the outputs of a run, the details of a failure.

    Raises:
        ValueError: This server does not know the event, or the record is malformed.
    """
    try:
        message = decode(record)
        return _READERS[record.kind](message, from_time(message.time))
    except (DecodeError, LookupError) as error:
        raise ValueError(f"a record of kind {record.kind!r} has no event that this server knows") from error


def from_message(message: event_pb2.RunEvent) -> Event:
    """Return the event of a message.

    Raises:
        ValueError: This server does not know the event, or the event is transient.
    """
    kind = message.WhichOneof("kind")
    try:
        return _READERS[Kind[(kind or "").upper()]](message, from_time(message.time))
    except LookupError as error:
        raise ValueError(f"no event that this server knows and stores: {kind or 'of no kind'}") from error


def to_events(records: Iterable[Record]) -> Iterator[Event]:
    """Yield the events of records.

    Raises:
        ValueError: This server does not know an event, or a record is malformed.
    """
    return map(to_event, records)


def _step_finished(message: event_pb2.RunEvent, time: int) -> StepFinished:
    result = message.step_finished.result
    has = result.HasField
    return StepFinished(
        time=time,
        step_id=result.step_id,
        action=result.action,
        state=_STATES[result.state],
        wave=result.wave,
        attempts=result.attempts,
        output=_payload(result.output) if has("output") else None,
        failure=from_failure(result.failure) if has("failure") else None,
        skip=_skip(result.skip_reason) if has("skip_reason") else None,
        ready_time=from_time(result.ready_time) if has("ready_time") else None,
        start_time=from_time(result.start_time) if has("start_time") else None,
        abandoned=result.abandoned,
        reused_from=result.reused_from,
        original=from_failure(result.original_failure) if has("original_failure") else None,
        completed_by=result.completed_by,
    )


def _step_started(message: event_pb2.RunEvent, time: int) -> StepStarted:
    started = message.step_started
    return StepStarted(
        time=time,
        step_id=started.step_id,
        action=started.action,
        wave=started.wave,
        attempt=started.attempt,
        deadline=from_time(started.deadline) if started.HasField("deadline") else None,
        ready_time=from_time(started.ready_time),
    )


def _step_retrying(message: event_pb2.RunEvent, time: int) -> StepRetrying:
    retrying = message.step_retrying
    return StepRetrying(
        time=time,
        step_id=retrying.step_id,
        attempt=retrying.attempt,
        failure=from_failure(retrying.failure),
        next_time=from_time(retrying.next_time),
        fallback=retrying.fallback,
        abandoned=retrying.abandoned,
    )


def _step_ready(message: event_pb2.RunEvent, time: int) -> StepReady:
    return StepReady(time=time, step_id=message.step_ready.step_id, attempt=message.step_ready.attempt)


def _wave_started(message: event_pb2.RunEvent, time: int) -> WaveStarted:
    return WaveStarted(time=time, wave=message.wave_started.wave)


def _wave_finished(message: event_pb2.RunEvent, time: int) -> WaveFinished:
    return WaveFinished(time=time, wave=message.wave_finished.wave)


def _run_started(message: event_pb2.RunEvent, time: int) -> RunStarted:
    started = message.run_started
    return RunStarted(
        time=time,
        waves=_waves(started.waves),
        more=started.more,
        step_count=started.step_count,
        deadline=from_time(started.deadline) if started.HasField("deadline") else None,
        open=started.open,
    )


def _steps_added(message: event_pb2.RunEvent, time: int) -> StepsAdded:
    added = message.steps_added
    return StepsAdded(time=time, steps=tuple(map(_step, added.steps)), waves=_waves(added.waves), sealed=added.sealed)


def _step_expanded(message: event_pb2.RunEvent, time: int) -> StepExpanded:
    expanded = message.step_expanded
    has = expanded.HasField
    return StepExpanded(
        time=time,
        step_id=expanded.step_id,
        wave=expanded.wave,
        action=expanded.action,
        ready_time=from_time(expanded.ready_time),
        item_count=expanded.item_count if has("item_count") else None,
        workflow=_workflow(expanded.workflow) if has("workflow") else None,
        input=_payload(expanded.input) if has("input") else None,
    )


def _step_stopping(message: event_pb2.RunEvent, time: int) -> StepStopping:
    failure = from_failure(message.step_stopping.failure)
    return StepStopping(time=time, step_id=failure.step_id, failure=failure)


def _steps_reused(message: event_pb2.RunEvent, time: int) -> StepsReused:
    reused = message.steps_reused
    outputs = tuple((step_id, _payload(reused.outputs[step_id])) for step_id in sorted(reused.outputs))
    return StepsReused(time=time, run_id=reused.run_id, outputs=outputs)


def _run_stopping(message: event_pb2.RunEvent, time: int) -> RunStopping:
    stopping = message.run_stopping
    return RunStopping(
        time=time,
        failure=from_failure(stopping.failure),
        cancel_reason=stopping.cancel_reason,
        cancelled_by=stopping.cancelled_by,
    )


def _run_finished(message: event_pb2.RunEvent, time: int) -> RunFinished:
    result = message.run_finished.result
    return RunFinished(
        time=time,
        state=_STATES[result.state],
        start_time=from_time(result.start_time),
        outputs=tuple((step_id, _payload(result.outputs[step_id])) for step_id in sorted(result.outputs)),
        omitted=tuple(result.omitted_outputs),
        omitted_count=result.omitted_output_count,
        failures=tuple(map(from_failure, result.failures)),
        failure_count=result.failure_count,
        counts=from_counts(result.counts),
    )


_READERS: dict[Kind, _Read] = {
    Kind.RUN_STARTED: _run_started,
    Kind.WAVE_STARTED: _wave_started,
    Kind.STEP_STARTED: _step_started,
    Kind.STEP_RETRYING: _step_retrying,
    Kind.STEP_READY: _step_ready,
    Kind.STEP_FINISHED: _step_finished,
    Kind.WAVE_FINISHED: _wave_finished,
    Kind.STEPS_ADDED: _steps_added,
    Kind.STEP_EXPANDED: _step_expanded,
    Kind.STEP_STOPPING: _step_stopping,
    Kind.STEPS_REUSED: _steps_reused,
    Kind.RUN_STOPPING: _run_stopping,
    Kind.RUN_FINISHED: _run_finished,
}


def _payload(message: payload_pb2.Payload) -> Payload:
    """Return a payload exactly as the core had it. `from_payload` gives a default type to a blob without one."""
    if message.HasField("blob"):
        return Blob(message.blob.content_type, message.blob.data)
    return message.json


def _skip(message: run_pb2.SkipReason) -> Skip:
    return Skip(cause=SkipCause(message.cause), step_id=message.step_id)


def _step(message: workflow_pb2.Step) -> Step:
    """Return an added step. It was valid when it was added, perhaps by a later version, which supports more.

    Raises:
        ValueError: This version does not support a field of the step.
    """
    parsed = Parsed(accepted=True)
    step = parse_step(message, f'step "{message.id}"', parsed)
    for problem in parsed.unsupported:
        raise ValueError(f"{problem.field}: {problem.description}")
    return step


def _workflow(message: workflow_pb2.Workflow) -> Workflow:
    """Return a nested workflow. It was valid when it was recorded; see `_step`."""
    parsed = Parsed(accepted=True)
    workflow = parse_workflow(message, parsed)
    for problem in parsed.unsupported:
        raise ValueError(f"{problem.field}: {problem.description}")
    return workflow


def _waves(messages: Iterable[event_pb2.Wave]) -> tuple[Wave, ...]:
    return tuple(Wave(index=wave.index, step_ids=tuple(wave.step_ids)) for wave in messages)
