"""Lengths of time as callers give them: seconds or `timedelta`."""

import math
from datetime import timedelta
from typing import TypeAlias

from google.protobuf import duration_pb2

__all__ = ["Seconds", "to_duration", "to_seconds"]

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
