"""Errors to gRPC statuses. Every status has a `google.rpc.ErrorInfo`; some have the invalid fields as well."""

from collections.abc import Sequence
from typing import TypeAlias, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from stepwave_server.core.validate import Violation
from stepwave_server.engine.errors import (
    EngineError,
    InvalidRun,
    JournalUnavailable,
    NotAccepting,
    RunBroken,
    RunExists,
    RunNotEnded,
    RunNotFound,
    SequenceOutOfRange,
    TooManyRuns,
)
from stepwave_server.journal import JournalError

__all__ = [
    "CallRefused",
    "InvalidCall",
    "MessageTooLarge",
    "NotServed",
    "Refusal",
    "TooManyCalls",
    "WorkflowNotFound",
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
    """Base of the errors with which the gRPC layer itself rejects a call."""

    code = code_pb2.INTERNAL
    reason = "INTERNAL"


class InvalidCall(CallRefused):
    """Raised when fields of a request are malformed. Lists all of them."""

    code = code_pb2.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations)


class NotServed(CallRefused):
    """Raised when a request uses features that this server does not support. Lists all of them."""

    code = code_pb2.UNIMPLEMENTED
    reason = "NOT_SUPPORTED"

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__(_summary(violations))
        self.violations = tuple(violations)


class WorkflowNotFound(CallRefused):
    """Raised when the server has no workflow of the requested name."""

    code = code_pb2.NOT_FOUND
    reason = "WORKFLOW_NOT_FOUND"


class MessageTooLarge(CallRefused):
    """Raised when a request is larger than the server allows."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "MESSAGE_TOO_LARGE"


class TooManyCalls(CallRefused):
    """Raised when as many calls or streams are open as the server allows."""

    code = code_pb2.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CALLS"


_ENGINE_CODES: dict[type[EngineError], tuple[int, str]] = {
    InvalidRun: (code_pb2.INVALID_ARGUMENT, "INVALID_WORKFLOW"),
    JournalUnavailable: (code_pb2.UNAVAILABLE, "JOURNAL_UNAVAILABLE"),
    NotAccepting: (code_pb2.UNAVAILABLE, "SERVER_DRAINING"),
    RunBroken: (code_pb2.INTERNAL, "RUN_BROKEN"),
    RunExists: (code_pb2.ALREADY_EXISTS, "RUN_EXISTS"),
    RunNotEnded: (code_pb2.FAILED_PRECONDITION, "RUN_NOT_ENDED"),
    RunNotFound: (code_pb2.NOT_FOUND, "RUN_NOT_FOUND"),
    SequenceOutOfRange: (code_pb2.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE"),
    TooManyRuns: (code_pb2.RESOURCE_EXHAUSTED, "TOO_MANY_RUNS"),
}


Refusal: TypeAlias = CallRefused | EngineError | JournalError
"""An expected error of a call; every other exception is a defect of the server."""


def status_of(error: Refusal) -> grpc.Status:
    """Return the status of a call that ends with an error."""
    code, reason = _code_of(error)
    status = status_pb2.Status(code=code, message=_cut(str(error), MAX_MESSAGE))
    _attach(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN))
    if isinstance(error, (InvalidCall, NotServed, InvalidRun)):
        _attach(status, _bad_request(error.violations, _room(status)))
    return cast("grpc.Status", rpc_status.to_status(status))


def _code_of(error: Refusal) -> tuple[int, str]:
    if isinstance(error, CallRefused):
        return error.code, error.reason
    if isinstance(error, JournalError):
        return (code_pb2.DATA_LOSS, "JOURNAL_DAMAGED") if error.lasting else _ENGINE_CODES[JournalUnavailable]
    return _ENGINE_CODES[type(error)]


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


def _attach(status: status_pb2.Status, detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest) -> None:
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
