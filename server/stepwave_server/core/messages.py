"""What goes into a run and what comes out: inputs, events, commands, and timers.

Events are the truth: every decision stands in one. An event's number is its place in the run's list, from 1.
"""

from typing import Literal, NamedTuple, TypeAlias

from .model import Failure, Payload, Skip, State, Step, immutable

__all__ = [
    "AddSteps",
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
    "StepFinished",
    "StepReady",
    "StepRetrying",
    "StepStarted",
    "StepsAdded",
    "StopRequested",
    "Timer",
    "TimerFired",
    "Wave",
    "WaveFinished",
    "WaveStarted",
]


class Timer(NamedTuple):
    """The purpose of a timer.

    It bounds a step in all (`total`), the pause after an attempt (`backoff`), the run, or its clean-up. The timeout of
    an attempt has no timer here: see `StepStarted.deadline`.
    """

    kind: Literal["total", "backoff", "run", "cleanup"]
    step_id: str = ""
    attempt: int = 0


# Inputs: what the engine tells the core.


@immutable
class Started:
    """The run may begin. Always the first input.

    `reused` are outputs of steps that an earlier run has answered, by step id, after those of their dependencies;
    `reused_from` is that run.
    """

    reused: tuple[tuple[str, Payload], ...] = ()
    reused_from: str = ""


@immutable
class AttemptStarted:
    """Admission let an attempt in: it starts now."""

    step_id: str
    attempt: int


@immutable
class AttemptSucceeded:
    """An attempt answered."""

    step_id: str
    attempt: int
    output: Payload


@immutable
class AttemptFailed:
    """An attempt ended without an answer, by its own fault."""

    step_id: str
    attempt: int
    failure: Failure


@immutable
class AttemptInterrupted:
    """An interrupted attempt has ended without an answer, or its grace is over (`abandoned`).

    `failure` is the one that the `Interrupt` command carried; its details may say what the action did instead.
    """

    step_id: str
    attempt: int
    failure: Failure
    abandoned: bool = False


@immutable
class AttemptLost:
    """A running attempt ended with the server that ran it; whether it did what it was to do is not known."""

    step_id: str
    attempt: int


@immutable
class AttemptTimedOut:
    """The deadline of a running attempt has passed."""

    step_id: str
    attempt: int


@immutable
class TimerFired:
    """A timer's due time has come."""

    timer: Timer


@immutable
class CancelRequested:
    """Somebody wants the run to end."""

    reason: str = ""


@immutable
class StopRequested:
    """The server ends the run, which fails with this failure."""

    failure: Failure


@immutable
class AddSteps:
    """A planner adds steps to an open run; `seal`: they are the last."""

    steps: tuple[Step, ...]
    seal: bool = False


Input: TypeAlias = (
    Started
    | AttemptStarted
    | AttemptSucceeded
    | AttemptFailed
    | AttemptInterrupted
    | AttemptLost
    | AttemptTimedOut
    | TimerFired
    | CancelRequested
    | StopRequested
    | AddSteps
)

# Events: what is true from now on.


@immutable
class Wave:
    """A topological level, or a part of one, in declaration order."""

    index: int
    step_ids: tuple[str, ...]


@immutable
class RunStarted:
    """The run began. A long plan spans several, all but the last with `more`."""

    time: int
    waves: tuple[Wave, ...]
    more: bool
    step_count: int
    deadline: int | None
    open: bool


@immutable
class WaveStarted:
    """The first step of a wave is about to start."""

    time: int
    wave: int


@immutable
class StepStarted:
    """An attempt starts.

    Whoever runs the attempt watches its `deadline`, and feeds `AttemptTimedOut` when that passes.
    """

    time: int
    step_id: str
    action: str
    wave: int
    attempt: int
    deadline: int
    ready_time: int


@immutable
class StepRetrying:
    """An attempt failed, and another follows, not before `next_time`.

    `fallback`: what follows is the step's fallback; `attempt` is 0 then if the step failed before its first.
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
    """The pause before an attempt is over: it starts as soon as there is a place for it."""

    time: int
    step_id: str
    attempt: int


@immutable
class StepFinished:
    """A step ended, in whatever state. Exactly one for every step.

    `reused_from` is the run from which its output was taken over; empty if it answered itself. `original` is why its
    own action failed for good, where its fallback stood in.
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


@immutable
class WaveFinished:
    """Every step of a wave has ended."""

    time: int
    wave: int


@immutable
class StepsAdded:
    """Steps were added, and the waves that thereby became known."""

    time: int
    steps: tuple[Step, ...]
    waves: tuple[Wave, ...]
    sealed: bool


@immutable
class RunStopping:
    """The run was cancelled or timed out: nothing more starts."""

    time: int
    failure: Failure


@immutable
class RunFinished:
    """The run ended. Terminal.

    `outputs` are the run's, as far as they fit; `omitted` the ids of the first that did not. `counts` is by `State`, in
    its order.
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
    | WaveFinished
    | StepsAdded
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
    """Feed `TimerFired(timer)` when `due` has come, unless what it watches has ended."""

    timer: Timer
    due: int


@immutable
class Interrupt:
    """End an attempt: withdraw it from admission, or cancel it and await its clean-up.

    Then feed its answer, if it gave one all the same, else `AttemptInterrupted` with this failure. An attempt that is
    being interrupted already keeps its first failure; one that was never invoked needs nothing.
    """

    step_id: str
    attempt: int
    failure: Failure


@immutable
class Finish:
    """The run has ended: release what it holds."""


Command: TypeAlias = StartTimer | Interrupt | Finish
