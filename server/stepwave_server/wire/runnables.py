"""Attempts, and what they come to, to the messages of `RunnableService` and back."""

from dataclasses import dataclass
from math import isfinite
from typing import TypeAlias

from stepwave._values.json import json_problem
from stepwave.v1 import event_pb2, payload_pb2, run_pb2, runnable_pb2
from stepwave_server.core.info import DEFAULT_NAMESPACE
from stepwave_server.core.model import Failure, Payload, Reason, payload_size
from stepwave_server.core.validate import Violation
from stepwave_server.wire.events.encode import LogEntry, LogLevel
from stepwave_server.wire.values import clean, fill_failure, fill_payload, fill_time, from_failure, from_payload

__all__ = [
    "AnswerMalformed",
    "Message",
    "Output",
    "ShownLog",
    "ShownProgress",
    "attempt_problems",
    "encode_log",
    "from_invoke_response",
    "from_stream_response",
    "to_attempt",
    "to_invoke_response",
    "to_stream_response",
]

MAX_ID = 4_096
"""Characters of an id. Those of the children of nested steps are long."""

_REASONS = frozenset(int(reason) for reason in Reason)
_LEVELS = frozenset(int(level) for level in LogLevel)


class AnswerMalformed(ValueError):
    """Raised when a message of a host is not one of the contract."""


@dataclass(frozen=True, slots=True)
class Output:
    """The explicit answer of a streamed attempt."""

    payload: Payload


@dataclass(frozen=True, slots=True)
class ShownProgress:
    """The progress of an attempt; `fraction`: `None`: unknown."""

    fraction: float | None
    message: str


@dataclass(frozen=True, slots=True)
class ShownLog:
    """A message that the action logged; `data`: an encoded `Log`."""

    data: bytes


Message: TypeAlias = Payload | ShownProgress | LogEntry | Output | Failure
"""A message of a streamed attempt: a chunk, its progress, what it logged, its answer or its failure."""


def to_attempt(
    *,
    namespace: str,
    run_id: str,
    step_id: str,
    number: int,
    action: str,
    input: Payload,
    idempotency_key: str,
    deadline: int | None,
) -> runnable_pb2.Attempt:
    """Return an attempt as a message; `deadline` is in nanoseconds since the epoch."""
    message = runnable_pb2.Attempt(
        namespace=namespace,
        run_id=run_id,
        step_id=step_id,
        attempt=number,
        action=action,
        idempotency_key=idempotency_key,
    )
    fill_payload(message.input, input)
    if deadline is not None:
        fill_time(message.deadline, deadline)
    return message


def attempt_problems(message: runnable_pb2.Attempt, max_bytes: int) -> list[Violation]:
    """Return every reason why an attempt is malformed.

    Args:
        message: The attempt.
        max_bytes: Maximum size of its input in bytes.
    """
    problems = [
        Violation(f"attempt.{name}", "is required" if not text else f"is longer than {MAX_ID:,} characters")
        for name, text in (("run_id", message.run_id), ("step_id", message.step_id), ("action", message.action))
        if not 0 < len(text) <= MAX_ID
    ]
    if not message.attempt:
        problems.append(Violation("attempt.attempt", "must be 1 or more"))
    given = from_payload(message.input)
    if (size := payload_size(given)) > max_bytes:
        problems.append(Violation("attempt.input", f"has {size:,} bytes, more than the {max_bytes:,} allowed"))
    elif isinstance(given, str) and (problem := json_problem(given)):
        problems.append(Violation("attempt.input.json", problem))
    key, own = message.idempotency_key, _key_of(message)
    if key not in {"", own, f"{own}/fallback"}:
        problems.append(Violation("attempt.idempotency_key", f'must be "{own}", got "{key[:MAX_ID]}"'))
    return problems


def _key_of(message: runnable_pb2.Attempt) -> str:
    return f"{message.namespace or DEFAULT_NAMESPACE}/{message.run_id}/{message.step_id}"


def to_invoke_response(outcome: Payload | Failure) -> runnable_pb2.InvokeResponse:
    """Return what an attempt came to as a response."""
    response = runnable_pb2.InvokeResponse()
    if isinstance(outcome, Failure):
        fill_failure(response.failure, outcome)
    else:
        fill_payload(response.output, outcome)
    return response


def encode_log(entry: LogEntry) -> bytes:
    """Return what an action logged as an encoded `Log`."""
    level = event_pb2.LogLevel.ValueType(entry.level.value)
    return runnable_pb2.Log(level=level, logger=clean(entry.logger), message=clean(entry.message)).SerializeToString()


def to_stream_response(shown: Payload | ShownProgress | ShownLog | Output | Failure) -> runnable_pb2.StreamResponse:
    """Return a chunk, the progress, what is logged, the answer or the failure of an attempt as a message."""
    response = runnable_pb2.StreamResponse()
    match shown:
        case Failure():
            fill_failure(response.failure, shown)
        case Output(payload):
            fill_payload(response.output, payload)
        case ShownProgress(fraction, text):
            response.progress.message = clean(text)
            if fraction is not None:
                response.progress.fraction = fraction
        case ShownLog(data):
            response.log.MergeFromString(data)
        case _:
            fill_payload(response.chunk, shown)
    return response


def from_invoke_response(response: runnable_pb2.InvokeResponse) -> Output | Failure:
    """Return what an attempt came to.

    Raises:
        AnswerMalformed: It has neither an answer nor a failure, or the answer is not JSON.
    """
    match response.WhichOneof("outcome"):
        case "output":
            return Output(_payload(response.output, "answer"))
        case "failure":
            return _failure(response.failure)
    raise AnswerMalformed("its response has neither an answer nor a failure")


def from_stream_response(response: runnable_pb2.StreamResponse) -> Message:
    """Return a message of a streamed attempt.

    Raises:
        AnswerMalformed: It is of no kind that this server knows, or what it has is malformed.
    """
    match response.WhichOneof("kind"):
        case "chunk":
            return _payload(response.chunk, "chunk")
        case "progress":
            return _progress(response.progress)
        case "output":
            return Output(_payload(response.output, "answer"))
        case "failure":
            return _failure(response.failure)
        case "log":
            return _log(response.log)
    raise AnswerMalformed("it sent a message of no kind that this server knows")


def _payload(message: payload_pb2.Payload, what: str) -> Payload:
    if message.WhichOneof("body") is None:
        raise AnswerMalformed(f"its {what} has neither JSON nor a blob")
    payload = from_payload(message)
    if isinstance(payload, str) and (problem := json_problem(payload)):
        raise AnswerMalformed(f"its {what} {problem}")
    return payload


def _progress(message: runnable_pb2.Progress) -> ShownProgress:
    if not message.HasField("fraction"):
        return ShownProgress(None, message.message)
    if not (isfinite(message.fraction) and 0 <= message.fraction <= 1):
        raise AnswerMalformed(f"its progress is {message.fraction}, and must be between 0 and 1")
    return ShownProgress(message.fraction, message.message)


def _log(message: runnable_pb2.Log) -> LogEntry:
    """Return what an action logged. A severity that this server does not know counts as `INFO`."""
    level = LogLevel(message.level) if message.level in _LEVELS else LogLevel.INFO
    return LogEntry(level, message.logger, message.message)


def _failure(message: run_pb2.Failure) -> Failure:
    """Return a failure. One of a reason that this server does not know is an error of the action."""
    known = run_pb2.Failure()
    known.CopyFrom(message)
    known.cause = run_pb2.FAILURE_CAUSE_UNSPECIFIED
    if int(known.reason) not in _REASONS:
        known.reason = run_pb2.FAILURE_REASON_ACTION_ERROR
    return from_failure(known)
