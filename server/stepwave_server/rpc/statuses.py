"""Errors to gRPC statuses. Every status has a `google.rpc.ErrorInfo`; some have the invalid fields as well."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TypeAlias, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from stepwave._actions.action import UNKNOWN_ACTION
from stepwave.v1.error_pb2 import ErrorReason as Reason
from stepwave_server.core.validate import Violation
from stepwave_server.engine.errors import (
    DefinitionTooLarge,
    EngineError,
    JournalUnavailable,
    NoFreeSlot,
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotEnded,
    RunNotFound,
    RunNotOpen,
    SequenceOutOfRange,
    StepCompletedBefore,
    StepError,
    StepNotFound,
    StepNotWaiting,
    StepsRefused,
    TooManyKeptBytes,
    TooManyRuns,
)
from stepwave_server.journal import JournalError

__all__ = [
    "CODES",
    "RETRIED",
    "CallRefused",
    "InvalidCall",
    "MessageTooLarge",
    "NotServed",
    "PermissionDenied",
    "Refusal",
    "TooManyCalls",
    "TooManyStarts",
    "Unauthenticated",
    "WorkflowNotFound",
    "reason_name",
    "status_of",
]

DOMAIN = "stepwave"
MAX_TRAILER = 7_000
"""Bytes of metadata for a status. Beyond 8 KiB, callers get `RESOURCE_EXHAUSTED` instead of the status."""

MAX_MESSAGE = 1_000
"""Bytes in a status's message."""

MAX_TEXT = 700
"""Bytes in a field's path and in a description."""


class CallRefused(Exception):
    """Base of the errors with which the gRPC layer itself rejects a call.

    Attributes:
        metadata: The facts of the error, for its `ErrorInfo`.
    """

    metadata: Mapping[str, str] = {}


class InvalidCall(CallRefused):
    """Raised when fields of a request are malformed. Lists all of them."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations)


class NotServed(CallRefused):
    """Raised when a request uses features that this server does not support. Lists all of them."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations)


class WorkflowNotFound(CallRefused):
    """Raised when the server has no workflow of the requested name."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.metadata = {"workflow_name": name}


class MessageTooLarge(CallRefused):
    """Raised when a request is larger than the server allows."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size:,} bytes is larger than the {limit:,} allowed")
        self.metadata = {"limit": str(limit)}


class TooManyCalls(CallRefused):
    """Raised when as many calls or streams are open as the server allows."""

    def __init__(self, limit: int, kind: str) -> None:
        super().__init__(f"{limit:,} {kind} are open, as many as this server allows")
        self.metadata = {"limit": str(limit)}


class TooManyStarts(CallRefused):
    """Raised when a namespace has started as many runs in a second as it may.

    Attributes:
        retry_delay: Seconds after which the call may succeed.
    """

    def __init__(self, namespace: str, retry_delay: float) -> None:
        super().__init__(f'the namespace "{namespace}" starts more runs in a second than it may')
        self.metadata = {"namespace": namespace}
        self.retry_delay = retry_delay


class Unauthenticated(CallRefused):
    """Raised when a call has no valid credentials."""


class PermissionDenied(CallRefused):
    """Raised when the role of a caller does not allow a call."""

    def __init__(self, caller: str, namespace: str, call: str, role: str) -> None:
        super().__init__(f'{call} needs the role {role} in the namespace "{namespace}"; "{caller}" does not have it')
        self.metadata = {"namespace": namespace, "role": role}


Refusal: TypeAlias = CallRefused | EngineError | JournalError
"""An expected error of a call; every other exception is a defect of the server."""

_REASONS: dict[type[Refusal], Reason.ValueType] = {
    CallRefused: Reason.ERROR_REASON_INTERNAL,
    InvalidCall: Reason.ERROR_REASON_INVALID_ARGUMENT,
    NotServed: Reason.ERROR_REASON_NOT_SUPPORTED,
    PermissionDenied: Reason.ERROR_REASON_PERMISSION_DENIED,
    Unauthenticated: Reason.ERROR_REASON_UNAUTHENTICATED,
    WorkflowNotFound: Reason.ERROR_REASON_WORKFLOW_NOT_FOUND,
    MessageTooLarge: Reason.ERROR_REASON_MESSAGE_TOO_LARGE,
    TooManyCalls: Reason.ERROR_REASON_TOO_MANY_CALLS,
    NoFreeSlot: Reason.ERROR_REASON_TOO_MANY_CALLS,
    TooManyStarts: Reason.ERROR_REASON_TOO_MANY_STARTS,
    DefinitionTooLarge: Reason.ERROR_REASON_MESSAGE_TOO_LARGE,
    JournalUnavailable: Reason.ERROR_REASON_JOURNAL_UNAVAILABLE,
    JournalError: Reason.ERROR_REASON_JOURNAL_UNAVAILABLE,
    NotAccepting: Reason.ERROR_REASON_SERVER_DRAINING,
    RunBroken: Reason.ERROR_REASON_RUN_BROKEN,
    RunExists: Reason.ERROR_REASON_RUN_EXISTS,
    RunNotEnded: Reason.ERROR_REASON_RUN_NOT_ENDED,
    RunNotFound: Reason.ERROR_REASON_RUN_NOT_FOUND,
    RunNotOpen: Reason.ERROR_REASON_RUN_NOT_OPEN,
    SequenceOutOfRange: Reason.ERROR_REASON_SEQUENCE_OUT_OF_RANGE,
    StepCompletedBefore: Reason.ERROR_REASON_STEP_COMPLETED,
    StepNotFound: Reason.ERROR_REASON_STEP_NOT_FOUND,
    StepNotWaiting: Reason.ERROR_REASON_STEP_NOT_WAITING,
    StepsRefused: Reason.ERROR_REASON_INVALID_ARGUMENT,
    TooManyKeptBytes: Reason.ERROR_REASON_TOO_MANY_KEPT_BYTES,
    TooManyRuns: Reason.ERROR_REASON_TOO_MANY_RUNS,
}

CODES: dict[Reason.ValueType, int] = {
    Reason.ERROR_REASON_INVALID_ARGUMENT: code_pb2.INVALID_ARGUMENT,
    Reason.ERROR_REASON_NOT_SUPPORTED: code_pb2.UNIMPLEMENTED,
    Reason.ERROR_REASON_WORKFLOW_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.ERROR_REASON_RUN_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.ERROR_REASON_RUN_EXISTS: code_pb2.ALREADY_EXISTS,
    Reason.ERROR_REASON_RUN_NOT_ENDED: code_pb2.FAILED_PRECONDITION,
    Reason.ERROR_REASON_RUN_NOT_OPEN: code_pb2.FAILED_PRECONDITION,
    Reason.ERROR_REASON_SEQUENCE_OUT_OF_RANGE: code_pb2.OUT_OF_RANGE,
    Reason.ERROR_REASON_STEP_NOT_WAITING: code_pb2.FAILED_PRECONDITION,
    Reason.ERROR_REASON_STEP_COMPLETED: code_pb2.ALREADY_EXISTS,
    Reason.ERROR_REASON_STEP_NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.ERROR_REASON_TOO_MANY_RUNS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.ERROR_REASON_TOO_MANY_CALLS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.ERROR_REASON_TOO_MANY_STARTS: code_pb2.RESOURCE_EXHAUSTED,
    Reason.ERROR_REASON_TOO_MANY_KEPT_BYTES: code_pb2.RESOURCE_EXHAUSTED,
    Reason.ERROR_REASON_MESSAGE_TOO_LARGE: code_pb2.RESOURCE_EXHAUSTED,
    Reason.ERROR_REASON_SERVER_DRAINING: code_pb2.UNAVAILABLE,
    Reason.ERROR_REASON_JOURNAL_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.ERROR_REASON_JOURNAL_DAMAGED: code_pb2.DATA_LOSS,
    Reason.ERROR_REASON_RUN_BROKEN: code_pb2.INTERNAL,
    Reason.ERROR_REASON_INTERNAL: code_pb2.INTERNAL,
    Reason.ERROR_REASON_UNAUTHENTICATED: code_pb2.UNAUTHENTICATED,
    Reason.ERROR_REASON_PERMISSION_DENIED: code_pb2.PERMISSION_DENIED,
}
"""The canonical code of each reason."""

RETRIED = frozenset(
    {
        Reason.ERROR_REASON_TOO_MANY_RUNS,
        Reason.ERROR_REASON_TOO_MANY_CALLS,
        Reason.ERROR_REASON_TOO_MANY_STARTS,
        Reason.ERROR_REASON_TOO_MANY_KEPT_BYTES,
        Reason.ERROR_REASON_SERVER_DRAINING,
        Reason.ERROR_REASON_JOURNAL_UNAVAILABLE,
    }
)
"""The reasons for which the same call may succeed later."""

RETRY_DELAY = 1.0
"""Seconds after which a caller is asked to try again."""


def status_of(error: Refusal, engine: str = "") -> grpc.Status:
    """Return the status of a call that ends with an error.

    Args:
        error: The error.
        engine: The name of the engine, for callers that have to provide an action.
    """
    reason = _reason_of(error)
    text = _summary(error.violations) if isinstance(error, StepsRefused) else str(error)
    status = status_pb2.Status(code=CODES[reason], message=_cut(text, MAX_MESSAGE))
    name = reason_name(error)
    _attach(status, error_details_pb2.ErrorInfo(reason=name, domain=DOMAIN, metadata=_metadata(error, engine)))
    if reason in RETRIED:
        _attach(status, error_details_pb2.RetryInfo(retry_delay=_retry_delay(error)))
    if isinstance(error, (InvalidCall, NotServed, StepsRefused)):
        _attach(status, _bad_request(error.violations, _room(status)))
    return cast("grpc.Status", rpc_status.to_status(status))


def _retry_delay(error: Refusal) -> Duration:
    delay = Duration()
    delay.FromMilliseconds(ceil(1_000 * (error.retry_delay if isinstance(error, TooManyStarts) else RETRY_DELAY)))
    return delay


def reason_name(error: Refusal) -> str:
    """Return the stable reason of an error, such as `RUN_NOT_FOUND`."""
    return Reason.Name(_reason_of(error)).removeprefix("ERROR_REASON_")


def _reason_of(error: Refusal) -> Reason.ValueType:
    if isinstance(error, JournalError) and error.lasting:
        return Reason.ERROR_REASON_JOURNAL_DAMAGED
    return next(_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)


def _metadata(error: Refusal, engine: str) -> Mapping[str, str]:
    match error:
        case InvalidCall() | StepsRefused() if any(it.reason == UNKNOWN_ACTION for it in error.violations):
            return {"engine": engine}
        case CallRefused():
            return error.metadata
        case RunBroken() | RunExists() | RunNotEnded() | RunNotFound() | RunNotOpen():
            return {"run_id": error.key.run_id}
        case StepError():
            return {"run_id": error.key.run_id, "step_id": error.step_id}
        case SequenceOutOfRange():
            return {"last_sequence": str(error.last)}
        case TooManyKeptBytes():
            return {"namespace": error.namespace, "kept": str(error.kept), "limit": str(error.limit)}
        case TooManyRuns() | DefinitionTooLarge() | NoFreeSlot():
            return {"limit": str(error.limit)}
    return {}


def _room(status: status_pb2.Status) -> int:
    """Return how many bytes of details fit. The message is sent percent-encoded, and the whole status in base64."""
    message: str = status.message
    plain = sum(" " <= letter <= "~" and letter != "%" for letter in message)
    encoded = plain + 3 * (len(message.encode()) - plain)
    used: int = status.ByteSize()
    return (MAX_TRAILER - encoded) * 3 // 4 - used


def _bad_request(violations: Sequence[Violation], room: int) -> error_details_pb2.BadRequest:
    """Return the invalid fields that fit. If some do not, the last entry gives their number."""
    bad_request = error_details_pb2.BadRequest()
    for count, violation in enumerate(violations):
        entry = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(violation.field, MAX_TEXT),
            description=_cut(violation.description, MAX_TEXT),
            reason=violation.reason,
        )
        room -= entry.ByteSize() + 4
        if room < 0:
            bad_request.field_violations.add(description=f"and {len(violations) - count:,} more problems")
            break
        bad_request.field_violations.append(entry)
    return bad_request


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _summary(violations: Sequence[Violation]) -> str:
    first = violations[:3]
    listed = "; ".join(
        _cut(f"{violation.field}: {violation.description}", MAX_TEXT // len(first)) for violation in first
    )
    more = len(violations) - len(first)
    return listed + (f"; and {more:,} more" if more > 0 else "")


def _cut(text: str, most: int) -> str:
    """Shorten a text to at most so many bytes in UTF-8."""
    data = text.encode()
    return text if len(data) <= most else data[: most - 3].decode(errors="ignore") + "…"
