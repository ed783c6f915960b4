"""Conversions of small values: times, durations, payloads, failures, counts."""

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from stepwave.v1 import payload_pb2, run_pb2
from stepwave_server.core.model import SECOND, Blob, Failure, FailureCause, Payload, Reason, Skip

__all__ = [
    "clean",
    "decode_payload",
    "encode_payload",
    "fill_duration",
    "fill_failure",
    "fill_payload",
    "fill_time",
    "from_counts",
    "from_duration",
    "from_failure",
    "from_payload",
    "from_time",
    "to_counts",
    "to_failure",
    "to_payload",
    "to_skip",
]


def clean(text: str) -> str:
    """Return a text that UTF-8 can encode. A lone surrogate, as in a file name, becomes a question mark.

    Texts come from actions. None may prevent its event from being written.
    """
    return text if text.isascii() else text.encode(errors="replace").decode()


def fill_time(message: Timestamp, nanos: int) -> None:
    """Set a timestamp to nanoseconds since the epoch."""
    message.seconds, message.nanos = divmod(nanos, SECOND)


def from_time(message: Timestamp) -> int:
    """Return the nanoseconds since the epoch of a timestamp."""
    return message.seconds * SECOND + message.nanos


def fill_duration(message: Duration, nanos: int) -> None:
    """Set a duration to nanoseconds. A duration of zero is set, too: it differs from one that is not set."""
    message.SetInParent()
    message.seconds, message.nanos = divmod(nanos, SECOND)


def from_duration(message: Duration) -> int:
    """Return the nanoseconds of a duration."""
    return message.seconds * SECOND + message.nanos


def fill_payload(message: payload_pb2.Payload, payload: Payload) -> None:
    """Set a message to a payload."""
    if isinstance(payload, str):
        message.json = payload
    else:
        message.blob.content_type = payload.content_type
        message.blob.data = payload.data


def to_payload(payload: Payload) -> payload_pb2.Payload:
    """Return a payload as a message."""
    message = payload_pb2.Payload()
    fill_payload(message, payload)
    return message


def from_payload(message: payload_pb2.Payload) -> Payload:
    """Return the payload of a message. An empty message is `null`."""
    if message.HasField("blob"):
        return Blob(message.blob.content_type or "application/octet-stream", message.blob.data)
    return message.json if message.HasField("json") else "null"


def encode_payload(payload: Payload) -> bytes:
    """Return a payload as an encoded message."""
    data: bytes = to_payload(payload).SerializeToString()
    return data


def decode_payload(data: bytes) -> Payload:
    """Return the payload of an encoded message."""
    return from_payload(payload_pb2.Payload.FromString(data))


def fill_failure(message: run_pb2.Failure, failure: Failure) -> None:
    """Set a message to a failure."""
    message.reason = run_pb2.FailureReason.ValueType(failure.reason.value)
    message.message = clean(failure.message)
    message.retryable = failure.retryable
    if failure.retry_after is not None:
        fill_duration(message.retry_after, failure.retry_after)
    message.step_id = failure.step_id
    message.attempt = failure.attempt
    message.cause = run_pb2.FailureCause.ValueType(failure.cause.value)
    for key, value in failure.details:
        message.details[clean(key)] = clean(value)


def to_failure(failure: Failure) -> run_pb2.Failure:
    """Return a failure as a message."""
    message = run_pb2.Failure()
    fill_failure(message, failure)
    return message


def from_failure(message: run_pb2.Failure) -> Failure:
    """Return the failure of a message."""
    return Failure(
        reason=Reason(message.reason),
        message=message.message,
        retryable=message.retryable,
        retry_after=from_duration(message.retry_after) if message.HasField("retry_after") else None,
        step_id=message.step_id,
        attempt=message.attempt,
        details=tuple(sorted(message.details.items())),
        cause=FailureCause(message.cause),
    )


def to_skip(skip: Skip) -> run_pb2.SkipReason:
    """Return the reason of a skip as a message."""
    return run_pb2.SkipReason(cause=run_pb2.SkipCause.ValueType(skip.cause.value), step_id=skip.step_id)


def to_counts(counts: Sequence[int]) -> run_pb2.StateCounts:
    """Return counts as a message. They are in the order of `State`."""
    pending, running, succeeded, failed, cancelled, skipped = counts
    return run_pb2.StateCounts(
        pending=pending, running=running, succeeded=succeeded, failed=failed, cancelled=cancelled, skipped=skipped
    )


def from_counts(message: run_pb2.StateCounts) -> tuple[int, ...]:
    """Return the counts of a message, in the order of `State`."""
    return (
        message.pending,
        message.running,
        message.succeeded,
        message.failed,
        message.cancelled,
        message.skipped,
    )
