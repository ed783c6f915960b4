"""Where a run's time went: what a report says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from stepwave._values.plain import Plain

from .results import State

__all__ = ["Phase", "PhaseKind", "RunReport", "StepReport", "TimeParts"]


class PhaseKind(StrEnum):
    """What a step's time goes to.

    - `work`: an attempt runs. One that a restart of the server interrupted counts until the server took it up again:
      nobody knows when it ended.
    - `waiting`: it may start, and has no place yet, be it for a limit of the run, of the server, or of what it calls,
      or because no server has its action.
    - `backoff`: the pause between two attempts.
    - `barrier`: under `wave` scheduling, its dependencies have ended, and an earlier wave has not.
    - `planning`: in an open run, its dependencies have ended, and it was still to be added.
    """

    WORK = "work"
    WAITING = "waiting"
    BACKOFF = "backoff"
    BARRIER = "barrier"
    PLANNING = "planning"


@dataclass(frozen=True, slots=True)
class TimeParts(Plain):
    """A span of time by what it went to. The parts add up to it exactly; `PhaseKind` says what each means."""

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
    """A span in which a step's time went to one thing, counted from the run's start; never empty."""

    kind: PhaseKind
    start: timedelta
    end: timedelta


@dataclass(frozen=True, slots=True)
class StepReport(Plain):
    """Where a step's time went.

    Its time begins when the last dependency ended that it had to wait for (for a join `any`, the first that succeeded),
    at the run's start if it has none, and lasts to its end. A step that nothing held up and that never started, as one
    that was skipped because a dependency failed, has none; nor has one that was taken over from an earlier run.

    Attributes:
        step_id: The step.
        action: What it does.
        state: What has become of it.
        wave: Its topological level, from 0; -1 if that is not known yet, in an open run.
        attempts: How many attempts were started.
        begin: When its time begins, from the run's start.
        end: When it ended, from the run's start; of a step that has not ended, the report's end.
        phases: What its time went to, in order and without gaps.
        parts: The same, added up.
        slack: How much later it could have ended without making the run longer, all else being as it was. What its
            place would have been missed by others is not counted. Zero for the steps of the critical path, unless a
            barrier or a planner made the next one wait.
        on_path: Whether it is on the critical path.
        reused_from: The run from which its output was taken over; empty if it answered itself.
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

    Of a run under way it is a report so far, as if all had ended then: up to when its server was asked, or, of an
    export, up to its newest event.

    The **critical path** is the chain of steps, each depending on the one before, that the run's end came from: from
    the step that ended last (of a run under way: the one that has been under way for longest) back along the
    dependencies that each had to wait for. What no step of the path accounts for is the time in which an open run had
    nothing to do; so the times of its steps, and that, add up to the makespan. A run that failed fast, was cancelled or
    timed out ended with the attempt whose clean-up ended last, and that is where its path leads.

    Attributes:
        run_id: The run.
        workflow_name: The workflow that it executes.
        state: What has become of it.
        start_time: When it began.
        end_time: When it ended; of a run under way, up to when it is reported.
        makespan: The time from its start to its end.
        path: The steps of the critical path, in order.
        path_parts: What the makespan went to, along the path.
        totals: What the time of all steps went to, added up; the steps ran side by side, so this may exceed the
            makespan by far.
        sequential: The work and the pauses between attempts of all steps, added up: how long they would have taken one
            after the other.
        speed_up: How many times the makespan that is; `None` if the makespan is zero.
        without_waiting: The makespan had no step waited for a place: every step begins the moment its dependencies, and
            the barrier, allow it, and takes its own work and pauses.
        without_barriers: The makespan, moreover, without barriers; as `without_waiting` if there were none.
        saved_by_more_parallelism: How much shorter the run would have been without waiting.
        peak: How many attempts were in flight at once, at most.
        max_parallelism: How many of its attempts the workflow allows at once; 0: any number.
        bounded: Whether steps waited, and the run had as many attempts in flight as the workflow allows.
        steps: Every step by id, in the order in which they were declared.
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
