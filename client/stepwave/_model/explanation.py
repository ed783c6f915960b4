"""Why a run does not move: what its steps do and wait for, as a server explains it."""

from dataclasses import dataclass
from datetime import datetime

from stepwave._values.plain import Plain

from .results import Run, State, WaitCause

__all__ = ["CodeLine", "RunExplanation", "StepExplanation"]


@dataclass(frozen=True, slots=True)
class CodeLine(Plain):
    """A line of code: the innermost one, of those an action is in, that is neither the server's nor a library's.

    Attributes:
        function: The function.
        file: The file, as the server knows it.
        line: The line's number, from 1.
        text: The line itself, without its indentation, at most 200 characters; empty if it cannot be read.
    """

    function: str
    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class StepExplanation(Plain):
    """What a step does, or waits for.

    Attributes:
        step_id: The step.
        action: What it is to do.
        state: `pending` if no attempt was started yet; `running` once one was: it runs, or the step waits for another.
        attempt: The newest attempt that was started; 0 if none was.
        since: Since when that runs, or it waits as said; `None`: unknown, or it waits for steps.
        until: When the pause before another attempt is over; `None`: there is none.
        waits_for: The steps that have to end before it may start, the first 10.
        waits_for_count: How many there are in all.
        cause: What else it waits for; `None`: nothing, it runs, or waits for steps.
        message: One line more about it; may be empty.
        where: Where the code of its running attempt stands. `None`: it does not run, is no Python code of its own, or
            the server withholds such details.
    """

    step_id: str
    action: str
    state: State
    attempt: int
    since: datetime | None
    until: datetime | None
    waits_for: tuple[str, ...]
    waits_for_count: int
    cause: WaitCause | None
    message: str
    where: CodeLine | None

    @property
    def running(self) -> bool:
        """Whether an attempt of it runs."""
        return self.state is State.RUNNING and self.cause is None and self.since is not None


@dataclass(frozen=True, slots=True)
class RunExplanation(Plain):
    """What a run waits for.

    Attributes:
        run: The run as it stood.
        time: When that was, by the server's clock.
        steps: Its steps that had not ended: first those that ran, then those that could and waited for something other
            than steps, then the others; the first 500. None of a run that has ended.
        step_count: How many there were in all.
    """

    run: Run
    time: datetime
    steps: tuple[StepExplanation, ...]
    step_count: int
