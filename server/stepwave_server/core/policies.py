"""What is wrong with a retry policy: each problem with the field to blame."""

from collections.abc import Iterator
from math import isfinite

from .model import Reason, Retry

__all__ = ["MOST_ATTEMPTS", "retry_problems"]

SECOND = 1_000_000_000
MOST_ATTEMPTS = 1_000

NOT_RETRIED = {
    Reason.CANCELLED: "what was cancelled is not tried again",
    Reason.INTERRUPTED: "an attempt that ended with its server is tried again without a policy: see `on_interrupt`",
}


def retry_problems(retry: Retry) -> Iterator[tuple[str, str]]:
    """Yield every problem of a policy, as the field and what is wrong with it."""
    if not 1 <= retry.max_attempts <= MOST_ATTEMPTS:
        yield "max_attempts", f"must be 1 to {MOST_ATTEMPTS:,}, got {retry.max_attempts:,}"
    if retry.initial_backoff < 0:
        yield "initial_backoff", f"must not be negative, got {_seconds(retry.initial_backoff)}"
    if not (isfinite(retry.backoff_multiplier) and retry.backoff_multiplier >= 1):
        yield "backoff_multiplier", f"must be a number of at least 1, got {retry.backoff_multiplier:g}"
    if retry.max_backoff < retry.initial_backoff:
        longest, first = _seconds(retry.max_backoff), _seconds(retry.initial_backoff)
        yield "max_backoff", f"must be at least `initial_backoff`, {first}, and is {longest}"
    if not 0 <= retry.jitter <= 1:
        yield "jitter", f"must be 0 to 1, got {retry.jitter:g}"
    for position, reason in enumerate(retry.retryable_reasons):
        if reason in NOT_RETRIED:
            yield f"retryable_reasons[{position}]", NOT_RETRIED[reason]


def _seconds(nanos: int) -> str:
    return f"{nanos / SECOND:g} s"
