"""Failures of actions: their reasons, and the exception that an action raises."""

from datetime import timedelta
from enum import StrEnum

from stepwave._values.time import Seconds, to_seconds

__all__ = ["ActionError", "FailureReason"]


class FailureReason(StrEnum):
    """The kinds of failures."""

    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    UNAVAILABLE = "unavailable"
    INVALID_INPUT = "invalid_input"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    ACTION_ERROR = "action_error"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    INTERNAL = "internal"
    UNKNOWN = "unknown"


_PERMANENT = frozenset({FailureReason.INVALID_INPUT, FailureReason.UNAUTHORIZED, FailureReason.NOT_FOUND})


class ActionError(Exception):
    """Raised by an action to give the reason of its failure, and whether another attempt could help.

    Other exceptions are classified by their type: timeouts, broken connections and HTTP responses get a reason of their
    own, all others become an `action_error` that may be retried. The step's retry policy decides whether it is. An
    exception raised `from` an `ActionError` counts as that error.

    Attributes:
        reason: The kind of failure.
        retryable: Whether another attempt could help. If not, the step is never retried. Default: false for
            `invalid_input`, `unauthorized` and `not_found`, else true.
        retry_after: The shortest pause before the next attempt; `None`: the retry policy's.

    Raises:
        ValueError: There is no such reason, or `retry_after` is negative, infinite, or too long.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: FailureReason | str = FailureReason.ACTION_ERROR,
        retryable: bool | None = None,
        retry_after: Seconds | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = FailureReason(reason)
        self.retryable = self.reason not in _PERMANENT if retryable is None else retryable
        try:
            self.retry_after = None if retry_after is None else timedelta(seconds=to_seconds(retry_after))
        except OverflowError as error:
            raise ValueError(f"retry_after is too long: {retry_after!r}") from error
        if self.reason is FailureReason.UNKNOWN:
            raise ValueError("a failure needs a reason other than `unknown`")
        if self.retry_after is not None and self.retry_after < timedelta(0):
            raise ValueError(f"retry_after must not be negative, got {retry_after!r}")
