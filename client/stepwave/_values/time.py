"""Durations and times, and their units."""

import math
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from google.protobuf import duration_pb2, timestamp_pb2

__all__ = [
    "NANOS_PER_MICROSECOND",
    "NANOS_PER_SECOND",
    "Seconds",
    "to_duration",
    "to_nanos",
    "to_seconds",
    "to_timestamp",
]

NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_MICROSECOND = 1_000

Seconds: TypeAlias = float | timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_seconds(length: Seconds) -> float:
    """Return a duration in seconds.

    Raises:
        ValueError: The duration is infinite or not a number.
    """
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if not math.isfinite(seconds):
        raise ValueError(f"a duration must be finite, got {length!r}")
    return seconds


def to_duration(length: Seconds) -> duration_pb2.Duration:
    """Convert a duration to a message of the contract, to the microsecond.

    Raises:
        ValueError: The duration is infinite, not a number, or longer than the message can hold.
    """
    duration = duration_pb2.Duration()
    try:
        duration.FromTimedelta(length if isinstance(length, timedelta) else timedelta(seconds=to_seconds(length)))
    except OverflowError as error:
        raise ValueError(f"too long: {length!r}") from error
    return duration


def to_timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """Convert a time to a message of the contract, to the microsecond. A time without a zone is local.

    Raises:
        ValueError: The local zone has no such time.
    """
    stamp = timestamp_pb2.Timestamp()
    try:
        stamp.FromDatetime(moment.astimezone(UTC))
    except (OverflowError, OSError) as error:
        raise ValueError(f"no such time: {moment}") from error
    return stamp


def to_nanos(moment: datetime) -> int:
    """Return a time in nanoseconds since the epoch, to the microsecond. A time without a zone is local."""
    return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1) * NANOS_PER_MICROSECOND
