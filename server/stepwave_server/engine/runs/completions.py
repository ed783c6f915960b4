"""Completions of steps from outside: which are taken, which were made before, and which are refused."""

from dataclasses import replace

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import StepCompleted, StepFinished
from stepwave_server.core.model import WAIT_ACTION, Failure, FailureCause, Payload, State
from stepwave_server.core.state import RunState, StepState
from stepwave_server.engine.errors import StepCompletedBefore, StepNotFound, StepNotWaiting
from stepwave_server.wire.workflows.content import same_payload

__all__ = ["check_completion", "check_ended", "with_attempt"]


def check_completion(key: RunKey, state: RunState, completion: StepCompleted, *, paused: bool) -> bool:
    """Say whether the completion of a step is to be decided; otherwise the step had this outcome before.

    Raises:
        StepNotFound, StepNotWaiting, StepCompletedBefore: It is refused.
    """
    step = state.steps.get(completion.step_id)
    if step is None:
        raise StepNotFound(key, completion.step_id)
    if step.ended:
        _check_outcome(key, completion, step)
        return False
    if paused:
        raise StepNotWaiting(key, step.id, "is paused, as its run is")
    if step.waits and step.id in state.running:
        return True
    raise StepNotWaiting(key, step.id, _why_not(step))


def check_ended(key: RunKey, completion: StepCompleted, end: StepFinished | None) -> None:
    """Check that a step of a run that has ended had the outcome of a completion.

    Raises:
        StepNotFound, StepNotWaiting, StepCompletedBefore: It had not.
    """
    if end is None:
        raise StepNotFound(key, completion.step_id)
    _check_outcome(key, completion, end)


def with_attempt(state: RunState, completion: StepCompleted) -> StepCompleted:
    """Return a completion whose failure, if it has one, names the attempt that it ends."""
    failure = completion.failure
    if failure is None:
        return completion
    step = state.steps[completion.step_id]
    return replace(completion, failure=replace(failure, step_id=step.id, attempt=step.attempt))


def _check_outcome(key: RunKey, completion: StepCompleted, end: StepState | StepFinished) -> None:
    action = end.spec.action if isinstance(end, StepState) else end.action
    if action != WAIT_ACTION:
        raise StepNotWaiting(key, completion.step_id, _other_action(action))
    failure = end.original or end.failure
    if end.state is State.SKIPPED or (failure is not None and failure.cause is not FailureCause.UNSPECIFIED):
        raise StepNotWaiting(key, completion.step_id, f"does not wait any more: it is {end.state.name.lower()}")
    if not _is_same(completion, end.output, failure):
        raise StepCompletedBefore(key, completion.step_id)


def _is_same(completion: StepCompleted, output: Payload | None, failure: Failure | None) -> bool:
    given = completion.failure
    if given is not None:
        return failure is not None and (failure.reason, failure.message) == (given.reason, given.message)
    return failure is None and output is not None and same_payload(output, completion.output or "null")


def _why_not(step: StepState) -> str:
    if step.spec.for_each is not None:
        return f'runs over a list: complete its children, such as "{step.id}[0]"'
    if step.spec.action != WAIT_ACTION:
        return _other_action(step.spec.action)
    if step.original is not None:
        return "does not wait any more"
    if step.attempt:
        return f"does not wait now: attempt {step.attempt} has ended, and another follows"
    return "does not wait yet: it has not started"


def _other_action(action: str) -> str:
    return f'has the action "{action}": only steps of "{WAIT_ACTION}" are completed from outside'
