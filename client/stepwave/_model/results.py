"""Runs and the results of runs and steps: states, failures, outputs.

Enum values of a newer server that this version does not know are `unknown`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Protocol, TypeVar, overload, runtime_checkable

from stepwave._actions.failure import FailureReason
from stepwave._values.payload import Output
from stepwave._values.plain import PAYLOAD, PAYLOADS, Plain
from stepwave._values.text import duration_text, value_text

__all__ = [
    "Counts",
    "Failure",
    "FailureCause",
    "Run",
    "RunResult",
    "SkipCause",
    "SkipReason",
    "State",
    "StepResult",
    "TypedStep",
    "WaitCause",
    "WaitingSteps",
]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class State(StrEnum):
    """The state of a run or a step."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether this is an end state."""
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


class FailureCause(StrEnum):
    """The causes of failures that the server decided."""

    ATTEMPT_TIMEOUT = "attempt_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    RUN_TIMEOUT = "run_timeout"
    CLEANUP_TIMEOUT = "cleanup_timeout"
    CANCEL_REQUESTED = "cancel_requested"
    STEP_FAILED = "step_failed"
    NOT_NEEDED = "not_needed"
    ATTEMPT_LOST = "attempt_lost"
    INPUT = "input"
    SERVER_STOPPED = "server_stopped"
    NESTED_STEP_FAILED = "nested_step_failed"
    PLAN_IDLE = "plan_idle"
    DRAINED = "drained"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Failure(Plain):
    """Why a step or run did not succeed.

    Attributes:
        reason: The kind of failure.
        message: A text for a person.
        retryable: Whether another attempt could help.
        retry_after: The shortest pause before another attempt; `None`: the action gave none.
        step_id: The step that failed; empty: the run itself.
        attempt: The attempt that failed, from 1; 0: no attempt was made.
        details: Further details. The error of a Python action has `exception`, and, unless the server withholds them,
            `traceback`, `file`, `line` and `function`. `when_interrupted` is the outcome of an attempt that was
            interrupted.
        cause: The cause of a failure that the server decided; `None`: an action failed, or the server recorded none.
    """

    reason: FailureReason
    message: str
    retryable: bool
    retry_after: timedelta | None
    step_id: str
    attempt: int
    details: Mapping[str, str]
    cause: FailureCause | None = None


@dataclass(frozen=True, slots=True)
class SkipReason(Plain):
    """Why a step was never invoked.

    Attributes:
        cause: The kind of reason.
        step_id: The step that caused it; empty: none.
    """

    cause: SkipCause
    step_id: str


@dataclass(frozen=True, slots=True)
class StepResult(Plain):
    """The result of a step.

    Attributes:
        step_id: The step: its id, or for a step within another one the path to it, such as `pages[3]/fetch`.
        action: The step's action.
        state: The step's state: an end state in a `StepFinished`, any state in `steps`.
        wave: The step's topological level, from 0.
        attempts: The number of attempts that were started. The attempt of a fallback's action counts too, so after two
            failed attempts and the fallback it is 3. A fallback's fixed value has no attempt.
        output: The answer of a step that succeeded (`None` can be one); else `None`.
        failure: Why it failed or was cancelled.
        skip_reason: Why it was skipped.
        ready_time: When it became ready.
        start_time: When its first attempt started.
        end_time: When it ended.
        abandoned: Whether an attempt was interrupted and did not end within its grace period.
        reused_from: The run whose output it reused, without an attempt; empty: none.
        original_failure: The failure of its own action, if its fallback was used. `output` is then the fallback's
            answer, or `failure` the fallback's failure.
        completed_by: Who completed it from outside, such as `token:ada`; empty: not known, or nobody did.
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
    completed_by: str = ""

    @property
    def by_fallback(self) -> bool:
        """Whether the output is the fallback's answer."""
        return self.state is State.SUCCEEDED and self.original_failure is not None

    @property
    def duration(self) -> timedelta | None:
        """The time from the first attempt's start to the step's end; `None`: one of them is missing."""
        if self.start_time is None or self.end_time is None:
            return None
        return self.end_time - self.start_time


@dataclass(frozen=True, slots=True)
class Counts(Plain):
    """The number of steps in each state."""

    pending: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int

    @property
    def total(self) -> int:
        """The number of all steps."""
        return self.pending + self.running + self.succeeded + self.failed + self.cancelled + self.skipped


class WaitCause(StrEnum):
    """The kinds of things that a ready step waits for."""

    CONCURRENCY = "concurrency"
    RATE = "rate"
    BACKOFF = "backoff"
    ACTION_MISSING = "action_missing"
    EXTERNAL = "external"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class WaitingSteps(Plain):
    """Ready steps of a run that wait for the same thing.

    Attributes:
        cause: The kind of thing.
        message: The same as text for a person.
        limit: The limit that they wait for, named by its actions; empty: none.
        step_count: The number of these steps.
        step_ids: The first 20 of these steps.
    """

    cause: WaitCause
    message: str
    limit: str
    step_count: int
    step_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run(Plain):
    """A run of a workflow, at the time of the request.

    Attributes:
        run_id: The run's id, unique in its namespace.
        namespace: The run's namespace.
        workflow_name: The name of its workflow.
        state: The run's state.
        labels: The workflow's labels.
        create_time: When it was accepted.
        start_time: When it began.
        end_time: When it ended.
        counts: The number of its steps in each state.
        last_sequence: The number of its newest event.
        open: Whether steps may still be added.
        stopping: Whether it was cancelled or timed out, and waits for running attempts to end.
        rerun_of: The earlier run that it repeats; empty: none.
        paused: Whether it was under way when its server started with the setting not to continue such runs.
        missing_actions: Actions that its steps need and the server lacks; the first 20. The run continues when a server
            with these actions starts.
        workflow_digest: The digest of its workflow: SHA-256 in hexadecimal. Equal workflows have equal digests.
        created_by: Who started it, such as `token:ci`; empty: the server asks nobody.
        waiting: Why ready steps have not started, the most frequent cause first. Only `get` returns it.
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
    workflow_digest: str = ""
    created_by: str = ""
    waiting: tuple[WaitingSteps, ...] = ()


@runtime_checkable
class TypedStep(Protocol[T_co]):
    """A step whose outputs have a declared type, as a `StepHandle`."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    def typed(self, output: Output) -> T_co:
        """Return an output as the declared type."""
        ...


_SHOWN = 20  # outputs or failures in the text of a result
_WIDTH = 100  # characters of a line of that text


@dataclass(frozen=True, slots=True)
class RunResult(Plain):
    """The result of a run. As text (`print(result)`) it is a summary in short lines; `repr` has all fields.

    `result[step]` is the output of any step that succeeded.

    Attributes:
        run_id: The run.
        workflow_name: The name of its workflow.
        state: The run's end state.
        outputs: The outputs by step id, in declaration order.
        steps: The results of all steps by step id, in declaration order. In the last event of a `watch`, only those of
            steps whose ends it has read.
        failures: The failures of steps and of the run itself, in order; the first 100, and at most 1 MiB.
        failure_count: The number of all failures.
        create_time: When the run was accepted.
        start_time: When it began.
        end_time: When it ended.
        counts: The number of its steps in each state.
        omitted_output_count: The number of outputs that are in `steps` but not in `outputs`, because together they were
            too large to send.
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

    # Without these, `__getitem__` would be asked for steps 0, 1, 2 …
    __iter__ = None
    __contains__ = None

    @overload
    def __getitem__(self, step: str) -> Output: ...

    @overload
    def __getitem__(self, step: TypedStep[T]) -> T: ...

    def __getitem__(self, step: TypedStep[T] | str) -> T | Output:
        """Return the output of a step that succeeded, whether it is one of the run's `outputs` or not.

        Args:
            step: What `Workflow.step` returned, for the type that the action declares: see `StepHandle.typed`. Or the
                step's id, for JSON or a `Blob`.

        Raises:
            KeyError: There is no such step, it did not succeed, or a `watch` began after its end and its output is not
                in `outputs`. The message has the step's state and failure.
            TypeError: The declared type cannot be read or made of JSON, pydantic is not installed, or `step` is neither
                a step nor an id.
            ValueError: Pydantic cannot make a value of the declared type of this output. JSON and blobs are returned
                without a check.
        """
        if isinstance(step, str):
            return self._output(step)
        if not isinstance(step, TypedStep):
            raise TypeError(f"an output is named by a step or its id, got {step!r}")
        return step.typed(self._output(step.id))

    def _output(self, step_id: str) -> Output:
        step = self.steps.get(step_id)
        if step is not None and step.state is State.SUCCEEDED:
            return step.output
        if step_id in self.outputs:  # of a step that ended before a watch began
            return self.outputs[step_id]
        if step is None:
            near = get_close_matches(step_id, self.steps, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise KeyError(f"the result has no step {step_id!r}{hint}")
        why = f": {step.failure.message}" if step.failure else _skip_text(step.skip_reason)
        raise KeyError(f"step {step_id!r} has no output: its state is {step.state}{why}")

    @property
    def succeeded(self) -> bool:
        """Whether the run succeeded."""
        return self.state is State.SUCCEEDED

    @property
    def duration(self) -> timedelta:
        """The time from the run's start to its end; zero: it never began."""
        return self.end_time - (self.start_time or self.end_time)

    def __str__(self) -> str:
        """Return the state, the duration, the outputs and the failures, each on a short line."""
        took = f" in {duration_text(self.duration)}" if self.start_time else ""
        lines = [f"{self.run_id} ({self.workflow_name}): {self.state}{took}"]
        shown = list(self.outputs.items())[:_SHOWN]
        lines += [f"  {step_id}: {value_text(output, _WIDTH - len(step_id) - 4)}" for step_id, output in shown]
        if more := len(self.outputs) + self.omitted_output_count - len(shown):
            lines.append(_more_line(more, "output"))
        own = [failure for failure in self.failures if failure.cause is not FailureCause.NESTED_STEP_FAILED]
        failures = (own or self.failures)[:_SHOWN]  # the others repeat the failure of a step within them
        lines += [f"  {_failure_line(failure)}" for failure in failures]
        repeated = len(self.failures) - len(own) if own else 0
        if more := self.failure_count - repeated - len(failures):
            lines.append(_more_line(more, "failure"))
        return "\n".join(lines)


def _skip_text(reason: SkipReason | None) -> str:
    if reason is None:
        return ""
    return f" ({reason.cause}: {reason.step_id})" if reason.step_id else f" ({reason.cause})"


def _more_line(count: int, noun: str) -> str:
    return f"  … {count:,} more {noun}" + ("" if count == 1 else "s")


def _failure_line(failure: Failure) -> str:
    subject = f"step {failure.step_id}" if failure.step_id else "the run"
    head = f"failure of {subject}: {failure.reason}: "
    return head + value_text(failure.message, _WIDTH - len(head) - 2)
