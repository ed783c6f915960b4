"""What runs and steps come to: states, failures, results.

Values that a newer server may send and this version does not know read `unknown`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from stepwave._actions.failure import FailureReason
from stepwave._values.payload import Output
from stepwave._values.plain import PAYLOAD, PAYLOADS, Plain

__all__ = [
    "Counts",
    "Failure",
    "Run",
    "RunResult",
    "SkipCause",
    "SkipReason",
    "State",
    "StepResult",
    "WaitCause",
    "WaitingSteps",
]


class State(StrEnum):
    """What has become of a run or a step."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether it stays so."""
        return self in _ENDED


_ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED})


class SkipCause(StrEnum):
    """The kinds of reasons for skipping a step."""

    DEPENDENCY = "dependency"
    CONDITION = "condition"
    FAIL_FAST = "fail_fast"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NOT_NEEDED = "not_needed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure(Plain):
    """Why a step or run did not succeed.

    Attributes:
        reason: The kind of failure.
        message: One sentence for a person.
        retryable: Whether another attempt could help.
        retry_after: How long to wait before another attempt, if the action said so.
        step_id: The step that failed; empty if the run itself did.
        attempt: The attempt that failed, from 1; 0 if none was made.
        details: More about it. A Python action's error has `exception`, and, unless the server withholds them,
            `traceback`, `file`, `line` and `function`. `when_interrupted` says what an action did in place of ending.
    """

    reason: FailureReason
    message: str
    retryable: bool
    retry_after: timedelta | None
    step_id: str
    attempt: int
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SkipReason(Plain):
    """Why a step was never invoked.

    Attributes:
        cause: The kind of reason.
        step_id: The step to blame; empty if none is.
    """

    cause: SkipCause
    step_id: str


@dataclass(frozen=True, slots=True)
class StepResult(Plain):
    """What a step came to.

    Attributes:
        step_id: The step.
        action: What it did.
        state: Its state: an end state in a `StepFinished`, any in `steps`.
        wave: Its topological level, from 0.
        attempts: How many attempts were started, that of a fallback's action included.
        output: Its answer, if it succeeded (`None` is one); else `None`.
        failure: Why it failed or was cancelled.
        skip_reason: Why it was skipped.
        ready_time: When its dependencies allowed it to start.
        start_time: When its first attempt started.
        end_time: When it ended.
        abandoned: Whether an attempt was interrupted and did not end within its grace.
        reused_from: The run from which its output was taken over, without an attempt; empty if it answered itself.
        original_failure: Why its own action failed for good, where its fallback stood in: `output` is the fallback's
            then, or `failure` says why that failed or was cancelled too.
    """

    step_id: str
    action: str
    state: State
    wave: int
    attempts: int
    output: Output = field(metadata=PAYLOAD)
    failure: Failure | None
    skip_reason: SkipReason | None
    ready_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    abandoned: bool
    reused_from: str = ""
    original_failure: Failure | None = None

    @property
    def by_fallback(self) -> bool:
        """Whether its fallback answered."""
        return self.state is State.SUCCEEDED and self.original_failure is not None

    @property
    def duration(self) -> timedelta | None:
        """The time from the first attempt's start to the step's end; `None` if it lacks one of them."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time


@dataclass(frozen=True, slots=True)
class Counts(Plain):
    """How many steps are in which state."""

    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int

    @property
    def total(self) -> int:
        """All steps."""
        return self.pending + self.running + self.succeeded + self.failed + self.cancelled + self.skipped


class WaitCause(StrEnum):
    """What a ready step can wait for."""

    CONCURRENCY = "concurrency"
    RATE = "rate"
    BACKOFF = "backoff"
    ACTION_MISSING = "action_missing"
    EXTERNAL = "external"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class WaitingSteps(Plain):
    """Ready steps of a run that wait for one thing.

    Attributes:
        cause: What kind of thing it is.
        message: The same in a line for a person.
        limit: The limit that they wait for, by the actions that it covers; empty if it is none.
        step_count: How many steps wait.
        step_ids: The first 20 of them.
    """

    cause: WaitCause
    message: str
    limit: str
    step_count: int
    step_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run(Plain):
    """One execution of a workflow, as it stood when the server was asked.

    Attributes:
        run_id: Unique in its namespace.
        namespace: The namespace it lives in.
        workflow_name: The name of the workflow it executes.
        state: What has become of it so far.
        labels: The workflow's labels.
        create_time: When it was accepted.
        start_time: When it began.
        end_time: When it ended.
        counts: How many of its steps are in which state.
        last_sequence: The number of its newest event.
        open: Whether steps may still be added.
        stopping: Whether it was cancelled or timed out, and waits for running attempts to end.
        rerun_of: The run whose workflow and input it took; empty if it is no rerun.
        paused: Whether its server found it under way when it started, and was told to leave such runs alone.
        missing_actions: Actions that its steps wait for and that the server does not have, the first 20. It goes on
            when a server starts that has them.
        waiting: Why ready steps of it have not started, the most frequent reason first; known of a run that was asked
            for by `get` alone.
    """

    run_id: str
    namespace: str
    workflow_name: str
    state: State
    labels: Mapping[str, str]
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    counts: Counts
    last_sequence: int
    open: bool
    stopping: bool
    rerun_of: str = ""
    paused: bool = False
    missing_actions: tuple[str, ...] = ()
    waiting: tuple[WaitingSteps, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult(Plain):
    """What a run came to.

    Attributes:
        run_id: The run.
        workflow_name: The name of the workflow it executed.
        state: Its end state.
        outputs: The outputs by step id, in the order in which the steps were declared.
        steps: What every step came to, by step id, in the same order. In the last event of a `watch`, only the steps
            whose ends it has seen.
        failures: The failures in order, of steps and of the run itself. The first 100, and 1 MiB at most.
        failure_count: How many failures there were in all.
        create_time: When the run was accepted.
        start_time: When it began.
        end_time: When it ended.
        counts: How many of its steps ended in which state.
        omitted_output_count: How many outputs are not in `outputs`: they were too large to send together, and more
            than the server names. They are in `steps`.
    """

    run_id: str
    workflow_name: str
    state: State
    outputs: Mapping[str, Output] = field(metadata=PAYLOADS)
    steps: Mapping[str, StepResult]
    failures: tuple[Failure, ...]
    failure_count: int
    create_time: datetime
    start_time: datetime | None
    end_time: datetime
    counts: Counts
    omitted_output_count: int = 0

    @property
    def succeeded(self) -> bool:
        """Whether the run succeeded."""
        return self.state is State.SUCCEEDED

    @property
    def duration(self) -> timedelta:
        """The time from the run's start to its end; zero if it never began."""
        return self.end_time - (self.start_time or self.end_time)
