"""What happens in a run: its events, as the SDK gives them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

from stepwave._values.payload import JSON, Output
from stepwave._values.plain import PAYLOAD, Plain

from .results import Failure, RunResult, StepResult, WaitCause

__all__ = [
    "Event",
    "RunFinished",
    "RunStarted",
    "RunStopping",
    "StepChunk",
    "StepFinished",
    "StepProgress",
    "StepReady",
    "StepRetrying",
    "StepStarted",
    "StepWaiting",
    "StepsAdded",
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
    """One fact of a run.

    Attributes:
        kind: What happened, for example `step_finished`.
        run_id: The run.
        sequence: The event's number, from 1 and without gaps; 0 for a transient event, which is neither kept nor
            sent again, and which a slow watcher may miss.
        time: When it happened, by the server's clock; never goes back within a run.
    """

    kind: ClassVar[str] = ""

    run_id: str
    sequence: int
    time: datetime

    def to_dict(self) -> dict[str, JSON]:
        """Return the kind and every field by its name, ready for `json.dumps`.

        Times are RFC 3339 in UTC, durations are seconds, payloads are the values they hold, and bytes are
        `{"content_type": …, "data": …}` in base64. What is not there is `None`.
        """
        # By name: a slotted dataclass is a copy of the class that `super()` without arguments would look for.
        return {"kind": self.kind, **Plain.to_dict(self)}


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """The run began, by this plan.

    Attributes:
        workflow_name: The name of the workflow.
        waves: The waves of the plan, in order. A wave that is split goes on under the same index in the next event.
        more: Whether the next event is another `RunStarted` that goes on with the plan.
        step_count: How many steps the plan has in all.
        deadline: When the run's timeout passes; `None` if it has none.
        open: Whether steps may be added while the run lasts.
    """

    kind: ClassVar[str] = "run_started"

    workflow_name: str
    waves: tuple[Wave, ...]
    more: bool
    step_count: int
    deadline: datetime | None
    open: bool


@dataclass(frozen=True, slots=True)
class WaveStarted(Event):
    """The first step of a wave is about to start."""

    kind: ClassVar[str] = "wave_started"

    wave: int


@dataclass(frozen=True, slots=True)
class StepStarted(Event):
    """An attempt of a step starts.

    Attributes:
        step_id: The step.
        action: What it does.
        wave: Its wave.
        attempt: The attempt, from 1.
        deadline: When the attempt's timeout passes.
        ready_time: When the step's dependencies allowed it to start.
    """

    kind: ClassVar[str] = "step_started"

    step_id: str
    action: str
    wave: int
    attempt: int
    deadline: datetime | None
    ready_time: datetime | None


@dataclass(frozen=True, slots=True)
class StepChunk(Event):
    """A running attempt said something; transient. A new attempt voids the chunks of the one before.

    Attributes:
        step_id: The step.
        attempt: The attempt that said it.
        index: Counts the attempt's chunks from 0; a gap means that some were missed.
        value: What it said.
    """

    kind: ClassVar[str] = "step_chunk"

    step_id: str
    attempt: int
    index: int
    value: Output = field(metadata=PAYLOAD)


@dataclass(frozen=True, slots=True)
class StepProgress(Event):
    """A running attempt got further; transient.

    Attributes:
        step_id: The step.
        attempt: The attempt.
        fraction: How much is done, 0 to 1; `None` if that is unknown.
        message: One line for a person; may be empty.
    """

    kind: ClassVar[str] = "step_progress"

    step_id: str
    attempt: int
    fraction: float | None
    message: str


@dataclass(frozen=True, slots=True)
class StepWaiting(Event):
    """A ready step has not started yet; transient."""

    kind: ClassVar[str] = "step_waiting"

    step_id: str
    cause: WaitCause
    message: str


@dataclass(frozen=True, slots=True)
class StepRetrying(Event):
    """An attempt failed and another will follow.

    Attributes:
        step_id: The step.
        attempt: The attempt that failed; 0 if the step failed before its first, and its fallback follows.
        failure: Why.
        next_time: When the next attempt may start.
        fallback: Whether what follows is the step's fallback, its own action having failed for good.
        abandoned: Whether the attempt was interrupted and did not end within its grace.
    """

    kind: ClassVar[str] = "step_retrying"

    step_id: str
    attempt: int
    failure: Failure
    next_time: datetime | None
    fallback: bool = False
    abandoned: bool = False


@dataclass(frozen=True, slots=True)
class StepReady(Event):
    """The pause before another attempt is over: it starts as soon as there is a place for it.

    Attributes:
        step_id: The step.
        attempt: The attempt that may start.
    """

    kind: ClassVar[str] = "step_ready"

    step_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class StepFinished(Event):
    """A step ended, in whatever state. There is exactly one for every step."""

    kind: ClassVar[str] = "step_finished"

    result: StepResult


@dataclass(frozen=True, slots=True)
class WaveFinished(Event):
    """Every step of a wave has ended. There is none for a wave in which nothing started."""

    kind: ClassVar[str] = "wave_finished"

    wave: int


@dataclass(frozen=True, slots=True)
class StepsAdded(Event):
    """Steps were added to an open run.

    Attributes:
        step_ids: The steps that were added.
        waves: The waves that became known by the addition, of the new steps and of earlier ones that waited for them.
        sealed: Whether no more steps can be added.
    """

    kind: ClassVar[str] = "steps_added"

    step_ids: tuple[str, ...]
    waves: tuple[Wave, ...]
    sealed: bool


@dataclass(frozen=True, slots=True)
class RunStopping(Event):
    """The run was cancelled or timed out: nothing more starts, what runs is interrupted."""

    kind: ClassVar[str] = "run_stopping"

    failure: Failure


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """The run ended. Exactly one, and the last event."""

    kind: ClassVar[str] = "run_finished"

    result: RunResult


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """Something happened that this version of the SDK does not know."""

    kind: ClassVar[str] = "unknown"
