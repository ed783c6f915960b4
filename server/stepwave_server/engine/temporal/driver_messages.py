"""The inputs of a run's driver, and its effects: the messages between it and the workflow or server that has it."""

from typing import NamedTuple, TypeAlias

from stepwave_server.core.messages import Input, Invoke, StepStarted
from stepwave_server.core.model import Payload, SecretPlace, immutable
from stepwave_server.engine.temporal.holds import HoldChange

__all__ = [
    "AttemptStopped",
    "CancelAttempt",
    "CancelTimer",
    "DriverInput",
    "Effect",
    "End",
    "HistorySize",
    "Request",
    "SetTimer",
    "StartAttempt",
    "TimerDue",
]


@immutable
class AttemptStopped:
    """An attempt ended because it was cancelled, or passed its timeout.

    `did` says what the action did instead of ending; empty: it ended.
    """

    step_id: str
    attempt: int
    timed_out: bool
    abandoned: bool = False
    did: str = ""


@immutable
class Request:
    """An input that a caller waits for, or a change of what holds the run. `token` is made up by the caller."""

    token: str
    input: Input | HoldChange


@immutable
class HistorySize:
    """The size of the history before a workflow task."""

    events: int
    size: int


@immutable
class TimerDue:
    """A timer of Temporal, known by its name, is due."""

    name: str


DriverInput: TypeAlias = Input | AttemptStopped | Request | HistorySize | TimerDue


class StartAttempt(NamedTuple):
    """Start an activity.

    Attributes:
        invoke: The request of the core.
        event: The start.
        input: The input of the action.
        strict: Whether unknown keys of the input are refused.
        secrets: The places of secrets in the input.
    """

    invoke: Invoke
    event: StepStarted
    input: Payload
    strict: bool
    secrets: tuple[SecretPlace, ...] = ()


class CancelAttempt(NamedTuple):
    """Cancel the activity of an attempt."""

    step_id: str
    attempt: int


class SetTimer(NamedTuple):
    """Start a timer with a name, due in `delay` nanoseconds."""

    name: str
    delay: int


class CancelTimer(NamedTuple):
    """Cancel a timer, if it is not due yet."""

    name: str


class End(NamedTuple):
    """The run has ended: complete the workflow."""


Effect: TypeAlias = StartAttempt | CancelAttempt | SetTimer | CancelTimer | End
