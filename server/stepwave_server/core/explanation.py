"""Explanations of what the steps of a run do and wait for."""

from dataclasses import dataclass
from enum import IntEnum

from .info import RunInfo
from .model import State

__all__ = ["AttemptExplanation", "CodeLine", "Explanation", "StepExplanation", "WaitCause", "Waiting"]


class WaitCause(IntEnum):
    """What a ready step waits for. Values are those of the contract."""

    NONE = 0
    CONCURRENCY = 1
    RATE = 2
    BACKOFF = 3
    ACTION_MISSING = 4
    EXTERNAL = 5


@dataclass(frozen=True, slots=True)
class Waiting:
    """Ready steps of a run that wait for one thing: the cause, their count, and the first ids.

    `limit` is what the limit covers, as it was configured; empty if they wait for no limit.
    """

    cause: WaitCause
    message: str
    step_count: int
    step_ids: tuple[str, ...]
    limit: str = ""


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line of code that an action is at. `text` is the line itself; empty if it cannot be read."""

    function: str
    file: str
    line: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptExplanation:
    """The explanation of an attempt that was started.

    Attributes:
        since: When it began to run, or to wait for a host that runs it; `None`: unknown.
        cause: What it waits for; `NONE`: it runs.
        message: More about it, on one line.
        where: The line of code that it is at; `None`: unknown, or not to be shown.
    """

    since: int | None
    cause: WaitCause = WaitCause.NONE
    message: str = ""
    where: CodeLine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExplanation:
    """The explanation of one step: its activity, or what it waits for.

    Attributes:
        state: `PENDING`, or `RUNNING` once an attempt was started.
        attempt: The newest attempt that was started; 0: none.
        since: When the attempt started or the step began to wait; `None`: unknown, or it waits for other steps.
        until: The end of the pause before another attempt; `None`: no pause.
        waits_for: The first steps that must end before it may start.
        waits_for_count: Their count in all.
        cause: What else it waits for.
        message: More about it, on one line.
        where: The line of code that its attempt is at; `None`: unknown, or not to be shown.
    """

    step_id: str
    action: str
    state: State
    attempt: int
    since: int | None = None
    until: int | None = None
    waits_for: tuple[str, ...] = ()
    waits_for_count: int = 0
    cause: WaitCause = WaitCause.NONE
    message: str = ""
    where: CodeLine | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a run waits for.

    Attributes:
        info: The run.
        time: The time of the explanation.
        steps: Steps that have not ended: running ones first, then ready ones. At most so many as the engine explains.
        step_count: Their count in all.
    """

    info: RunInfo
    time: int
    steps: tuple[StepExplanation, ...]
    step_count: int
