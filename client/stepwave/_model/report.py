"""Reports: where a run's time went."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from stepwave._values.plain import Plain

from .results import State

__all__ = ["Phase", "PhaseKind", "RunReport", "StepReport", "TimeParts"]


class PhaseKind(StrEnum):
    """The kinds of time that a step spends.

    - `work`: an attempt runs. An attempt that a restart of the server interrupted counts until the server continued the
      run, as its end is unknown.
    - `waiting`: the step is ready, and waits for a limit or for a server with its action.
    - `backoff`: the step pauses between two attempts.
    - `barrier`: with `wave` scheduling, its dependencies have ended, and an earlier wave has not.
    - `planning`: in an open run, its dependencies had ended before it was added.
    """

    WORK = "work"
    WAITING = "waiting"
    BACKOFF = "backoff"
    BARRIER = "barrier"
    PLANNING = "planning"


@dataclass(frozen=True, slots=True)
class TimeParts(Plain):
    """A span of time by `PhaseKind`. The parts add up to the span exactly."""

    work: timedelta = timedelta()
    waiting: timedelta = timedelta()
    backoff: timedelta = timedelta()
    barrier: timedelta = timedelta()
    planning: timedelta = timedelta()

    @property
    def total(self) -> timedelta:
        """The whole span."""
        return self.work + self.waiting + self.backoff + self.barrier + self.planning


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
        attempts: The number of attempts started.
        begin: The beginning of its time, from the run's start.
        end: The step's end, from the run's start; for an unfinished step, the report's end.
        phases: The phases of its time, in order and without gaps.
        parts: The sums of the phases.
        slack: How much later it could have ended without delaying the run's end. Its effect on limits that it shares
            with other steps is not counted. Zero on the critical path, unless a barrier or a planner delayed the next
            step.
        on_path: Whether it is on the critical path.
        reused_from: The run whose output it reused; empty: none.
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


@dataclass(frozen=True, slots=True)
class RunReport(Plain):
    """Where a run's time went, by its events.

    For a run under way, the report covers the time up to the request, or, for an export, up to its newest event.

    The **critical path** is the chain of dependent steps that determined the run's end. It leads from the step that
    ended last (in a run under way: the one that has been under way longest) back along the dependency that each step
    waited for. The times of its steps add up to the makespan, together with the time in which an open run had nothing
    to do. If a run failed fast, was cancelled or timed out, its path leads to the attempt whose clean-up ended last.

    Attributes:
        run_id: The run.
        workflow_name: The name of the run's workflow.
        state: The run's state.
        start_time: When it began.
        end_time: When it ended; for a run under way, the end of the report.
        makespan: The time from start to end.
        path: The steps of the critical path, in order.
        path_parts: The parts of the makespan, along the path.
        totals: The sums over all steps. Steps run in parallel, so they may exceed the makespan.
        sequential: The work and backoff of all steps: the makespan had they run one after another.
        speed_up: `sequential` divided by the makespan; `None`: the makespan is zero.
        without_waiting: The makespan had no step waited for a limit: each starts as soon as its dependencies, and the
            barrier, allow it.
        without_barriers: The same, without barriers too; `without_waiting` if there were none.
        saved_by_more_parallelism: The makespan minus `without_waiting`.
        peak: The largest number of attempts in flight at once.
        max_parallelism: The workflow's limit on attempts in flight; 0: no limit.
        bounded: Whether steps waited, and the attempts in flight reached `max_parallelism`.
        steps: All steps by id, in declaration order.
    """

    run_id: str
    workflow_name: str
    state: State
    start_time: datetime
    end_time: datetime
    makespan: timedelta
    path: tuple[str, ...]
    path_parts: TimeParts
    totals: TimeParts
    sequential: timedelta
    speed_up: float | None
    without_waiting: timedelta
    without_barriers: timedelta
    saved_by_more_parallelism: timedelta
    peak: int
    max_parallelism: int
    bounded: bool
    steps: Mapping[str, StepReport]
