"""The state of one run: what its events add up to. Only `evolve` changes it."""

from collections import deque
from dataclasses import dataclass, field

from .model import SECOND, Failure, FailurePolicy, Join, Payload, Scheduling, Skip, State, Step, Workflow
from .validate import Limits

__all__ = [
    "CLEANUP_GRACE",
    "CORE_VERSION",
    "DEFAULT_IDLE_TIMEOUT",
    "DEFAULT_TIMEOUT",
    "MAX_INTERRUPTIONS",
    "Agenda",
    "RunOptions",
    "RunState",
    "StepState",
]

DEFAULT_TIMEOUT = 600 * SECOND
DEFAULT_IDLE_TIMEOUT = 600 * SECOND
CLEANUP_GRACE = 30 * SECOND

MAX_INTERRUPTIONS = 3
"""Attempts of a step that server restarts may end. A step that brings the server down must not do so for ever."""

CORE_VERSION = 2
"""The version of the core, recorded with every run. Changed decisions raise it, and old runs keep the old decisions.

Version 2 records the causes of failures. It decides as version 1 does.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of a run. They are recorded with it, so its decisions can be made again.

    Attributes:
        open: Steps may be added while it lasts.
        step_timeout: The default timeout of an attempt, in nanoseconds.
        limits: Bounds of its graph.
        seed: The seed of its random draws: `info.seed_of` its key.
        version: The version of the core that decides.
        max_payload_bytes: The bound of an input that is put together, in bytes; `None`: an earlier version began the
            run and recorded no bound, so that of the evaluator applies.
        idle_timeout: The time that it may be idle while it is open, in nanoseconds; `None`: no limit.
    """

    open: bool = False
    step_timeout: int = DEFAULT_TIMEOUT
    limits: Limits = field(default_factory=Limits)
    seed: str = ""
    version: int = CORE_VERSION
    max_payload_bytes: int | None = None
    idle_timeout: int | None = None


@dataclass(slots=True, eq=False)
class StepState:
    """The state of a step.

    Attributes:
        spec: Its definition.
        index: Its index in declaration order.
        deps: The ids of its dependencies.
        dependents: The steps that depend on it.
        wave: Its wave; -1 while an ancestor is unknown.
        unplaced: Dependencies that have no wave.
        pending: Dependencies that have not ended.
        answered: Dependencies that succeeded.
        blame: The step that is the root cause if its `ALL` or `ANY` join fails.
        needed_by: Dependents that still need it: all but those whose `ANY` join is met.
        unneeded: The id of the step that answered in its place; empty while it is needed.
        join_met: Its join is met.
        dispatched: The number of the event with which it first took a place of the run; 0: it took none. Every attempt
            gets the outputs that its dependencies had then.
        dropped: It starts no attempt any more. It will be skipped, or cancelled if it was attempted.
        interruptions: Attempts that server restarts ended; those of its fallback, once that replaces its action.
        due: The end of the pause before its next attempt, while it backs off.
        original: The final failure of its own action, once its fallback replaces it.
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
        """Whether it has ended."""
        return self.end_time is not None

    @property
    def join_failed(self) -> bool:
        """Whether all its dependencies have ended without meeting its join."""
        return self.blame is not None and not (self.answered and self.spec.join is Join.ANY)

    @property
    def cleans_up(self) -> bool:
        """Whether it still runs after a fail-fast failure."""
        return self.spec.join is Join.ALL_DONE

    @property
    def total_deadline(self) -> int | None:
        """The end of its total timeout; `None`: it has none, is not ready, or its fallback replaced its action."""
        if self.spec.total_timeout is None or self.ready_time is None or self.original is not None:
            return None
        return self.ready_time + self.spec.total_timeout


@dataclass(slots=True, eq=False)
class RunState:
    """The state of one run.

    Attributes:
        workflow: The definition, without steps added later.
        input: The run's input.
        options: Its options.
        steps: Every step by id, in declaration order.
        unknown: By id of a step that is still to come, the steps that depend on it.
        edges: Dependencies of all its steps; counted in an open run only.
        sequence: The number of the newest event.
        time: The time of the newest event.
        started: The events of its plan are complete.
        open: Steps may still be added.
        stopping: Why the run was cancelled or timed out; `None` if it was not.
        failed_by: The id of the first step whose failure was unhandled; empty: none.
        failed_time: The time of that failure.
        finished: The end state; `None` while it lasts.
        unfinished: Steps that have not ended.
        running: Steps with a running attempt.
        dispatched: Steps that have a place of the run, in order: their attempts run, or wait for admission.
        backing_off: Steps that pause before another attempt. They have no place.
        ready: Steps that wait for a place of the run.
        behind_barrier: Under `WAVE`, steps whose join is met, by their wave, which is still to come.
        barrier: Under `WAVE`, the wave that may run.
        dropped: A heap of the indexes of dropped steps that have not ended.
        by_index: Every step by its index.
        wave_left: By wave, its steps that have not ended.
        waves_open: Waves that have started and not finished.
        waves_done: Waves among them whose steps have all ended. They finish when no more steps can be added.
        counts: Steps by state, at `State.value - 1`.
        failures: The first failures.
        failure_count: Failures in all.
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

    @property
    def idle(self) -> bool:
        """Whether it only waits for steps to be added: it is open, and no step runs or waits for a place."""
        return self.open and self.started and not (self.dispatched or self.ready or self.counts[State.RUNNING - 1])

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
