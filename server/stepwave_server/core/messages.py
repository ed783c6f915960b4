"""Inputs, events, requests and commands of a run.

Events are the truth: every decision is in an event. The number of an event is its place among the run's events, from 1.
"""

from typing import Literal, NamedTuple, TypeAlias

from .model import Failure, Payload, Skip, State, Step, Workflow, immutable

__all__ = [
    "AddSteps",
    "AttemptExpanded",
    "AttemptFailed",
    "AttemptInterrupted",
    "AttemptLost",
    "AttemptStarted",
    "AttemptSucceeded",
    "AttemptTimedOut",
    "CancelRequested",
    "Command",
    "Event",
    "Finish",
    "Input",
    "Interrupt",
    "Invoke",
    "RunFinished",
    "RunStarted",
    "RunStopping",
    "StartTimer",
    "Started",
    "StepCompleted",
    "StepExpanded",
    "StepFinished",
    "StepReady",
    "StepRetrying",
    "StepStarted",
    "StepStopping",
    "StepsAdded",
    "StepsReused",
    "StopRequested",
    "Timer",
    "TimerFired",
    "Wave",
    "WaveFinished",
    "WaveStarted",
]


class Timer(NamedTuple):
    """The purpose of a timer.

    It bounds a step in all (`total`), the pause after an attempt (`backoff`), a step that the core runs itself (`own`),
    the run, its clean-up, or how long an open run may be `idle`. With a step, a clean-up is that of what it became. The
    timeout of an attempt has no timer here: see `StepStarted.deadline`.
    """

    kind: Literal["total", "backoff", "run", "cleanup", "own", "idle"]
    step_id: str = ""
    attempt: int = 0


# Inputs: the engine feeds them to the core.


@immutable
class Started:
    """The run may begin. It is always the first input.

    `reused` are outputs of an earlier run, by step id, each after those of its dependencies. `reused_from` is that run.
    """

    reused: tuple[tuple[str, Payload], ...] = ()
    reused_from: str = ""


@immutable
class AttemptStarted:
    """Admission gave an attempt a permit: it starts now."""

    step_id: str
    attempt: int


@immutable
class AttemptSucceeded:
    """An attempt succeeded."""

    step_id: str
    attempt: int
    output: Payload


@immutable
class AttemptExpanded:
    """An attempt of `core.workflow` gave the workflow that its step shall run, and its input."""

    step_id: str
    attempt: int
    workflow: Workflow
    input: Payload


@immutable
class StepCompleted:
    """Someone outside completes a step of `core.wait`. Either `output` or `failure` is given.

    `caller` is who does; empty: not known.
    """

    step_id: str
    output: Payload | None = None
    failure: Failure | None = None
    caller: str = ""


@immutable
class AttemptFailed:
    """An attempt failed by itself."""

    step_id: str
    attempt: int
    failure: Failure


@immutable
class AttemptInterrupted:
    """An interrupted attempt ended without an answer, or its grace is over (`abandoned`).

    `failure` is the one of the `Interrupt` command. Its details may say what the action did instead of ending.
    """

    step_id: str
    attempt: int
    failure: Failure
    abandoned: bool = False


@immutable
class AttemptLost:
    """A running attempt was lost, with its server or by a defect. Whether its action had its effect is unknown.

    `drained`: its server stopped in order, and did not wait for it any longer. `hosted`: it ran on a host, which was
    lost or stopped in the server's stead.
    """

    step_id: str
    attempt: int
    drained: bool = False
    hosted: bool = False


@immutable
class AttemptTimedOut:
    """The deadline of a running attempt has passed."""

    step_id: str
    attempt: int


@immutable
class TimerFired:
    """A timer is due."""

    timer: Timer


@immutable
class CancelRequested:
    """A caller cancels the run. `caller` is who does; empty: not known."""

    reason: str = ""
    caller: str = ""


@immutable
class StopRequested:
    """The server ends the run, with this failure."""

    failure: Failure


@immutable
class AddSteps:
    """A planner adds steps to an open run. `seal`: they are the last ones."""

    steps: tuple[Step, ...]
    seal: bool = False


Input: TypeAlias = (
    Started
    | AttemptStarted
    | AttemptSucceeded
    | AttemptExpanded
    | AttemptFailed
    | AttemptInterrupted
    | AttemptLost
    | AttemptTimedOut
    | TimerFired
    | CancelRequested
    | StopRequested
    | AddSteps
    | StepCompleted
)

# Events.


@immutable
class Wave:
    """A topological level, or a part of one. Steps are in declaration order."""

    index: int
    step_ids: tuple[str, ...]


@immutable
class RunStarted:
    """The run began. A long plan takes several of these events, all but the last with `more`."""

    time: int
    waves: tuple[Wave, ...]
    more: bool
    step_count: int
    deadline: int | None
    open: bool


@immutable
class WaveStarted:
    """The first step of a wave starts next."""

    time: int
    wave: int


@immutable
class StepStarted:
    """An attempt starts.

    The engine watches the `deadline` of a running attempt, and feeds `AttemptTimedOut` when it passes. `None`: the step
    waits to be completed, and has no timeout. No action runs for a step that waits.
    """

    time: int
    step_id: str
    action: str
    wave: int
    attempt: int
    deadline: int | None
    ready_time: int


@immutable
class StepRetrying:
    """An attempt failed, and another one follows at `next_time` or later.

    `fallback`: the step's fallback follows. Then `attempt` is 0 if the step failed before its first attempt.
    `abandoned`: the attempt did not end within its grace.
    """

    time: int
    step_id: str
    attempt: int
    failure: Failure
    next_time: int
    fallback: bool = False
    abandoned: bool = False


@immutable
class StepReady:
    """The pause before an attempt is over. It starts when it gets a place."""

    time: int
    step_id: str
    attempt: int


@immutable
class StepFinished:
    """A step ended, in whatever state. There is exactly one for every step.

    `reused_from` is the run that its output was taken from; empty: the step ran itself. `original` is the final failure
    of the step's own action, if its fallback replaced it. `completed_by` is who gave its output from outside.
    """

    time: int
    step_id: str
    action: str
    state: State
    wave: int
    attempts: int
    output: Payload | None = None
    failure: Failure | None = None
    skip: Skip | None = None
    ready_time: int | None = None
    start_time: int | None = None
    abandoned: bool = False
    reused_from: str = ""
    original: Failure | None = None
    completed_by: str = ""


@immutable
class WaveFinished:
    """Every step of a wave has ended."""

    time: int
    wave: int


@immutable
class StepsAdded:
    """Steps were added, and waves became known by that."""

    time: int
    steps: tuple[Step, ...]
    waves: tuple[Wave, ...]
    sealed: bool


@immutable
class StepExpanded:
    """A step became several: the children of its list, or the steps of a workflow.

    `item_count` is the number of its children; `None`: it has no list. `workflow` and `input` are those that its action
    chose; `None`: the step has its own workflow, and its input is put together as usual.
    """

    time: int
    step_id: str
    wave: int
    action: str
    ready_time: int
    item_count: int | None = None
    workflow: Workflow | None = None
    input: Payload | None = None


@immutable
class StepStopping:
    """An expanded step ends early, with this failure: none of its steps starts any more."""

    time: int
    step_id: str
    failure: Failure


@immutable
class StepsReused:
    """Outputs of an earlier run were taken over, by step id, for steps that are not known yet."""

    time: int
    run_id: str
    outputs: tuple[tuple[str, Payload], ...]


@immutable
class RunStopping:
    """The run was cancelled, stopped or timed out: nothing more starts.

    `cancel_reason` is the reason that a caller gave for cancelling, and `cancelled_by` is who that was.
    """

    time: int
    failure: Failure
    cancel_reason: str = ""
    cancelled_by: str = ""


@immutable
class RunFinished:
    """The run ended. It is the last event.

    `outputs` are those that fit into one message; `omitted` are the ids of the first ones that did not. `counts` is by
    `State`, in its order.
    """

    time: int
    state: State
    start_time: int
    outputs: tuple[tuple[str, Payload], ...]
    omitted: tuple[str, ...]
    omitted_count: int
    failures: tuple[Failure, ...]
    failure_count: int
    counts: tuple[int, ...]


Event: TypeAlias = (
    RunStarted
    | WaveStarted
    | StepStarted
    | StepRetrying
    | StepReady
    | StepFinished
    | StepExpanded
    | StepStopping
    | WaveFinished
    | StepsAdded
    | StepsReused
    | RunStopping
    | RunFinished
)

# Requests: what the engine may do at once. A request has no effect of its own: the start of an attempt is an event.


@immutable
class Invoke:
    """A request for a place: the attempt is ready, and starts when admission lets it.

    It replaces an earlier request for the same step whose attempt has not started. `carried` is the input if that is
    small, else `None`: `inputs.payload_of` gives the input in both cases.
    """

    step_id: str
    attempt: int
    action: str
    carried: Payload | None
    fallback: bool = False


# Commands: what the engine shall do, once the events beside them are committed.


@immutable
class StartTimer:
    """Feed `TimerFired(timer)` at `due`, unless the step or run that it bounds has ended."""

    timer: Timer
    due: int


@immutable
class Interrupt:
    """End an attempt: withdraw it from admission, or cancel it and await its clean-up.

    Then feed `AttemptInterrupted` with this failure; or the answer, if the attempt gave one all the same. An attempt
    that is being interrupted keeps its first failure. One that was never invoked needs nothing.
    """

    step_id: str
    attempt: int
    failure: Failure


@immutable
class Finish:
    """The run has ended: free its resources."""


Command: TypeAlias = StartTimer | Interrupt | Finish
