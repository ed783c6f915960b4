"""Why a run does not move: what its steps do and wait for, as an engine explains it."""

from dataclasses import dataclass
from enum import IntEnum

from .info import RunInfo
from .model import State

__all__ = ["CodeLine", "Explanation", "StepExplanation", "WaitCause", "Waiting"]


class WaitCause(IntEnum):
    """What a ready step can wait for. Values are those of the contract."""

    NONE = 0
    CONCURRENCY = 1
    RATE = 2
    BACKOFF = 3
    ACTION_MISSING = 4
    EXTERNAL = 5


@dataclass(frozen=True, slots=True)
class Waiting:
    """Ready steps of a run that wait for one thing: how many, the first of them, and what for.

    `limit` is what the limit covers that they wait for, as it was configured; empty if it is none.
    """

    cause: WaitCause
    message: str
    step_count: int
    step_ids: tuple[str, ...]
    limit: str = ""


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A line of code: where an action stands. `text` is the line itself; empty if it cannot be read."""

    function: str
    file: str
    line: int
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepExplanation:
    """What a step does, or waits for.

    Attributes:
        state: `PENDING`, or `RUNNING` once an attempt was started.
        attempt: The newest attempt that was started; 0: none was.
        since: Since when that runs, or it waits; `None`: unknown, or it waits for steps.
        until: When the pause before another attempt is over; `None`: there is none.
        waits_for: The steps that have to end before it may start, the first of them.
        waits_for_count: How many there are in all.
        cause: What else it waits for.
        message: More about it, on one line.
        where: Where the code of its attempt stands; `None`: nobody knows, or may know.
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
        info: How it stands.
        time: When that is.
        steps: Steps that have not ended, the most telling first; not all of very many.
        step_count: How many there are in all.
    """

    info: RunInfo
    time: int
    steps: tuple[StepExplanation, ...]
    step_count: int
