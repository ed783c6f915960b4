"""The parts of reports: where a step's time went."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from stepwave._values.plain import Plain

from .results import State

__all__ = ["Phase", "PhaseKind", "StepReport", "TimeParts"]


class PhaseKind(StrEnum):
    """The kinds of time that a step spends.

    - `work`: an attempt runs. An attempt that a restart of the server interrupted counts until the server continued the
      run, as its end is unknown.
    - `waiting`: the step is ready, and waits for a limit or for a server with its action.
    - `backoff`: the step pauses between two attempts.
    - `barrier`: with `wave` scheduling, its dependencies have ended, and an earlier wave has not.
    - `planning`: in an open run, its dependencies had ended before it was added.
    - `external`: it waits to be completed from outside, as an approval does.
    - `nested`: it became several steps, and these have the time.
    """

    WORK = "work"
    WAITING = "waiting"
    BACKOFF = "backoff"
    BARRIER = "barrier"
    PLANNING = "planning"
    EXTERNAL = "external"
    NESTED = "nested"


@dataclass(frozen=True, slots=True)
class TimeParts(Plain):
    """A span of time by `PhaseKind`. The parts add up to the span exactly."""

    work: timedelta = timedelta()
    waiting: timedelta = timedelta()
    backoff: timedelta = timedelta()
    barrier: timedelta = timedelta()
    planning: timedelta = timedelta()
    external: timedelta = timedelta()
    nested: timedelta = timedelta()

    @property
    def total(self) -> timedelta:
        """The whole span."""
        return self.own + self.nested

    @property
    def own(self) -> timedelta:
        """The span without the time of the steps that a step became."""
        return self.work + self.waiting + self.backoff + self.barrier + self.planning + self.external


@dataclass(frozen=True, slots=True)
class Phase(Plain):
    """A span of a step's time of one kind, from the run's start; never empty."""

    kind: PhaseKind
    start: timedelta
    end: timedelta


@dataclass(frozen=True, slots=True)
class StepReport(Plain):
    """Where a step's time went.

    The step's time begins when its last dependency ended (for a join `any`: when the first one succeeded), or at the
    run's start without dependencies. It ends with the step. A step that was skipped when its dependencies ended has no
    time, and neither has one whose output was reused from an earlier run.

    Attributes:
        step_id: The step.
        action: The step's action.
        state: The step's state.
        wave: The step's topological level, from 0; -1: not known yet, in an open run.
        attempts: The number of attempts started, with that of its fallback's action.
        begin: The beginning of its time, from the run's start.
        end: The step's end, from the run's start; for an unfinished step, the report's end.
        phases: The phases of its time, in order and without gaps.
        parts: The sums of the phases.
        slack: How much later it could have ended without delaying the run's end. Its effect on limits that it shares
            with other steps is not counted. Zero on the critical path, unless a barrier or a planner delayed the next
            step.
        on_path: Whether it is on the critical path.
        reused_from: The run whose output it reused; empty: none.
        item_count: The number of children of a list; `None`: it has no list, or has not begun.
        max_parallelism: The list's own limit on children in flight; 0: none.
    """

    step_id: str
    action: str
    state: State
    wave: int
    attempts: int
    begin: timedelta
    end: timedelta
    phases: tuple[Phase, ...]
    parts: TimeParts
    slack: timedelta
    on_path: bool
    reused_from: str = ""
    item_count: int | None = None
    max_parallelism: int = 0

    @property
    def outermost(self) -> str:
        """The step of the run's own workflow that it is, or is within: for `pages[3]/fetch`, `pages`."""
        return self.step_id.partition("/")[0].partition("[")[0]

    @property
    def in_list(self) -> bool:
        """Whether it is a child of a list, or within one."""
        return "[" in self.step_id
