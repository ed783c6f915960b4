"""The state of one run: what its events add up to. Only `evolve` changes it."""

from collections import deque
from dataclasses import dataclass, field

from .model import SECOND, Failure, FailurePolicy, Join, Payload, Scheduling, Skip, State, Step, Workflow
from .validate import Limits

__all__ = [
    "CLEANUP_GRACE",
    "CORE_VERSION",
    "DEFAULT_TIMEOUT",
    "MOST_INTERRUPTIONS",
    "Agenda",
    "RunOptions",
    "RunState",
    "StepState",
]

DEFAULT_TIMEOUT = 600 * SECOND
CLEANUP_GRACE = 30 * SECOND

MOST_INTERRUPTIONS = 3
"""Attempts that a step may lose to restarts of the server: one that brings it down must not do so for ever."""

CORE_VERSION = 1
"""Recorded with every run; a change of the core's decisions raises it and keeps the old ones for old runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run is given beside its workflow: recorded with it, so that its decisions can be made again.

    Attributes:
        open: Steps may be added while it lasts.
        step_timeout: Nanoseconds an attempt may take, unless its step says otherwise.
        limits: Bounds of its graph.
        seed: What its draws are made of, besides step and attempt: `info.seed_of` its key.
        version: The version of the core that decides.
        max_payload_bytes: Bytes that an input may have when it is put together; `None`: an earlier version began the
            run and did not record it, so the bound of the evaluator applies.
    """

    open: bool = False
    step_timeout: int = DEFAULT_TIMEOUT
    limits: Limits = field(default_factory=Limits)
    seed: str = ""
    version: int = CORE_VERSION
    max_payload_bytes: int | None = None


@dataclass(slots=True, eq=False)
class StepState:
    """What has become of a step.

    Attributes:
        spec: Its definition.
        index: Its place in declaration order.
        deps: Its dependencies' ids.
        dependents: The steps that wait for it.
        wave: Its wave; -1 while an ancestor is unknown.
        unplaced: How many dependencies have no wave.
        pending: How many dependencies have not ended.
        answered: How many dependencies succeeded.
        blame: The step because of which its `ALL` or `ANY` join may fail, itself a root cause.
        needed_by: How many dependents still need it: all but those whose `ANY` join is met.
        unneeded: The id of the step that answered in its stead; empty while it is needed.
        join_met: Its join is met.
        dispatched: The number of the event with which it first took one of the run's places; 0: it has taken none. What
            its dependencies had answered then is what every attempt gets.
        dropped: It will be skipped, or cancelled if it has been attempted.
        interruptions: How many of its attempts were lost by restarts of the server; of its fallback's, once that
            stands in.
        due: When it may be attempted again, while it backs off.
        original: Why its own action failed for good, once its fallback stands in.
        finish: The number of its `step_finished` event; 0: it has not ended.
    """

    spec: Step
    index: int
    deps: tuple[str, ...]
    dependents: list["StepState"] = field(default_factory=list)
    wave: int = -1
    unplaced: int = 0
    pending: int = 0
    answered: int = 0
    blame: "StepState | None" = None
    needed_by: int = 0
    unneeded: str = ""
    join_met: bool = False
    dispatched: int = 0
    dropped: bool = False
    state: State = State.PENDING
    attempt: int = 0
    interruptions: int = 0
    due: int = 0
    original: Failure | None = None
    deadline: int = 0
    output: Payload | None = None
    failure: Failure | None = None
    skip: Skip | None = None
    ready_time: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    abandoned: bool = False
    finish: int = 0

    @property
    def ended(self) -> bool:
        """Whether it has come to an end state."""
        return self.end_time is not None

    @property
    def join_failed(self) -> bool:
        """Whether its dependencies, which have all ended, did not meet its join."""
        return self.blame is not None and not (self.answered and self.spec.join is Join.ANY)

    @property
    def cleans_up(self) -> bool:
        """Whether it still runs after a fail-fast failure."""
        return self.spec.join is Join.ALL_DONE

    @property
    def total_deadline(self) -> int | None:
        """When its total timeout passes; `None`: it has none, or its fallback stands in, or it is not ready."""
        if self.spec.total_timeout is None or self.ready_time is None or self.original is not None:
            return None
        return self.ready_time + self.spec.total_timeout


@dataclass(slots=True, eq=False)
class RunState:
    """The state of one run.

    Attributes:
        workflow: The definition, without steps added later.
        input: The run's input.
        options: What it was given beside.
        steps: Every step by id, in declaration order.
        unknown: For ids that steps refer to and that are still to come, those steps.
        edges: How many dependencies its steps name; counted in an open run only.
        sequence: The number of the newest event.
        time: When it happened.
        started: The whole plan has been told.
        open: Steps may still be added.
        stopping: Why the run was cancelled or timed out; `None` if it was not.
        failed_by: The id of the first step whose failure was unhandled; empty if there is none.
        failed_time: When that was.
        finished: The end state; `None` while it lasts.
        unfinished: How many steps have not ended.
        running: Steps with a running attempt.
        dispatched: Steps that take one of the run's places, in order: their attempts run or are in admission's hands.
        backing_off: Steps that pause before another attempt. They take no place.
        ready: Steps that wait for such a place.
        behind_barrier: Under `WAVE`, steps whose join is met, by their wave, which is still to come.
        barrier: Under `WAVE`, the wave that may run.
        dropped: A heap of the indexes of steps to skip.
        by_index: Every step by its index.
        wave_left: For every wave, how many of its steps have not ended.
        waves_open: Waves that began and did not finish.
        waves_done: Those of them whose steps have all ended: they finish as soon as no more steps can be added.
        counts: How many steps are in which state, by `State.value - 1`.
        failures: The first failures.
        failure_count: How many there were in all.
    """

    workflow: Workflow
    input: Payload
    options: RunOptions
    steps: dict[str, StepState] = field(default_factory=dict)
    unknown: dict[str, list[StepState]] = field(default_factory=dict)
    edges: int = 0
    sequence: int = 0
    time: int = 0
    start_time: int = 0
    deadline: int | None = None
    started: bool = False
    open: bool = False
    stopping: Failure | None = None
    failed_by: str = ""
    failed_time: int = 0
    finished: State | None = None
    unfinished: int = 0
    running: dict[str, StepState] = field(default_factory=dict)
    dispatched: dict[str, StepState] = field(default_factory=dict)
    backing_off: dict[str, StepState] = field(default_factory=dict)
    ready: deque[StepState] = field(default_factory=deque)
    behind_barrier: dict[int, list[StepState]] = field(default_factory=dict)
    barrier: int = 0
    dropped: list[int] = field(default_factory=list)
    by_index: list[StepState] = field(default_factory=list)
    wave_left: list[int] = field(default_factory=list)
    waves_open: set[int] = field(default_factory=set)
    waves_done: set[int] = field(default_factory=set)
    counts: list[int] = field(default_factory=lambda: [0] * len(State))
    failures: list[Failure] = field(default_factory=list)
    failure_count: int = 0

    @property
    def eager(self) -> bool:
        """Whether a step is ready by its own dependencies alone."""
        return self.workflow.scheduling is Scheduling.EAGER

    @property
    def fails_fast(self) -> bool:
        """Whether the first unhandled failure ends the run."""
        return self.workflow.failure_policy is FailurePolicy.FAIL_FAST

    @property
    def failing(self) -> bool:
        """Whether only clean-up still runs."""
        return bool(self.failed_by) and self.fails_fast

    def admits(self, step: StepState) -> bool:
        """Say whether the step may still begin."""
        return self.stopping is None and (not self.failing or step.cleans_up) and not step.unneeded


@dataclass(slots=True)
class Agenda:
    """What events leave for `decide` to do. `evolve` adds to it, and `decide` works it off before it returns.

    It is no part of the run's state: `resume` finds the same work in a state that was folded from events.

    Attributes:
        to_invoke: Steps that need an attempt: they took a place of the run.
        to_interrupt: Steps whose running attempt may not go on.
        to_time: Steps that became ready and have a total timeout.
    """

    to_invoke: list[StepState] = field(default_factory=list)
    to_interrupt: list[StepState] = field(default_factory=list)
    to_time: list[StepState] = field(default_factory=list)
