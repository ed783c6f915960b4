"""Steps that the core runs itself: they wait to be completed, or become several and end after these."""

from operator import attrgetter

from .decider import Decider
from .failures import nested_failure, output_failure, own_timeout, stop_failure, total_timeout
from .inputs import EvaluationFailed, input_of, items_of
from .messages import (
    AttemptExpanded,
    StartTimer,
    StepCompleted,
    StepExpanded,
    StepStarted,
    StepStopping,
    Timer,
    TimerFired,
    WaveStarted,
)
from .model import (
    MAX_NESTING,
    MAX_PAYLOAD_BYTES,
    Failure,
    Payload,
    Reason,
    State,
    Workflow,
    payload_size,
)
from .result import outputs_of
from .retries import fail_attempt, give_up
from .state import RunState, Scope, StepState

__all__ = ["begin", "close", "complete", "expand_attempt", "stop", "time_out_own"]

_by_level = attrgetter("level")


def begin(decider: Decider, step: StepState) -> None:
    """Begin a step that needs no attempt.

    Raises:
        EvaluationFailed: Its list or its input cannot be evaluated, its workflow refuses the input, or it would become
            too many steps.
    """
    run = decider.run
    if step.spec.for_each is not None:
        items = items_of(run, step, decider.evaluator)
        _check_count(run, len(items))
        _expand(decider, step, item_count=len(items))
    elif step.spec.workflow is not None:
        _check_count(run, len(step.spec.workflow.steps))
        _check_input(decider, step, step.spec.workflow)
        _expand(decider, step)
    else:
        input_of(run, step, decider.evaluator)
        _wait(decider, step)


def _check_input(decider: Decider, step: StepState, workflow: Workflow) -> None:
    """Check that a step's nested workflow has an input, and accepts it."""
    payload = input_of(decider.run, step, decider.evaluator)
    if workflow.input_schema:
        decider.evaluator.check_input(workflow.input_schema, payload)


def _wait(decider: Decider, step: StepState) -> None:
    spec, attempt = step.spec, step.attempt + 1
    timeout = None if spec.timeout is None else decider.now + spec.timeout
    deadline = min((one for one in (timeout, step.total_deadline) if one is not None), default=None)
    _open_wave(decider, step)
    decider.emit(StepStarted(decider.now, step.id, spec.action, step.wave, attempt, deadline, _ready_time(step)))
    if deadline is not None:
        decider.command(StartTimer(Timer("own", step.id, attempt), deadline))


def _ready_time(step: StepState) -> int:
    assert step.ready_time is not None, "a step that begins is ready"
    return step.ready_time


def _open_wave(decider: Decider, step: StepState) -> None:
    if step.wave not in decider.run.waves_open:
        decider.emit(WaveStarted(decider.now, step.wave))


def _check_count(run: RunState, count: int) -> None:
    steps = len(run.by_index) + count
    if steps > run.options.limits.max_steps:
        message = f"the run would have {steps:,} steps, and {run.options.limits.max_steps:,} are allowed"
        raise EvaluationFailed(message, Reason.RESOURCE_EXHAUSTED)


def _expand(
    decider: Decider,
    step: StepState,
    *,
    item_count: int | None = None,
    workflow: Workflow | None = None,
    input: Payload | None = None,
) -> None:
    _open_wave(decider, step)
    ready = _ready_time(step)
    decider.emit(StepExpanded(decider.now, step.id, step.wave, step.spec.action, ready, item_count, workflow, input))
    if step.deadline:
        decider.command(StartTimer(Timer("own", step.id, step.attempt), step.deadline))
    run = decider.run
    if run.reused and step.inner is not None:
        for child in sorted(step.inner.steps, key=_by_level):  # dependencies end first
            output = run.reused.get(child.id)
            if output is not None and not child.dropped and not child.ended:
                decider.finish_step(child, State.SUCCEEDED, output=output, reused_from=run.reused_from)


def expand_attempt(decider: Decider, step: StepState, given: AttemptExpanded) -> None:
    """Let a step become the workflow that its action chose."""
    run = decider.run
    if not step.admitted:
        decider.finish_step(step, State.CANCELLED, failure=stop_failure(step))
        return
    problem = _nesting_problem(step, given.workflow)
    try:
        _check_count(run, len(given.workflow.steps))
    except EvaluationFailed as error:
        problem = Failure(error.reason, str(error), step_id=step.id, attempt=step.attempt)
    if problem is not None:
        fail_attempt(decider, step, problem)
    else:
        _expand(decider, step, workflow=given.workflow, input=given.input)


def _nesting_problem(step: StepState, workflow: Workflow) -> Failure | None:
    if step.scope.depth + _depth_of(workflow) < MAX_NESTING:
        return None
    message = f"more than {MAX_NESTING} workflows would be nested"
    return Failure(Reason.INVALID_INPUT, message, step_id=step.id, attempt=step.attempt)


def _depth_of(workflow: Workflow) -> int:
    """Return how deep workflows are nested in a workflow; 0: not at all."""
    depth, front = -1, [workflow]
    while front:
        depth += 1
        front = [step.workflow for outer in front for step in outer.steps if step.workflow is not None]
    return depth


def complete(decider: Decider, step: StepState, given: StepCompleted) -> None:
    """End a step that waits, with the answer or the failure from outside."""
    if given.failure is None:
        decider.finish_step(step, State.SUCCEEDED, output=given.output, completed_by=given.caller)
    else:
        fail_attempt(decider, step, given.failure)


def time_out_own(decider: Decider, given: TimerFired) -> None:
    """End a step that the core runs itself, and whose timeout has passed."""
    step = decider.run.steps.get(given.timer.step_id)
    if step is None or step.ended or step.attempt != given.timer.attempt:
        return
    if step.inner is not None:
        stop(decider, step, own_timeout(step))
    elif step.id in decider.run.running and step.waits:
        if step.total_deadline is not None and step.deadline >= step.total_deadline:
            give_up(decider, step, total_timeout(step))
        else:
            fail_attempt(decider, step, own_timeout(step))


def stop(decider: Decider, step: StepState, failure: Failure) -> None:
    """Stop what a step became. The step ends with this failure, after all its steps."""
    if step.inner is not None and step.inner.stopping is None:
        decider.emit(StepStopping(decider.now, step.id, failure))


def close(decider: Decider, step: StepState) -> None:
    """End a step after all that it became."""
    inner = step.inner
    if inner is None or step.ended:
        return
    if inner.stopping is not None and not all(child.state is State.SUCCEEDED for child in inner.steps):
        if inner.stopping.reason is Reason.CANCELLED:
            decider.finish_step(step, State.CANCELLED, failure=inner.stopping)
        else:
            give_up(decider, step, inner.stopping)
    elif inner.failed_by:
        give_up(decider, step, nested_failure(step, inner))
    else:
        try:
            output = _output(decider.run, inner)
        except EvaluationFailed as error:
            give_up(decider, step, output_failure(step, error.reason, str(error)))
        else:
            decider.finish_step(step, State.SUCCEEDED, output=output)


def _output(run: RunState, inner: Scope) -> Payload:
    if inner.is_list:
        texts = [_text(step, inner) for step in inner.steps]
        output = f"[{','.join(texts)}]"
    else:
        members = [f'"{step.spec.id}":{_text(step, inner)}' for step in outputs_of(run, inner)]
        output = f"{{{','.join(members)}}}"
    size, bound = payload_size(output), run.options.max_payload_bytes or MAX_PAYLOAD_BYTES
    if size > bound:
        message = f"its output would have {size:,} bytes, and {bound:,} are allowed"
        raise EvaluationFailed(message, Reason.RESOURCE_EXHAUSTED)
    return output


def _text(step: StepState, inner: Scope) -> str:
    output = step.output
    if output is None:
        return "null"
    if isinstance(output, str):
        return output
    what = "a list" if inner.is_list else "an object"
    raise EvaluationFailed(f'the output of step "{step.id}" is a blob: {what} of outputs cannot hold it')
