"""Failed calls of `RunnableService` to failures of attempts: the reason, and whether the attempt may have run."""

from datetime import timedelta

import grpc
from google.rpc import error_details_pb2, status_pb2

from stepwave_server.actions.error_classification import classify
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.runnables.entry import Runnable
from stepwave_server.core.model import Failure, Reason

__all__ = ["failed_attempt", "failed_call", "malformed", "not_connected", "too_late"]

STATUS_DETAILS = "grpc-status-details-bin"
TOO_LARGE = "larger than max"
"""Part of gRPC's own message about a message beyond the limit of its receiver."""

BAD_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "Hostname Verification Check failed")
"""Parts of gRPC's own messages about certificates that are not trusted."""

NEVER_SENT = ("failed to connect to all addresses", "connections to all backends failing")
"""Beginnings of gRPC's own messages when it finds no connection for a call, such as to a host that drains."""

REFUSALS = frozenset(
    {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""Codes with which a host refuses an attempt. gRPC itself gives them only before a host has the call."""

UNKNOWN = "whether the attempt has run is not known"

MAX_TEXT = 600
MAX_DETAILS = 12 << 10
"""Bytes of the details that a host gives to a failure. A failure has at most 16 KiB of them."""


def failed_call(runnable: Runnable, error: grpc.aio.AioRpcError, *, connected: bool, begun: bool) -> ActionFailed:
    """Return the failure of an attempt whose call failed.

    Args:
        runnable: The service.
        error: The error.
        connected: Whether there was a connection before the call.
        begun: Whether the host had sent a message of the attempt.
    """
    text = (error.details() or error.code().name)[:MAX_TEXT]
    if TOO_LARGE in text:
        return _failed(runnable, Reason.RESOURCE_EXHAUSTED, f"a message is too large: {text}", known=False)
    if not connected and any(part in text for part in BAD_CERTIFICATE):
        return _failed(runnable, Reason.UNAUTHORIZED, f"its certificate is not trusted: {text}")
    info, retry_after = _details(error)
    refused = not begun and (info or not connected or text.startswith(NEVER_SENT) or error.code() in REFUSALS)
    found = classify(error)
    if error.code() is grpc.StatusCode.UNIMPLEMENTED and runnable.stream and refused:
        text += " (if it has Invoke alone, set stream = false)"
    return _failed(
        runnable, found.reason, text, retryable=found.retryable, retry_after=retry_after, known=bool(refused)
    )


def not_connected(runnable: Runnable, text: str) -> ActionFailed:
    """Return the failure of an attempt for which there is no connection. It has not run."""
    return _failed(runnable, Reason.UNAVAILABLE, text, retryable=True)


def too_late(runnable: Runnable) -> ActionFailed:
    """Return the failure of an attempt that timed out before its call. It has not run."""
    return _failed(runnable, Reason.TIMEOUT, "the attempt timed out before its call", retryable=True)


def malformed(runnable: Runnable, text: str) -> ActionFailed:
    """Return the failure of an attempt whose host does not keep to the contract. It would not, another time."""
    return _failed(runnable, Reason.ACTION_ERROR, text)


def failed_attempt(runnable: Runnable, failure: Failure) -> ActionFailed:
    """Return the failure that a host reported, with as many of its details as there is room for."""
    details, room = {"runnable": runnable.name}, MAX_DETAILS
    for key, value in failure.details:
        room -= len(key.encode()) + len(value.encode())
        if room >= 0:
            details.setdefault(key, value)
    wait = failure.retry_after
    return ActionFailed(
        failure.reason,
        failure.message or f'"{runnable.name}" at {runnable.address}: it failed without a message',
        retryable=failure.retryable,
        retry_after=None if wait is None or wait < 0 else wait,
        details=details,
    )


def _failed(
    runnable: Runnable,
    reason: Reason,
    text: str,
    *,
    retryable: bool = False,
    retry_after: int | None = None,
    known: bool = True,
) -> ActionFailed:
    message = f'"{runnable.name}" at {runnable.address}: {text}'
    details = {"runnable": runnable.name}
    if not known:
        message, details["outcome"] = f"{message}; {UNKNOWN}", "unknown"
    return ActionFailed(reason, message, retryable=retryable, retry_after=retry_after, details=details)


def _details(error: grpc.aio.AioRpcError) -> tuple[bool, int | None]:
    """Return whether a status has an `ErrorInfo` of a Stepwave host, and the wait in nanoseconds that it asks for."""
    data = dict(error.trailing_metadata() or ()).get(STATUS_DETAILS)
    if not isinstance(data, bytes):
        return False, None
    try:
        status = status_pb2.Status.FromString(data)
        return _read_details(status)
    except Exception:  # the bytes are the host's
        return False, None


def _read_details(status: status_pb2.Status) -> tuple[bool, int | None]:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    has_info, wait = False, None
    for detail in status.details:
        if detail.Unpack(info):
            has_info = info.domain == "stepwave"
        elif detail.Unpack(retry):
            wait = retry.retry_delay.ToTimedelta() // timedelta(microseconds=1) * 1_000
    return has_info, None if wait is None else max(0, wait)
