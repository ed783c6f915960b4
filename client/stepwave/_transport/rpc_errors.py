"""The one place where gRPC's errors become the SDK's exceptions."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, cast

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from stepwave.exceptions import (
    AccessDenied,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidWorkflow,
    LimitExceeded,
    NotFound,
    OutOfRange,
    ServerError,
    ServerUnavailable,
    StepwaveError,
    Unsupported,
    Violation,
)

__all__ = ["from_rpc_error"]

_DETAILS_KEY = "grpc-status-details-bin"

# Codes whose exception takes a message and a reason, and nothing else. What is in no table here is `ServerError`.
_PLAIN: dict[grpc.StatusCode, Callable[..., StepwaveError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceeded,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}

_WITH_VIOLATIONS: dict[grpc.StatusCode, Callable[..., StepwaveError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidWorkflow,
    grpc.StatusCode.UNIMPLEMENTED: Unsupported,
}

# Connections that were lost, or calls that a server cut off as it stopped: another try may find a server again.
_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})

Detail = TypeVar("Detail", bound=Message)


class _Ended(Protocol):
    """What both kinds of `grpc.RpcError`, of `grpc` and of `grpc.aio`, can tell; their common base has none of it."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def from_rpc_error(error: grpc.RpcError, address: str) -> StepwaveError:
    """Turn the error of a call into the exception to raise in its place.

    Args:
        error: The error, of `grpc` or of `grpc.aio`.
        address: Where the server was looked for.
    """
    ended = cast("_Ended", error)
    code, message = ended.code(), ended.details() or ""
    status = _status(ended)
    info = _detail(status, error_details_pb2.ErrorInfo)
    reason = info.reason if info else ""
    if code in _LOST:
        return ServerUnavailable(message if reason else _no_server(address, message), address=address, reason=reason)
    if code in _WITH_VIOLATIONS:
        return _WITH_VIOLATIONS[code](message, _violations(status), reason=reason)
    if code in _PLAIN:
        return _PLAIN[code](message, reason=reason)
    return ServerError(f"{code.name}: {message}", reason=reason)


def _no_server(address: str, details: str) -> str:
    # gRPC chains causes with colons; the last one, such as `Connection refused (111)`, is what a person can use.
    cause = details.rpartition(": ")[2]
    return f"no server at {address}" + (f" ({cause})" if cause else "")


def _status(ended: _Ended) -> status_pb2.Status:
    for key, value in ended.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # not ours: what is left is the code and the message
                break
    return status_pb2.Status()


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    detail = kind()
    return next((detail for packed in status.details if packed.Unpack(detail)), None)


def _violations(status: status_pb2.Status) -> tuple[Violation, ...]:
    request = _detail(status, error_details_pb2.BadRequest)
    return tuple(Violation(item.field, item.description) for item in request.field_violations) if request else ()
