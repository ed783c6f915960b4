"""The failures that the scheduler itself decides: reasons, causes, and messages."""

from dataclasses import replace

from .messages import CancelRequested, Timer
from .model import SECOND, Failure, FailureCause, Reason
from .state import CLEANUP_GRACE, RunState, StepState

__all__ = [
    "NOT_RETRIED",
    "attempt_timeout",
    "cancelled",
    "input_failure",
    "interruption",
    "out_of_time",
    "plan_idle",
    "run_timeout",
    "stop_failure",
    "total_timeout",
]

NOT_RETRIED = "not_retried"
"""The detail of a failure that says why no attempt follows it."""


def stop_failure(run: RunState, step: StepState) -> Failure:
    """Return the failure of an attempt that may not go on."""
    if run.stopping is not None:
        message, cause = run.stopping.message, run.stopping.cause
    elif step.unneeded:
        message, cause = f'no longer needed: step "{step.unneeded}" answered', FailureCause.NOT_NEEDED
    else:
        message, cause = f'step "{run.failed_by}" failed', FailureCause.STEP_FAILED
    return Failure(Reason.CANCELLED, message, step_id=step.spec.id, attempt=step.attempt, cause=cause)


def cancelled(given: CancelRequested) -> Failure:
    """Return the failure of a cancelled run."""
    message = f"cancelled: {given.reason}" if given.reason else "cancelled"
    return Failure(Reason.CANCELLED, message, cause=FailureCause.CANCEL_REQUESTED)


def interruption(step: StepState, *, again: bool) -> Failure:
    """Return the failure of a lost attempt; `again`: another one follows."""
    message = "the server stopped while the attempt ran"
    if not again and step.interruptions:
        message += f", as it had {step.interruptions} times before"
    return Failure(
        Reason.INTERRUPTED,
        message,
        retryable=again,
        step_id=step.spec.id,
        attempt=step.attempt,
        cause=FailureCause.ATTEMPT_LOST,
    )


def input_failure(step: StepState, reason: Reason, message: str) -> Failure:
    """Return the failure of a step whose input cannot be put together."""
    return Failure(reason, message, step_id=step.spec.id, cause=FailureCause.INPUT)


def attempt_timeout(run: RunState, step: StepState) -> Failure:
    """Return the failure of an attempt that passed its own timeout, or the total one of its step."""
    if step.total_deadline is not None and step.deadline >= step.total_deadline:
        return total_timeout(step)
    timeout = step.spec.timeout
    allowed = run.options.step_timeout if timeout is None else timeout
    who = "the attempt" if step.original is None else "the fallback"
    whose = "the server's default" if timeout is None else "the step's"
    return Failure(
        Reason.TIMEOUT,
        f"{who} took longer than {whose} timeout of {_seconds(allowed)}",
        retryable=True,
        step_id=step.spec.id,
        attempt=step.attempt,
        cause=FailureCause.ATTEMPT_TIMEOUT,
    )


def total_timeout(step: StepState) -> Failure:
    """Return the failure of a step that passed its total timeout. It is not retried."""
    message = f"the step took longer than its total timeout of {_seconds(step.spec.total_timeout)}"
    return Failure(
        Reason.TIMEOUT, message, step_id=step.spec.id, attempt=step.attempt, cause=FailureCause.TOTAL_TIMEOUT
    )


def out_of_time(step: StepState, failure: Failure) -> Failure:
    """Return an attempt's failure with the detail that the pause before the next one would be too long."""
    why = f"the pause would outlast the step's total timeout of {_seconds(step.spec.total_timeout)}"
    return replace(failure, details=tuple(sorted({**dict(failure.details), NOT_RETRIED: why}.items())))


def run_timeout(run: RunState, timer: Timer) -> Failure:
    """Return the failure of a run or its clean-up that passed its timeout."""
    if timer.kind == "cleanup":
        message = f"clean-up took longer than {_seconds(CLEANUP_GRACE)}"
        return Failure(Reason.TIMEOUT, message, cause=FailureCause.CLEANUP_TIMEOUT)
    message = f"the run took longer than its timeout of {_seconds(run.workflow.timeout)}"
    return Failure(Reason.TIMEOUT, message, cause=FailureCause.RUN_TIMEOUT)


def plan_idle(run: RunState) -> Failure:
    """Return the failure of an open run that was idle for too long."""
    message = f"no steps were added for {_seconds(run.options.idle_timeout)}, and the run was never sealed"
    return Failure(Reason.TIMEOUT, message, cause=FailureCause.PLAN_IDLE)


def _seconds(nanos: int | None) -> str:
    return f"{(nanos or 0) / SECOND:g} s"
