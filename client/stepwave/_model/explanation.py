"""Explanations of runs: what their steps do and wait for."""

from dataclasses import dataclass
from datetime import datetime

from stepwave._values.plain import Plain

from .results import Run, State, WaitCause

__all__ = ["CodeLine", "RunExplanation", "StepExplanation"]


@dataclass(frozen=True, slots=True)
class CodeLine(Plain):
    """The innermost line of an action's own code, which is neither the server's nor a library's.

    Attributes:
        function: The function.
        file: The file, by its path on the server.
        line: The line number, from 1.
        text: The text of the line without indentation, at most 200 characters; empty: it cannot be read.
    """

    function: str
    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class StepExplanation(Plain):
    """The explanation of one step: its activity, or what it waits for.

    Attributes:
        step_id: The step.
        action: The step's action.
        state: `pending`: no attempt has started yet. `running`: an attempt runs, or the step waits for another one.
        attempt: The newest attempt, that of a fallback's action included; 0: none has started.
        since: When the attempt or the wait began; `None`: unknown, or the step waits for steps.
        until: The end of the pause before another attempt; `None`: there is none.
        waits_for: The steps that must end before it may start; the first 10.
        waits_for_count: The number of all these steps.
        cause: What else it waits for; `None`: an attempt runs, or it waits for steps.
        message: Details for a person, such as the input of a step that waits to be completed; may be empty.
        where: The current line of its running attempt. `None`: no attempt runs, it has no Python code of its own, or
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
        """Whether an attempt runs, or steps that it became."""
        return self.state is State.RUNNING and self.cause is None and self.since is not None

    @property
    def expanded(self) -> bool:
        """Whether it became several steps, the children of a list or the steps of a workflow. `message` counts them."""
        return self.running and self.where is None and (not self.attempt or self.action == "core.workflow")


@dataclass(frozen=True, slots=True)
class RunExplanation(Plain):
    """The explanation of a run: its unfinished steps, and what they wait for.

    Attributes:
        run: The run.
        time: The time of the explanation, by the server's clock.
        steps: The unfinished steps: first those that run, then those that wait for something other than steps, then
            the others; the first 500. Empty for a run that has ended.
        step_count: The number of all unfinished steps.
    """

    run: Run
    time: datetime
    steps: tuple[StepExplanation, ...]
    step_count: int
