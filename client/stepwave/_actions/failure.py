"""The failure of an action: its reasons, and the exception that an action raises to state one."""

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
    """Raise it in an action to say what kind of failure it is, and whether another attempt could help.

    Other exceptions are judged by their kind: time-outs, broken connections and HTTP answers by what they are, all else
    as an `action_error` that is worth another attempt. Whether one is made is for the step's policy to say. An
    exception that is raised `from` this one fails the step as this one does.

    Attributes:
        reason: The kind of failure.
        retryable: Whether another attempt could help; by default, `invalid_input`, `unauthorized` and `not_found` are
            permanent, and others are not. What is permanent is never tried again.
        retry_after: How long to wait before it at least; `None`: as long as the policy says.

    Raises:
        ValueError: The reason is not one, or the wait is negative, infinite, or too long.
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
            raise ValueError("a failure has a reason")
        if self.retry_after is not None and self.retry_after < timedelta(0):
            raise ValueError(f"retry_after must not be negative, got {retry_after!r}")
