"""Encodes events, each once.

An event is encoded as a `WatchRunResponse` with this event alone. Encoded protobuf messages can be concatenated, so a
batch of events is the concatenation of their records. The journal, all watchers and all streams share the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from stepwave.v1 import event_pb2, orchestrator_pb2, payload_pb2, run_pb2
from stepwave_server.core.explanation import WaitCause
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
from stepwave_server.core.model import Payload, State
from stepwave_server.core.state import StepState
from stepwave_server.wire.events.varint import prefixed, tag, text, timestamp, varint
from stepwave_server.wire.responses.results import fill_result, to_step_result
from stepwave_server.wire.values import clean, fill_failure, fill_payload, fill_time, to_failure, to_payload, to_skip
from stepwave_server.wire.workflows.workflow import fill_step, fill_workflow

__all__ = [
    "Encoder",
    "Kind",
    "LogEntry",
    "LogLevel",
    "Record",
    "decode",
    "decode_all",
    "encode_chunk",
    "encode_log",
    "encode_progress",
    "encode_waiting",
    "position",
    "to_step_results",
]


# Tags of fields, by message.
_EVENT = tag(orchestrator_pb2.WatchRunResponse, "events")
_RUN_ID = tag(event_pb2.RunEvent, "run_id")
_SEQUENCE = tag(event_pb2.RunEvent, "sequence")
_TIME = tag(event_pb2.RunEvent, "time")
_WAVE_STARTED = tag(event_pb2.RunEvent, "wave_started")
_STEP_STARTED = tag(event_pb2.RunEvent, "step_started")
_STEP_FINISHED = tag(event_pb2.RunEvent, "step_finished")
_WAVE_FINISHED = tag(event_pb2.RunEvent, "wave_finished")

_RESULT = tag(event_pb2.StepFinished, "result")
_RESULT_WAVE = tag(run_pb2.StepResult, "wave")
_RESULT_ATTEMPTS = tag(run_pb2.StepResult, "attempts")
_RESULT_OUTPUT = tag(run_pb2.StepResult, "output")
_RESULT_FAILURE = tag(run_pb2.StepResult, "failure")
_RESULT_SKIP_REASON = tag(run_pb2.StepResult, "skip_reason")
_RESULT_READY_TIME = tag(run_pb2.StepResult, "ready_time")
_RESULT_START_TIME = tag(run_pb2.StepResult, "start_time")
_RESULT_END_TIME = tag(run_pb2.StepResult, "end_time")
_RESULT_REUSED_FROM = tag(run_pb2.StepResult, "reused_from")
_RESULT_ORIGINAL_FAILURE = tag(run_pb2.StepResult, "original_failure")
_RESULT_COMPLETED_BY = tag(run_pb2.StepResult, "completed_by")

_STARTED_STEP_ID = tag(event_pb2.StepStarted, "step_id")
_STARTED_ACTION = tag(event_pb2.StepStarted, "action")
_STARTED_WAVE = tag(event_pb2.StepStarted, "wave")
_STARTED_ATTEMPT = tag(event_pb2.StepStarted, "attempt")
_STARTED_DEADLINE = tag(event_pb2.StepStarted, "deadline")
_STARTED_READY_TIME = tag(event_pb2.StepStarted, "ready_time")

_WAVE = tag(event_pb2.WaveStarted, "wave")
_JSON = tag(payload_pb2.Payload, "json")

# Whole fields.
_RESULT_STATES = {state: tag(run_pb2.StepResult, "state") + varint(state.value) for state in State}
_RESULT_ABANDONED = tag(run_pb2.StepResult, "abandoned") + varint(True)
_RESULT_NULL = _RESULT_OUTPUT + prefixed(_JSON + text("null"))


class Kind(IntEnum):
    """The kinds of events. The values are those of `EventKind`, and the field numbers in `RunEvent`."""

    RUN_STARTED = 10
    WAVE_STARTED = 11
    STEP_STARTED = 12
    STEP_CHUNK = 13
    STEP_PROGRESS = 14
    STEP_WAITING = 15
    STEP_RETRYING = 16
    STEP_FINISHED = 17
    WAVE_FINISHED = 18
    STEPS_ADDED = 19
    RUN_STOPPING = 20
    RUN_FINISHED = 21
    STEP_READY = 22
    STEP_LOG = 23
    STEP_EXPANDED = 24
    STEP_STOPPING = 25
    STEPS_REUSED = 26


class LogLevel(IntEnum):
    """The severities of log messages. The values are those of the contract's `LogLevel`."""

    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4
    CRITICAL = 5


class LogEntry(NamedTuple):
    """A message that an attempt logged.

    Attributes:
        level: Its severity.
        logger: The name of the logger.
        message: The message, with the text of a logged exception.
    """

    level: LogLevel
    logger: str
    message: str


class Record(NamedTuple):
    """An encoded event: its kind, and a `WatchRunResponse` with this event alone."""

    kind: Kind
    data: bytes


class Encoder:
    """Encodes the events of one run.

    Args:
        run_id: The id of the run.
        workflow_name: The name of its workflow.
        create_time: When the run was accepted, in nanoseconds since the epoch.
    """

    __slots__ = ("_create_time", "_head", "_run_id", "_workflow_name")

    def __init__(self, run_id: str, workflow_name: str, create_time: int) -> None:
        self._run_id = run_id
        self._workflow_name = workflow_name
        self._create_time = create_time
        self._head = _RUN_ID + text(run_id) + _SEQUENCE

    def encode(self, sequence: int, event: Event) -> Record:
        """Return an event as a record."""
        match event:  # the most frequent first
            case StepFinished():
                return Record(
                    Kind.STEP_FINISHED, self._join(sequence, event.time, _STEP_FINISHED, _step_finished(event))
                )
            case StepStarted():
                return Record(Kind.STEP_STARTED, self._join(sequence, event.time, _STEP_STARTED, _step_started(event)))
            case WaveStarted():
                return Record(Kind.WAVE_STARTED, self._join(sequence, event.time, _WAVE_STARTED, _wave(event.wave)))
            case WaveFinished():
                return Record(Kind.WAVE_FINISHED, self._join(sequence, event.time, _WAVE_FINISHED, _wave(event.wave)))
            case _:
                return self._encode_rare(sequence, event)

    def _join(self, sequence: int, time: int, kind: bytes, body: bytes) -> bytes:
        head = self._head
        return _EVENT + prefixed(b"".join((head, varint(sequence), _TIME, timestamp(time), kind, prefixed(body))))

    def _encode_rare(self, sequence: int, event: Event) -> Record:
        response = orchestrator_pb2.WatchRunResponse()
        message = response.events.add()
        message.run_id = self._run_id
        message.sequence = sequence
        fill_time(message.time, event.time)
        if isinstance(event, RunFinished):
            fill_result(message.run_finished.result, self._run_id, self._workflow_name, self._create_time, event)
            kind = Kind.RUN_FINISHED
        else:
            kind = _fill_other(message, self._workflow_name, event)
        return Record(kind, response.SerializeToString(deterministic=True))


def decode(record: Record) -> event_pb2.RunEvent:
    """Return the event of a record as a message."""
    return orchestrator_pb2.WatchRunResponse.FromString(record.data).events[0]


def decode_all(events: Iterable[bytes]) -> Sequence[event_pb2.RunEvent]:
    """Return events as messages. Each is given as a `WatchRunResponse` with this event alone."""
    return orchestrator_pb2.WatchRunResponse.FromString(b"".join(events)).events


def to_step_results(steps: Iterable[Record | StepState]) -> Iterator[run_pb2.StepResult]:
    """Yield the results of steps. A finished step is given by its `step_finished` record, another one by its state."""
    for step in steps:
        yield decode(step).step_finished.result if isinstance(step, Record) else to_step_result(step)


def encode_chunk(run_id: str, time: int, step_id: str, attempt: int, index: int, payload: Payload) -> bytes:
    """Return an encoded transient `step_chunk`."""

    def fill(message: event_pb2.RunEvent) -> None:
        chunk = message.step_chunk
        chunk.step_id, chunk.attempt, chunk.index = step_id, attempt, index
        fill_payload(chunk.payload, payload)

    return _transient(run_id, time, fill)


def encode_progress(run_id: str, time: int, step_id: str, attempt: int, fraction: float | None, text: str) -> bytes:
    """Return an encoded transient `step_progress`."""

    def fill(message: event_pb2.RunEvent) -> None:
        message.step_progress.CopyFrom(
            event_pb2.StepProgress(step_id=step_id, attempt=attempt, fraction=fraction, message=clean(text))
        )

    return _transient(run_id, time, fill)


def encode_log(run_id: str, time: int, index: int, step_id: str, attempt: int, entry: LogEntry) -> bytes:
    """Return an encoded transient `step_log`."""

    def fill(message: event_pb2.RunEvent) -> None:
        log = message.step_log
        log.index, log.step_id, log.attempt = index, step_id, attempt
        log.level = event_pb2.LogLevel.ValueType(entry.level.value)
        log.logger, log.message = clean(entry.logger), clean(entry.message)

    return _transient(run_id, time, fill)


def encode_waiting(run_id: str, time: int, step_id: str, cause: WaitCause, text: str, limit: str) -> bytes:
    """Return a transient `step_waiting` as bytes."""

    def fill(message: event_pb2.RunEvent) -> None:
        waiting = message.step_waiting
        waiting.step_id, waiting.message, waiting.limit = step_id, clean(text), limit
        waiting.cause = event_pb2.WaitCause.ValueType(cause.value)

    return _transient(run_id, time, fill)


def position(last_sequence: int) -> bytes:
    """Return an encoded `WatchRunResponse` with `last_sequence` alone: the end of a batch, or a heartbeat."""
    return orchestrator_pb2.WatchRunResponse(last_sequence=last_sequence).SerializeToString()


def _transient(run_id: str, time: int, fill: Callable[[event_pb2.RunEvent], None]) -> bytes:
    response = orchestrator_pb2.WatchRunResponse()
    message = response.events.add()
    message.run_id = run_id
    fill_time(message.time, time)
    fill(message)
    return response.SerializeToString()


def _step_finished(event: StepFinished) -> bytes:
    """Return an encoded `StepFinished`. Its only field is a `StepResult`, whose fields are in the order of numbers."""
    parts = [
        _step(event.step_id, event.action),
        _RESULT_STATES[event.state],
        _RESULT_WAVE + varint(event.wave) if event.wave else b"",
        _RESULT_ATTEMPTS + varint(event.attempts) if event.attempts else b"",
    ]
    if event.output is not None:
        parts.append(_output(event.output))
    if event.failure is not None:
        parts += (_RESULT_FAILURE, prefixed(to_failure(event.failure).SerializeToString(deterministic=True)))
    if event.skip is not None:
        parts += (_RESULT_SKIP_REASON, prefixed(to_skip(event.skip).SerializeToString()))
    if event.ready_time is not None:
        parts += (_RESULT_READY_TIME, timestamp(event.ready_time))
    if event.start_time is not None:
        parts += (_RESULT_START_TIME, timestamp(event.start_time))
    parts += (_RESULT_END_TIME, timestamp(event.time))
    if event.abandoned:
        parts.append(_RESULT_ABANDONED)
    if event.reused_from:
        parts += (_RESULT_REUSED_FROM, text(event.reused_from))
    if event.original is not None:
        parts += (_RESULT_ORIGINAL_FAILURE, prefixed(to_failure(event.original).SerializeToString(deterministic=True)))
    if event.completed_by:
        parts += (_RESULT_COMPLETED_BY, text(event.completed_by))
    return _RESULT + prefixed(b"".join(parts))


def _step_started(event: StepStarted) -> bytes:
    """Return an encoded `StepStarted`. Its fields are in the order of numbers."""
    return b"".join(
        (
            _step(event.step_id, event.action),
            _STARTED_WAVE + varint(event.wave) if event.wave else b"",
            _STARTED_ATTEMPT,
            varint(event.attempt),
            _STARTED_DEADLINE + timestamp(event.deadline) if event.deadline is not None else b"",
            _STARTED_READY_TIME,
            timestamp(event.ready_time),
        )
    )


@lru_cache(maxsize=4096)
def _step(step_id: str, action: str) -> bytes:
    """Return the first two fields of a `StepStarted`. A `StepResult` has the same ones, so the cache serves both."""
    return b"".join((_STARTED_STEP_ID, text(step_id), _STARTED_ACTION, text(action)))


def _output(payload: Payload) -> bytes:
    if payload == "null":
        return _RESULT_NULL
    body = _JSON + text(payload) if isinstance(payload, str) else to_payload(payload).SerializeToString()
    return _RESULT_OUTPUT + prefixed(body)


def _wave(wave: int) -> bytes:
    """Return an encoded `WaveStarted` or `WaveFinished`. Their only field, the wave, has the same number in both."""
    return _WAVE + varint(wave) if wave else b""


def _fill_other(message: event_pb2.RunEvent, workflow_name: str, event: Event) -> Kind:
    match event:
        case RunStarted():
            _run_started(message.run_started, workflow_name, event)
            return Kind.RUN_STARTED
        case StepRetrying():
            _step_retrying(message.step_retrying, event)
            return Kind.STEP_RETRYING
        case StepReady():
            message.step_ready.step_id, message.step_ready.attempt = event.step_id, event.attempt
            return Kind.STEP_READY
        case StepsAdded():
            _steps_added(message.steps_added, event)
            return Kind.STEPS_ADDED
        case StepExpanded():
            _step_expanded(message.step_expanded, event)
            return Kind.STEP_EXPANDED
        case StepStopping():
            fill_failure(message.step_stopping.failure, event.failure)
            return Kind.STEP_STOPPING
        case StepsReused():
            message.steps_reused.run_id = event.run_id
            for step_id, output in event.outputs:
                fill_payload(message.steps_reused.outputs[step_id], output)
            return Kind.STEPS_REUSED
        case RunStopping():
            fill_failure(message.run_stopping.failure, event.failure)
            message.run_stopping.cancel_reason = clean(event.cancel_reason)
            message.run_stopping.cancelled_by = clean(event.cancelled_by)
            return Kind.RUN_STOPPING
        case _:
            raise TypeError(f"no event: {event!r}")


def _run_started(message: event_pb2.RunStarted, workflow_name: str, event: RunStarted) -> None:
    message.workflow_name = workflow_name
    message.more = event.more
    message.step_count = event.step_count
    message.open = event.open
    if event.deadline is not None:
        fill_time(message.deadline, event.deadline)
    message.waves.extend(map(_to_wave, event.waves))


def _step_retrying(message: event_pb2.StepRetrying, event: StepRetrying) -> None:
    message.step_id = event.step_id
    message.attempt = event.attempt
    fill_failure(message.failure, event.failure)
    fill_time(message.next_time, event.next_time)
    message.fallback, message.abandoned = event.fallback, event.abandoned


def _steps_added(message: event_pb2.StepsAdded, event: StepsAdded) -> None:
    for step in event.steps:
        fill_step(message.steps.add(), step)
    message.waves.extend(map(_to_wave, event.waves))
    message.sealed = event.sealed
    message.SetInParent()  # all fields may have their defaults


def _step_expanded(message: event_pb2.StepExpanded, event: StepExpanded) -> None:
    message.step_id, message.wave, message.action = event.step_id, event.wave, event.action
    fill_time(message.ready_time, event.ready_time)
    if event.item_count is not None:
        message.item_count = event.item_count
    if event.workflow is not None:
        fill_workflow(message.workflow, event.workflow)
    if event.input is not None:
        fill_payload(message.input, event.input)


def _to_wave(wave: Wave) -> event_pb2.Wave:
    return event_pb2.Wave(index=wave.index, step_ids=wave.step_ids)
