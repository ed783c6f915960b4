"""The events of a run.

The streams yield `AnyEvent`, the union of all events. So type checkers narrow an event by its class and by its `kind`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal, TypeAlias

from stepwave._values.payload import JSON, Output
from stepwave._values.plain import PAYLOAD, PAYLOADS, Plain

from .results import Failure, RunResult, StepResult, WaitCause

__all__ = [
    "AnyEvent",
    "Event",
    "LogLevel",
    "RunFinished",
    "RunStarted",
    "RunStopping",
    "StepChunk",
    "StepExpanded",
    "StepFinished",
    "StepLog",
    "StepProgress",
    "StepReady",
    "StepRetrying",
    "StepStarted",
    "StepStopping",
    "StepWaiting",
    "StepsAdded",
    "StepsReused",
    "UnknownEvent",
    "WaitCause",
    "Wave",
    "WaveFinished",
    "WaveStarted",
]


@dataclass(frozen=True, slots=True)
class Wave(Plain):
    """A topological level of a workflow's graph: its index from 0, and its steps in the order of their declaration."""

    index: int
    step_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Event(Plain):
    """One fact of a run: the base class of all events.

    Attributes:
        kind: The kind of event, such as `step_finished`.
        run_id: The run.
        sequence: The event's number, from 1 and without gaps. 0: a transient event, which is neither kept nor sent
            again, and which a slow watcher may miss.
        time: The time of the event, by the server's clock. It never decreases within a run.
    """

    kind: ClassVar[str] = ""

    run_id: str
    sequence: int
    time: datetime

    def to_dict(self) -> dict[str, JSON]:
        """Return the kind and all fields by name, for `json.dumps`.

        Times are RFC 3339 in UTC, durations are seconds, payloads are their values, and blobs are
        `{"content_type": …, "data": …}` in base64. A missing value is `None`.
        """
        # Not `super()`, which fails in a slotted dataclass: the decorator replaces the class.
        return {"kind": self.kind, **Plain.to_dict(self)}


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The run began, with this plan.

    Attributes:
        workflow_name: The name of the workflow.
        waves: The waves of the plan, in order. A wave that is split continues under the same index in the next event.
        more: Whether the next event is another `RunStarted` that continues the plan.
        step_count: The number of steps of the whole plan.
        deadline: The time of the run's timeout; `None`: no timeout.
        open: Whether steps may be added to the run.
    """

    kind: ClassVar[Literal["run_started"]] = "run_started"

    workflow_name: str
    waves: tuple[Wave, ...]
    more: bool
    step_count: int
    deadline: datetime | None
    open: bool


@dataclass(frozen=True, slots=True)
class WaveStarted(Event):
    """The first step of a wave is about to start."""

    kind: ClassVar[Literal["wave_started"]] = "wave_started"

    wave: int


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    """An attempt of a step starts.

    Attributes:
        step_id: The step.
        action: The attempt's action.
        wave: The step's wave.
        attempt: The attempt, from 1.
        deadline: The time of the attempt's timeout; `None`: no timeout, as for a `core.wait` without one.
        ready_time: When the step became ready.
    """

    kind: ClassVar[Literal["step_started"]] = "step_started"

    step_id: str
    action: str
    wave: int
    attempt: int
    deadline: datetime | None
    ready_time: datetime | None


@dataclass(frozen=True, slots=True)
class StepChunk(Event):
    """A running attempt sent a chunk; transient. A new attempt discards the chunks of the one before.

    Attributes:
        step_id: The step.
        attempt: The attempt.
        index: The index of the chunk in its attempt, from 0. A gap means that chunks were missed.
        value: The chunk.
    """

    kind: ClassVar[Literal["step_chunk"]] = "step_chunk"

    step_id: str
    attempt: int
    index: int
    value: Output = field(metadata=PAYLOAD)


@dataclass(frozen=True, slots=True)
class StepProgress(Event):
    """A running attempt reported progress; transient.

    Attributes:
        step_id: The step.
        attempt: The attempt.
        fraction: The part that is done, 0 to 1; `None`: unknown.
        message: A short text for a person; may be empty.
    """

    kind: ClassVar[Literal["step_progress"]] = "step_progress"

    step_id: str
    attempt: int
    fraction: float | None
    message: str


class LogLevel(StrEnum):
    """The severity of a log message, in rising order. The names are those of the module `logging`."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class StepLog(Event):
    """A running attempt logged a message; transient, but `logs` of a client returns those that are kept.

    Attributes:
        index: The number of the message in its run, from 1. A gap means that messages were missed.
        step_id: The step.
        attempt: The attempt.
        level: The severity.
        logger: The name of the logger; that of a `Context` is `stepwave.action`.
        message: The message. It may have several lines, such as the traceback of a logged exception.
    """

    kind: ClassVar[Literal["step_log"]] = "step_log"

    index: int
    step_id: str
    attempt: int
    level: LogLevel
    logger: str
    message: str


@dataclass(frozen=True, slots=True)
class StepWaiting(Event):
    """A ready step has not started yet; transient.

    Attributes:
        step_id: The step.
        cause: What it waits for.
        message: More about it, on one line; may be empty.
        limit: The actions of the limit that it waits for, as in `ActionLimit.actions`; empty: no limit of actions.
    """

    kind: ClassVar[Literal["step_waiting"]] = "step_waiting"

    step_id: str
    cause: WaitCause
    message: str
    limit: str = ""


@dataclass(frozen=True, slots=True)
class StepRetrying(Event):
    """An attempt failed and another will follow.

    Attributes:
        step_id: The step.
        attempt: The attempt that failed; 0: the step failed before its first attempt, and its fallback follows.
        failure: The failure.
        next_time: The earliest start of the next attempt.
        fallback: Whether the step's fallback follows.
        abandoned: Whether the attempt was interrupted and did not end within its grace period.
    """

    kind: ClassVar[Literal["step_retrying"]] = "step_retrying"

    step_id: str
    attempt: int
    failure: Failure
    next_time: datetime | None
    fallback: bool = False
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class StepReady(Event):
    """The pause before another attempt is over. The attempt starts once it gets a permit.

    Attributes:
        step_id: The step.
        attempt: The attempt that may start.
    """

    kind: ClassVar[Literal["step_ready"]] = "step_ready"

    step_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StepFinished(Event):
    """A step ended, in any end state. Every step has exactly one."""

    kind: ClassVar[Literal["step_finished"]] = "step_finished"

    result: StepResult


@dataclass(frozen=True, slots=True)
class WaveFinished(Event):
    """All steps of a wave have ended. A wave in which no step started has no such event."""

    kind: ClassVar[Literal["wave_finished"]] = "wave_finished"

    wave: int


@dataclass(frozen=True, slots=True)
class StepsAdded(Event):
    """Steps were added to an open run.

    Attributes:
        step_ids: The steps that were added.
        waves: The waves of the new steps, and of earlier steps that waited for them.
        sealed: Whether no more steps can be added.
    """

    kind: ClassVar[Literal["steps_added"]] = "steps_added"

    step_ids: tuple[str, ...]
    waves: tuple[Wave, ...]
    sealed: bool


@dataclass(frozen=True, slots=True)
class StepExpanded(Event):
    """A step became several: the children of a `for_each`, or the steps of a workflow that it runs.

    Each of them has events of its own, and the step ends after all of them. Children have the ids `id[0]`, `id[1]`, …,
    and a workflow's steps `id/step`.

    Attributes:
        step_id: The step.
        item_count: The number of its children; `None`: it runs a workflow.
        workflow_name: The name of the workflow that its action chose; empty: its action chose none.
        nested_step_ids: The ids of that workflow's steps within it, in the order of their declaration.
        input: The input of that workflow.
        action: The step's action; `core.workflow` if it has a workflow of its own.
        wave: Its wave.
        ready_time: When it became ready.
    """

    kind: ClassVar[Literal["step_expanded"]] = "step_expanded"

    step_id: str
    item_count: int | None
    workflow_name: str
    nested_step_ids: tuple[str, ...]
    input: Output = field(metadata=PAYLOAD)
    action: str = ""
    wave: int = 0
    ready_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class StepStopping(Event):
    """A step that became several timed out. None of its steps starts any more, and running attempts are interrupted.

    Attributes:
        step_id: The step.
        failure: Why it stops.
    """

    kind: ClassVar[Literal["step_stopping"]] = "step_stopping"

    step_id: str
    failure: Failure


@dataclass(frozen=True, slots=True)
class StepsReused(Event):
    """Outputs of an earlier run were taken over, for steps that are not known yet. They succeed as soon as they are.

    Attributes:
        reused_from: The earlier run.
        outputs: The outputs by step id.
    """

    kind: ClassVar[Literal["steps_reused"]] = "steps_reused"

    reused_from: str
    outputs: Mapping[str, Output] = field(metadata=PAYLOADS)


@dataclass(frozen=True, slots=True)
class RunStopping(Event):
    """The run was cancelled or timed out. No more steps start, and running attempts are interrupted.

    Attributes:
        failure: Why it stops.
        cancel_reason: The caller's reason for cancelling; empty: none was given, or the run was not cancelled.
        cancelled_by: Who cancelled it, such as `token:ci`; empty: not known, or no caller did.
    """

    kind: ClassVar[Literal["run_stopping"]] = "run_stopping"

    failure: Failure
    cancel_reason: str = ""
    cancelled_by: str = ""


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """The run ended. Every run has exactly one, its last event."""

    kind: ClassVar[Literal["run_finished"]] = "run_finished"

    result: RunResult


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """An event of a kind that this version of the SDK does not know."""

    kind: ClassVar[Literal["unknown"]] = "unknown"


AnyEvent: TypeAlias = (
    RunStarted
    | WaveStarted
    | StepStarted
    | StepChunk
    | StepProgress
    | StepLog
    | StepWaiting
    | StepRetrying
    | StepReady
    | StepFinished
    | WaveFinished
    | StepsAdded
    | StepsReused
    | StepExpanded
    | StepStopping
    | RunStopping
    | RunFinished
    | UnknownEvent
)
"""Any event of a run. `match event:` and `if event.kind == "step_finished":` narrow it to one class."""
