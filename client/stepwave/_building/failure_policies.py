"""What a step does about failures: how often it is tried, and what answers in its place in the end."""

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

__all__ = ["NOT_GIVEN", "Fallback", "NotGiven", "Retry", "optional_duration"]


class NotGiven(Enum):
    """Tells a value that was not given from one that is `None`, which is JSON's `null`."""

    NOT_GIVEN = "not given"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When and how often a failed attempt is tried again. What is not given takes the server's default.

    A failure that its action marked as permanent is never tried again, and one that says by `retry_after` when to come
    back is left alone until then. An attempt that a restart of the server interrupted counts for nothing here. A step
    that pauses takes no place of the workflow's `max_parallelism`.

    Attributes:
        max_attempts: All attempts together, the first included; at most 1,000.
        initial_backoff: The pause before the second attempt; default 500 ms.
        backoff_multiplier: The factor by which each pause exceeds the one before; default 2.
        max_backoff: The longest pause; default 30 s.
        jitter: The share of a pause that is drawn at random, 0 to 1; default 0.2, so a pause of 10 s is one of 8 to 10.
        retryable_reasons: Failures worth another attempt; default: `action_error`, `timeout`, `unavailable` and
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
        if self.backoff_multiplier == 0:  # it would be taken for one that was not given
            raise ValueError("backoff_multiplier must be at least 1, got 0")

    def to_proto(self) -> workflow_pb2.Retry:
        """Return it as a message of the contract.

        Raises:
            ValueError: A reason or a length of time is not one.
        """
        return workflow_pb2.Retry(
            max_attempts=self.max_attempts,
            initial_backoff=optional_duration(self.initial_backoff),
            backoff_multiplier=self.backoff_multiplier or 0.0,
            max_backoff=optional_duration(self.max_backoff),
            jitter=self.jitter,
            retryable_reasons=[_reason_number(FailureReason(reason)) for reason in self.retryable_reasons],
        )


@dataclass(frozen=True, slots=True)
class Fallback:
    """What answers in the place of a step that has finally failed: another action, or a fixed value.

    `Fallback("cached_search", {"query": flow.input["query"]})`, or `Fallback(value=[])`. The step succeeds with that
    answer, and its result keeps the original failure. A step that is cancelled has no use for it.

    Attributes:
        action: What to do instead: a function or class marked with `action`, or the name of an action of the server. It
            is tried once, with the step's `timeout`; `total_timeout` does not count it.
        input: Its input, with references at any depth, as that of a step. Not given: the input of the step.
        value: The fixed value, if there is no action; `None` is `null`.

    Raises:
        ValueError: There is neither an action nor a value, or both, or an input without an action.
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


def optional_duration(length: Seconds | None) -> duration_pb2.Duration | None:
    """Return a length of time as a message, if there is one."""
    return None if length is None else to_duration(length)


def _reason_number(reason: FailureReason) -> run_pb2.FailureReason.ValueType:
    return run_pb2.FailureReason.Value(f"FAILURE_REASON_{reason.name}")
