"""What steps and runs fail with by the core's own decision: reasons and messages."""

from .messages import CancelRequested, Timer
from .model import SECOND, Failure, Reason
from .state import CLEANUP_GRACE, RunState, StepState

__all__ = [
    "attempt_timeout",
    "cancelled",
    "interruption",
    "out_of_time",
    "run_timeout",
    "stop_failure",
    "total_timeout",
]


def stop_failure(run: RunState, step: StepState) -> Failure:
    """Return what an attempt fails with that may not go on."""
    if run.stopping is not None:
        message = run.stopping.message
    elif step.unneeded:
        message = f'no longer needed: step "{step.unneeded}" answered'
    else:
        message = f'step "{run.failed_by}" failed'
    return Failure(Reason.CANCELLED, message, step_id=step.spec.id, attempt=step.attempt)


def cancelled(given: CancelRequested) -> Failure:
    """Return what a run ends with that somebody cancelled."""
    return Failure(Reason.CANCELLED, f"cancelled: {given.reason}" if given.reason else "cancelled")


def interruption(step: StepState, *, again: bool) -> Failure:
    """Return what an attempt fails with that ended with its server; `again`: another follows."""
    message = "the server stopped while the attempt ran"
    if not again and step.interruptions:
        message += f", as it had {step.interruptions} times before"
    return Failure(Reason.INTERRUPTED, message, retryable=again, step_id=step.spec.id, attempt=step.attempt)


def attempt_timeout(run: RunState, step: StepState) -> Failure:
    """Return what an attempt fails with that took too long: by its own timeout, or by the step's total one."""
    if step.total_deadline is not None and step.deadline >= step.total_deadline:
        return total_timeout(step)
    timeout = step.spec.timeout
    allowed = run.options.step_timeout if timeout is None else timeout
    who = "the attempt" if step.original is None else "the fallback"
    whose = "the server's default" if timeout is None else "the step's"
    message = f"{who} took longer than {whose} timeout of {_seconds(allowed)}"
    return Failure(Reason.TIMEOUT, message, retryable=True, step_id=step.spec.id, attempt=step.attempt)


def total_timeout(step: StepState) -> Failure:
    """Return what a step fails with that took too long over everything. No other attempt could help."""
    message = f"the step took longer than its total timeout of {_seconds(step.spec.total_timeout)}"
    return Failure(Reason.TIMEOUT, message, step_id=step.spec.id, attempt=step.attempt)


def out_of_time(step: StepState, failure: Failure) -> Failure:
    """Return an attempt's failure, with a detail that says why it is the last: the pause would outlast the step."""
    why = f"the pause would outlast the step's total timeout of {_seconds(step.spec.total_timeout)}"
    details = tuple(sorted({**dict(failure.details), "not_retried": why}.items()))
    return Failure(
        failure.reason,
        failure.message,
        failure.retryable,
        failure.retry_after,
        failure.step_id,
        failure.attempt,
        details,
    )


def run_timeout(run: RunState, timer: Timer) -> Failure:
    """Return what a run ends with whose timeout, or the bound of whose clean-up, has passed."""
    if timer.kind == "cleanup":
        return Failure(Reason.TIMEOUT, f"clean-up took longer than {_seconds(CLEANUP_GRACE)}")
    return Failure(Reason.TIMEOUT, f"the run took longer than its timeout of {_seconds(run.workflow.timeout)}")


def _seconds(nanos: int | None) -> str:
    return f"{(nanos or 0) / SECOND:g} s"
