"""Turns gRPC's errors into the SDK's exceptions."""

import re
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

# Codes whose exception takes only a message and a reason.
_PLAIN: dict[grpc.StatusCode, Callable[..., StepwaveError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNAUTHENTICATED: AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: AccessDenied,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
}

# The connection was lost, or the server cancelled the call as it stopped. Another attempt may succeed.
_LOST = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})

# A proxy that loses its server in mid-stream resets the stream: with HTTP/2's INTERNAL_ERROR, or NO_ERROR. gRPC calls
# either INTERNAL. An error of the server itself has a reason.
_RESET = re.compile(r"RST_STREAM with error code [02]\b")

_TLS_PROBLEMS = {
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not trusted; tls_ca names the authorities to trust",
    "WRONG_VERSION_NUMBER": "it does not encrypt",
    "CERTIFICATE_REQUIRED": "it needs a client certificate: client_cert and client_key",
}
_CONNECTING = "failed to connect to all addresses"
_CLOSED = "it closes the connection, as a server that encrypts does; try tls_ca, or tls=True"

Detail = TypeVar("Detail", bound=Message)


class _CallError(Protocol):
    """The methods of `grpc.RpcError` in both `grpc` and `grpc.aio`; their common base class has none of them."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def from_rpc_error(error: grpc.RpcError, address: str) -> StepwaveError:
    """Return the exception for the error of a call.

    Args:
        error: The error, of `grpc` or of `grpc.aio`.
        address: The server's address.
    """
    call = cast("_CallError", error)
    code, message = call.code(), call.details() or ""
    status = _status(call)
    info = _detail(status, error_details_pb2.ErrorInfo)
    reason = info.reason if info else ""
    if code in _LOST or (code is grpc.StatusCode.INTERNAL and not reason and _RESET.search(message)):
        if reason:
            return ServerUnavailable(message, address=address, reason=reason)
        return _no_server(address, message)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        engine = info.metadata.get("engine", "") if info else ""
        return InvalidWorkflow(message, _violations(status), reason=reason, engine=engine)
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return Unsupported(message, _violations(status), reason=reason)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        retry = _detail(status, error_details_pb2.RetryInfo)
        return LimitExceeded(message, reason=reason, retry_after=retry.retry_delay.ToTimedelta() if retry else None)
    if code in _PLAIN:
        return _PLAIN[code](message, reason=reason)
    return ServerError(f"{code.name}: {message}", reason=reason)


def _no_server(address: str, details: str) -> ServerUnavailable:
    if problem := _tls_problem(details):
        return ServerUnavailable(f"no connection to {address}: {problem}", address=address, tls_problem=problem)
    # gRPC chains causes with colons. The last one, such as `Connection refused (111)`, is the useful one.
    cause = details.rpartition(": ")[2]
    return ServerUnavailable(f"no server at {address}" + (f" ({cause})" if cause else ""), address=address)


def _tls_problem(details: str) -> str:
    """Return why the encryption could not be agreed on, by the details of gRPC; empty: that was not the problem."""
    if "handshake failed" in details:
        return next((problem for sign, problem in _TLS_PROBLEMS.items() if sign in details), "the TLS handshake failed")
    return _CLOSED if details.startswith(_CONNECTING) and details.endswith("Socket closed") else ""


def _status(call: _CallError) -> status_pb2.Status:
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:  # details of another format: use the code and the message alone
                break
    return status_pb2.Status()


def _detail(status: status_pb2.Status, kind: type[Detail]) -> Detail | None:
    detail = kind()
    return next((detail for packed in status.details if packed.Unpack(detail)), None)


def _violations(status: status_pb2.Status) -> tuple[Violation, ...]:
    request = _detail(status, error_details_pb2.BadRequest)
    if request is None:
        return ()
    return tuple(Violation(item.field, item.description, item.reason) for item in request.field_violations)
