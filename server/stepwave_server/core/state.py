"""The state of one run: what its events add up to. Only `evolve` changes it."""

from dataclasses import dataclass, field

from .model import (
    SECOND,
    WAIT_ACTION,
    Failure,
    FailurePolicy,
    Join,
    Payload,
    Scheduling,
    Skip,
    State,
    Step,
    Workflow,
)
from .validate import Limits

__all__ = [
    "CLEANUP_GRACE",
    "CORE_VERSION",
    "DEFAULT_IDLE_TIMEOUT",
    "DEFAULT_TIMEOUT",
    "FIRST_WITH_DRAINS",
    "MAX_INTERRUPTIONS",
    "Agenda",
    "RunOptions",
    "RunState",
    "Scope",
    "StepState",
]

DEFAULT_TIMEOUT = 600 * SECOND
DEFAULT_IDLE_TIMEOUT = 600 * SECOND
CLEANUP_GRACE = 30 * SECOND

MAX_INTERRUPTIONS = 3
"""Attempts of a step that may be lost in crashes. A step that brings the server down must not do so for ever."""

CORE_VERSION = 4
"""The version of the core, recorded with every run. Changed decisions raise it, and old runs keep the old decisions.

Version 2 records the causes of failures. Version 3 knows conditions, lists, nested workflows and steps that are
completed from outside. Version 4 does not count interruptions by drains as crashes, and its messages tell hosts from
servers. All decide everything else as version 1 does.
"""

FIRST_WITH_DRAINS = 4
"""The first version of the core that tells an attempt that a drain interrupted from one that a crash ended."""


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
class Scope:
    """A graph of steps in a run: the workflow of the run, the children of a list, or a nested workflow.

    Attributes:
        workflow: The workflow. A list has the policies of the workflow that it belongs to.
        owner: The step that became this graph; `None`: it is the run's own.
        prefix: What the ids of its steps begin with.
        depth: How many workflows it is nested in.
        is_list: Its steps are the children of a list.
        limit: The maximum number of places; 0: no limit. An attempt takes a place, and a child of a list does.
        gates: The scopes with a limit in which an attempt of its steps needs a place, the innermost first.
        outer_gates: The same for an attempt in a workflow that one of its steps becomes.
        order: The order of its owner among those that wait for places.
        steps: Its steps, in declaration order.
        input: The input of a nested workflow that an action chose. `None`: it is the input of the owner.
        stopping: Why nothing of it starts any more; `None`: it goes on.
        stopped_by: The step whose end stopped it; empty: no step's.
        failed_by: The id of the first step whose failure was unhandled; empty: none.
        failed_time: The time of that failure.
        failed: Steps whose failure was unhandled.
        unfinished: Steps that have not ended.
        used: Places in use.
        queue: A heap of steps that wait for a place, with their order.
        behind_barrier: Under `WAVE`, steps whose join is met, by their level, which is still to come.
        barrier: Under `WAVE`, the level that may run.
        level_left: Under `WAVE`, by level, its steps that have not ended.
        known_input: The input, once it was put together. A cache: no part of the state.
        known_items: The items of a list, once they were read. A cache: no part of the state.
        eager: A step is ready by its own dependencies alone.
        fails_fast: The first unhandled failure ends it.
    """

    workflow: Workflow
    owner: "StepState | None" = None
    prefix: str = ""
    depth: int = 0
    is_list: bool = False
    limit: int = 0
    gates: tuple["Scope", ...] = ()
    outer_gates: tuple["Scope", ...] = ()
    order: tuple[int, ...] = ()
    steps: list["StepState"] = field(default_factory=list)
    input: Payload | None = None
    stopping: Failure | None = None
    stopped_by: str = ""
    failed_by: str = ""
    failed_time: int = 0
    failed: int = 0
    unfinished: int = 0
    used: int = 0
    queue: list[tuple[tuple[int, ...], "StepState"]] = field(default_factory=list)
    behind_barrier: dict[int, list["StepState"]] = field(default_factory=dict)
    barrier: int = 0
    level_left: list[int] = field(default_factory=list)
    known_input: Payload | None = None
    known_items: list[Payload] | None = None
    eager: bool = field(init=False)
    fails_fast: bool = field(init=False)

    def __post_init__(self) -> None:
        self.eager = self.workflow.scheduling is Scheduling.EAGER
        self.fails_fast = self.workflow.failure_policy is FailurePolicy.FAIL_FAST

    @property
    def failing(self) -> bool:
        """Whether only its clean-up still runs."""
        return bool(self.failed_by) and self.fails_fast

    @property
    def cleaning_up(self) -> bool:
        """Whether clean-up steps of it have not ended."""
        return any(step.cleans_up and not step.ended for step in self.steps)

    @property
    def step_id(self) -> str:
        """The id of its owner; empty: it is the run's own."""
        return "" if self.owner is None else self.owner.id


@dataclass(slots=True, eq=False)
class StepState:
    """The state of a step.

    Attributes:
        spec: Its definition.
        index: Its index in declaration order.
        deps: The ids of its dependencies.
        scope: The graph that it belongs to.
        id: Its id. In a nested workflow or a list it is a path.
        item: The index of its item, if it is a child of a list.
        internal: It has no action of its own: it waits to be completed, or becomes several.
        inner: The graph that it became; `None`: it has not.
        dependents: The steps that depend on it.
        level: Its topological level in its scope; -1 while an ancestor is unknown.
        wave: Its wave: its level, or the wave of the step that its scope belongs to.
        unplaced: Dependencies that have no wave.
        pending: Dependencies that have not ended.
        answered: Dependencies that succeeded.
        blame: The step that is the root cause if its `ALL` or `ANY` join fails.
        needed_by: Dependents that still need it: all but those whose `ANY` join is met.
        unneeded: The id of the step that answered in its place; empty while it is needed.
        join_met: Its join is met.
        order: Its order among the steps that wait for places.
        gates: The scopes in which it needs a place now.
        held: How many of these places it has.
        dispatched: The number of the event with which it first took a place of the run; 0: it took none. Every attempt
            gets the outputs that its dependencies had then.
        dropped: It starts no attempt any more. It will be skipped, or cancelled if it was attempted.
        interruptions: Attempts that server restarts ended; those of its fallback, once that replaces its action.
        crashes: Those of its interruptions that no drain caused.
        due: The end of the pause before its next attempt, while it backs off.
        original: The final failure of its own action, once its fallback replaces it.
        finish: The number of its `step_finished` event; 0: it has not ended.
    """

    spec: Step
    index: int
    deps: tuple[str, ...]
    scope: Scope = field(repr=False)
    id: str
    internal: bool = False
    item: int | None = None
    inner: Scope | None = field(default=None, repr=False)
    dependents: list["StepState"] = field(default_factory=list, repr=False)
    level: int = -1
    wave: int = -1
    unplaced: int = 0
    pending: int = 0
    answered: int = 0
    blame: "StepState | None" = field(default=None, repr=False)
    needed_by: int = 0
    unneeded: str = ""
    join_met: bool = False
    order: tuple[int, ...] = ()
    gates: tuple[Scope, ...] = field(default=(), repr=False)
    held: int = 0
    dispatched: int = 0
    dropped: bool = False
    state: State = State.PENDING
    attempt: int = 0
    interruptions: int = 0
    crashes: int = 0
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
    def admitted(self) -> bool:
        """Whether it may still begin."""
        scope = self.scope
        begins = not scope.failed_by or not scope.fails_fast or self.cleans_up
        return begins and scope.stopping is None and not self.unneeded

    @property
    def waits(self) -> bool:
        """Whether it is completed from outside. The core starts its attempts itself."""
        return self.spec.action == WAIT_ACTION and self.spec.for_each is None and self.original is None

    @property
    def needs_attempt(self) -> bool:
        """Whether the engine invokes it. Otherwise the core runs it: it waits, or it becomes several."""
        return not self.internal or self.original is not None

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
        root: The graph of its workflow.
        steps: Every step by id, in declaration order.
        unknown: By id of a step that is still to come, the steps that depend on it.
        edges: Dependencies of all its steps; counted in an open run only.
        sequence: The number of the newest event.
        time: The time of the newest event.
        started: The events of its plan are complete.
        open: Steps may still be added.
        finished: The end state; `None` while it lasts.
        running: Steps with a running attempt.
        dispatched: Steps that have all their places, in order: their attempts run, or wait for admission.
        backing_off: Steps that pause before another attempt. They have no place.
        queued: Steps that wait for a place of a scope.
        arrivals: Steps that have become ready, so far.
        stirred: Scopes that have a free place and steps that wait for one. Empty between events.
        reused: Outputs of an earlier run, by id of steps that are not known yet.
        reused_from: That run.
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
    root: Scope
    steps: dict[str, StepState] = field(default_factory=dict)
    unknown: dict[str, list[StepState]] = field(default_factory=dict)
    edges: int = 0
    sequence: int = 0
    time: int = 0
    start_time: int = 0
    deadline: int | None = None
    started: bool = False
    open: bool = False
    finished: State | None = None
    running: dict[str, StepState] = field(default_factory=dict)
    dispatched: dict[str, StepState] = field(default_factory=dict)
    backing_off: dict[str, StepState] = field(default_factory=dict)
    queued: dict[str, StepState] = field(default_factory=dict)
    arrivals: int = 0
    stirred: list[Scope] = field(default_factory=list)
    reused: dict[str, Payload] = field(default_factory=dict)
    reused_from: str = ""
    dropped: list[int] = field(default_factory=list)
    by_index: list[StepState] = field(default_factory=list)
    wave_left: list[int] = field(default_factory=list)
    waves_open: set[int] = field(default_factory=set)
    waves_done: set[int] = field(default_factory=set)
    counts: list[int] = field(default_factory=lambda: [0] * len(State))
    failures: list[Failure] = field(default_factory=list)
    failure_count: int = 0

    @property
    def stopping(self) -> Failure | None:
        """Why the run was cancelled or timed out; `None` if it was not."""
        return self.root.stopping

    @property
    def failing(self) -> bool:
        """Whether only clean-up still runs."""
        return self.root.failing

    @property
    def idle(self) -> bool:
        """Whether it only waits for steps to be added: it is open, and no step runs or waits for a place."""
        return self.open and self.started and not (self.dispatched or self.queued or self.counts[State.RUNNING - 1])


@dataclass(slots=True)
class Agenda:
    """What events leave for `decide` to do. `evolve` adds to it, and `decide` works it off before it returns.

    It is no part of the run's state: `resume` finds the same work in a state that was folded from events.

    Attributes:
        to_invoke: Steps that need an attempt: they took a place of the run.
        to_interrupt: Steps whose running attempt may not go on.
        to_close: Steps all of whose nested steps have ended.
        to_clean_up: Scopes that began to fail.
        to_time: Steps that became ready and have a total timeout.
    """

    to_invoke: list[StepState] = field(default_factory=list)
    to_interrupt: list[StepState] = field(default_factory=list)
    to_close: list[StepState] = field(default_factory=list)
    to_clean_up: list[Scope] = field(default_factory=list)
    to_time: list[StepState] = field(default_factory=list)
