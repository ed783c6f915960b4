"""The failure policies of a step: its retry policy and its fallback."""

from dataclasses import KW_ONLY, dataclass
from enum import Enum
from typing import Final

from google.protobuf import duration_pb2

from stepwave._actions.action import ActionLike
from stepwave._actions.failure import FailureReason
from stepwave._values.payload import JSON, Blob
from stepwave._values.time import Seconds, to_duration
from stepwave.v1 import run_pb2, workflow_pb2

from .references import Input

__all__ = ["NOT_GIVEN", "Fallback", "NotGiven", "Retry", "optional_duration", "optional_retry", "reason_number"]


class NotGiven(Enum):
    """The default of a value for which `None` means JSON's `null`."""

    NOT_GIVEN = "not given"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When and how often a failed attempt is retried. The server has defaults for all but `max_attempts`.

    A failure that its action marks as permanent is never retried. One with `retry_after` is retried no earlier. An
    attempt that a restart of the server interrupted does not count. During a pause, a step does not count towards the
    workflow's `max_parallelism`.

    Attributes:
        max_attempts: The number of attempts, with the first; at most 1,000.
        initial_backoff: The pause before the second attempt; default 500 ms.
        backoff_multiplier: The factor by which each pause exceeds the one before; default 2.
        max_backoff: The longest pause; default 30 s.
        jitter: The random share of a pause, 0 to 1; default 0.2, so a pause of 10 s becomes one of 8 to 10 s.
        retryable_reasons: The reasons of failures to retry; default: `action_error`, `timeout`, `unavailable` and
            `rate_limited`.
    """

    max_attempts: int
    initial_backoff: Seconds | None = None
    backoff_multiplier: float | None = None
    max_backoff: Seconds | None = None
    jitter: float | None = None
    retryable_reasons: tuple[FailureReason | str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            raise TypeError(f"max_attempts must be a whole number, got {self.max_attempts!r}")
        if not 0 <= self.max_attempts < 1 << 32:
            raise ValueError(f"max_attempts must be 0 to 1,000, got {self.max_attempts:,}")
        for name in ("backoff_multiplier", "jitter"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise TypeError(f"{name} must be a number, got {value!r}")
        if self.backoff_multiplier == 0:  # on the wire, 0 means the default
            raise ValueError("backoff_multiplier must be at least 1, got 0")

    def to_proto(self) -> workflow_pb2.Retry:
        """Convert to a message of the contract.

        Raises:
            ValueError: A reason or a duration is invalid.
        """
        return workflow_pb2.Retry(
            max_attempts=self.max_attempts,
            initial_backoff=optional_duration(self.initial_backoff),
            backoff_multiplier=self.backoff_multiplier or 0.0,
            max_backoff=optional_duration(self.max_backoff),
            jitter=self.jitter,
            retryable_reasons=[reason_number(reason) for reason in self.retryable_reasons],
        )


@dataclass(frozen=True, slots=True, eq=False)  # references in its input make expressions of `==`
class Fallback:
    """The answer of a step whose last attempt has failed: that of another action, or a fixed value.

    `Fallback("cached_search", {"query": flow.input["query"]})`, or `Fallback(value=[])`. The step succeeds with this
    answer, and its result keeps the original failure. A cancelled step does not use its fallback.

    Attributes:
        action: A function or class marked with `action`, or the name of an action of the server. It gets one attempt,
            with the step's `timeout` and outside its `total_timeout`.
        input: The action's input, with references at any depth. Default: the step's input.
        value: The fixed value, if there is no action; `None` is `null`.

    Raises:
        ValueError: There is neither an action nor a value, or there are both, or an input without an action.
    """

    action: ActionLike | None = None
    input: Input | NotGiven = NOT_GIVEN
    _: KW_ONLY
    value: JSON | Blob | NotGiven = NOT_GIVEN

    def __post_init__(self) -> None:
        if (self.action is None) == isinstance(self.value, NotGiven):
            raise ValueError("a fallback is either an action or a value")
        if self.action is None and not isinstance(self.input, NotGiven):
            raise ValueError("a fallback that is a value has no input")


def optional_retry(retry: Retry | None) -> workflow_pb2.Retry | None:
    """Convert a retry policy to a message; `None` stays `None`.

    Raises:
        TypeError: It is no `Retry`.
    """
    if retry is not None and not isinstance(retry, Retry):
        raise TypeError(f"retry must be a Retry, such as Retry(max_attempts=3), got {retry!r}")
    return None if retry is None else retry.to_proto()


def optional_duration(length: Seconds | None) -> duration_pb2.Duration | None:
    """Convert a duration to a message; `None` stays `None`."""
    return None if length is None else to_duration(length)


def reason_number(reason: FailureReason | str) -> run_pb2.FailureReason.ValueType:
    """Return the number of a reason in the contract.

    Raises:
        ValueError: There is no such reason, or it is `unknown`.
    """
    if reason == FailureReason.UNKNOWN:
        raise ValueError("a failure needs a reason other than `unknown`")
    return run_pb2.FailureReason.Value(f"FAILURE_REASON_{FailureReason(reason).name}")
