"""Lengths and points of time as callers give them."""

import math
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from google.protobuf import duration_pb2, timestamp_pb2

__all__ = ["Seconds", "to_duration", "to_seconds", "to_timestamp"]

Seconds: TypeAlias = float | timedelta


def to_seconds(length: Seconds) -> float:
    """Return a length of time in seconds.

    Raises:
        ValueError: It is infinite or not a number.
    """
    seconds = length.total_seconds() if isinstance(length, timedelta) else float(length)
    if not math.isfinite(seconds):
        raise ValueError(f"a length of time must be finite, got {length!r}")
    return seconds


def to_duration(length: Seconds) -> duration_pb2.Duration:
    """Turn a length of time into a duration of the contract, to the microsecond.

    Raises:
        ValueError: It is infinite, not a number, or longer than a duration holds.
    """
    duration = duration_pb2.Duration()
    try:
        duration.FromTimedelta(length if isinstance(length, timedelta) else timedelta(seconds=to_seconds(length)))
    except OverflowError as error:
        raise ValueError(f"too long: {length!r}") from error
    return duration


def to_timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """Turn a point in time into one of the contract, to the microsecond; without a zone, it is the local one.

    Raises:
        ValueError: The local zone has no such time.
    """
    stamp = timestamp_pb2.Timestamp()
    try:
        stamp.FromDatetime(moment.astimezone(UTC))
    except (OverflowError, OSError) as error:
        raise ValueError(f"no such time: {moment}") from error
    return stamp
