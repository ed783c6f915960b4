"""The failures that the scheduler itself decides: reasons, causes, and messages."""

from dataclasses import replace

from .messages import AttemptLost, CancelRequested
from .model import SECOND, Failure, FailureCause, Reason
from .scopes import nested_timeout
from .state import CLEANUP_GRACE, RunState, Scope, StepState

__all__ = [
    "NOT_RETRIED",
    "attempt_timeout",
    "cancelled",
    "cleanup_timeout",
    "input_failure",
    "interruption",
    "nested_failure",
    "out_of_time",
    "output_failure",
    "own_timeout",
    "plan_idle",
    "run_timeout",
    "stop_failure",
    "total_timeout",
]

NOT_RETRIED = "not_retried"
"""The detail of a failure that says why no attempt follows it."""


def stop_failure(step: StepState) -> Failure:
    """Return the failure of a step that may not go on."""
    scope = step.scope
    if scope.stopping is not None:
        message, cause = scope.stopping.message, scope.stopping.cause
    elif step.unneeded:
        message, cause = f'no longer needed: step "{step.unneeded}" answered', FailureCause.NOT_NEEDED
    else:
        message, cause = f'step "{scope.failed_by}" failed', FailureCause.STEP_FAILED
    return Failure(Reason.CANCELLED, message, step_id=step.id, attempt=step.attempt, cause=cause)


def nested_failure(step: StepState, inner: Scope) -> Failure:
    """Return the failure of a step because steps that it became failed."""
    first = next(child for child in inner.steps if child.id == inner.failed_by)
    why = first.failure or Failure(Reason.ACTION_ERROR, "")
    message = f'step "{first.id}" failed: {why.message}'
    if inner.is_list and inner.failed > 1:
        message = f"{inner.failed:,} of {len(inner.steps):,} items failed; the first: {message}"
    cause = FailureCause.NESTED_STEP_FAILED
    return Failure(why.reason, message, step_id=step.id, attempt=step.attempt, cause=cause)


def cancelled(given: CancelRequested) -> Failure:
    """Return the failure of a cancelled run."""
    message = f"cancelled: {given.reason}" if given.reason else "cancelled"
    return Failure(Reason.CANCELLED, message, cause=FailureCause.CANCEL_REQUESTED)


def interruption(step: StepState, given: AttemptLost, *, again: bool) -> Failure:
    """Return the failure of a lost attempt; `again`: another one follows."""
    who, others, stopped = ("host", "hosts", "stopped responding") if given.hosted else ("server", "it", "stopped")
    message = f"the {who} {'was shut down' if given.drained else stopped} while the attempt ran"
    if not again and step.crashes:
        message += f", as {others} had {step.crashes} times before"
    return Failure(
        Reason.INTERRUPTED,
        message,
        retryable=again,
        step_id=step.id,
        attempt=step.attempt,
        cause=FailureCause.DRAINED if given.drained else FailureCause.ATTEMPT_LOST,
    )


def input_failure(step: StepState, reason: Reason, message: str) -> Failure:
    """Return the failure of a step whose input cannot be put together."""
    return Failure(reason, message, step_id=step.id, cause=FailureCause.INPUT)


def output_failure(step: StepState, reason: Reason, message: str) -> Failure:
    """Return the failure of a step that became several, and whose output cannot be put together."""
    return Failure(reason, message, step_id=step.id, attempt=step.attempt, cause=FailureCause.INPUT)


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
        step_id=step.id,
        attempt=step.attempt,
        cause=FailureCause.ATTEMPT_TIMEOUT,
    )


def total_timeout(step: StepState) -> Failure:
    """Return the failure of a step that passed its total timeout. It is not retried."""
    message = f"the step took longer than its total timeout of {_seconds(step.spec.total_timeout)}"
    return Failure(Reason.TIMEOUT, message, step_id=step.id, attempt=step.attempt, cause=FailureCause.TOTAL_TIMEOUT)


def out_of_time(step: StepState, failure: Failure) -> Failure:
    """Return an attempt's failure with the detail that the pause before the next one would be too long."""
    why = f"the pause would outlast the step's total timeout of {_seconds(step.spec.total_timeout)}"
    return replace(failure, details=tuple(sorted({**dict(failure.details), NOT_RETRIED: why}.items())))


def own_timeout(step: StepState) -> Failure:
    """Return the failure of a step that the core runs itself, and that passed its timeout."""
    allowed = step.spec.timeout
    message = "nothing completed the step within its timeout of"
    if step.inner is not None:
        allowed = nested_timeout(step.spec, step.inner.workflow)
        message = "the nested workflow took longer than its timeout of"
    return Failure(
        Reason.TIMEOUT,
        f"{message} {_seconds(allowed)}",
        retryable=step.inner is None,
        step_id=step.id,
        attempt=step.attempt,
        cause=FailureCause.ATTEMPT_TIMEOUT,
    )


def cleanup_timeout(step: StepState | None) -> Failure:
    """Return the failure of a clean-up that took too long: in a step that became several, or in the run."""
    message, cause = f"clean-up took longer than {_seconds(CLEANUP_GRACE)}", FailureCause.CLEANUP_TIMEOUT
    if step is None:
        return Failure(Reason.TIMEOUT, message, cause=cause)
    return Failure(Reason.TIMEOUT, message, step_id=step.id, attempt=step.attempt, cause=cause)


def run_timeout(run: RunState) -> Failure:
    """Return the failure of a run that passed its timeout."""
    message = f"the run took longer than its timeout of {_seconds(run.workflow.timeout)}"
    return Failure(Reason.TIMEOUT, message, cause=FailureCause.RUN_TIMEOUT)


def plan_idle(run: RunState) -> Failure:
    """Return the failure of an open run that was idle for too long."""
    message = f"no steps were added for {_seconds(run.options.idle_timeout)}, and the run was never sealed"
    return Failure(Reason.TIMEOUT, message, cause=FailureCause.PLAN_IDLE)


def _seconds(nanos: int | None) -> str:
    return f"{(nanos or 0) / SECOND:g} s"
