"""What an attempt does and what it gets: the action, and its input put together from its bindings."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from .messages import Invoke
from .model import FallbackAction, FromInput, Payload, Reason, Step
from .state import RunState, StepState

__all__ = [
    "EvaluationFailed",
    "Evaluator",
    "action_of",
    "input_of",
    "invoke",
    "is_written",
    "payload_of",
]


class EvaluationFailed(Exception):
    """Raised when a binding or condition has no value, or the value is too large. The message is the step failure's.

    Attributes:
        reason: The kind of failure.
    """

    def __init__(self, message: str, reason: Reason = Reason.INVALID_INPUT) -> None:
        super().__init__(message)
        self.reason = reason


class Evaluator(Protocol):
    """Evaluates bindings. It must be pure: equal arguments give equal values."""

    def input_of(
        self, step: Step, run_input: Payload, outputs: Mapping[str, Payload | None], max_bytes: int | None = None
    ) -> Payload:
        """Return the input of the step's action.

        Args:
            step: The step, whose join is met.
            run_input: The run's input.
            outputs: The outputs of its dependencies by id, in order; `None` for one that did not succeed.
            max_bytes: Bytes that the input may have; `None`: the evaluator's own bound.

        Raises:
            EvaluationFailed: A binding has no value, or the input is too large.
        """
        ...


MAX_CARRIED = 4_096
"""Characters of an input that a request carries, so that attempts that wait for admission take little memory."""


def invoke(run: RunState, step: StepState, evaluator: Evaluator) -> Invoke:
    """Return the request for a step's next attempt, whose input is put together here for the first time.

    Raises:
        EvaluationFailed: A binding has no value, or the input is too large.
    """
    payload = input_of(run, step, evaluator)
    small = payload is run.input or (isinstance(payload, str) and len(payload) <= MAX_CARRIED)
    carried = payload if small else None
    if step.original is None:
        return Invoke(step.spec.id, step.attempt + 1, step.spec.action, carried)
    return Invoke(step.spec.id, step.attempt + 1, action_of(step), carried, fallback=True)


def payload_of(run: RunState, invoke: Invoke, evaluator: Evaluator) -> Payload:
    """Return the input of a requested attempt. A large one is put together anew at each call."""
    return input_of(run, run.steps[invoke.step_id], evaluator) if invoke.carried is None else invoke.carried


def action_of(step: StepState) -> str:
    """Return the action of a step's next attempt."""
    fallback = step.spec.fallback
    return fallback.action if step.original is not None and isinstance(fallback, FallbackAction) else step.spec.action


def input_of(run: RunState, step: StepState, evaluator: Evaluator) -> Payload:
    """Return the input of a step's next attempt.

    Every attempt gets the outputs that its dependencies had when the step first took a place of the run.

    Raises:
        EvaluationFailed: A binding has no value.
    """
    spec = step.spec if step.original is None else _stand_in(step.spec)
    deps = step.deps
    if spec.input is None and not spec.bindings:
        if spec.fallback is not None:  # the step's own action does not get what its fallback binds
            deps = tuple(dict.fromkeys(spec.depends_on))
        if not deps:
            return run.input
    steps, taken = run.steps, step.dispatched
    outputs = {dep: steps[dep].output if dep in steps and steps[dep].finish <= taken else None for dep in deps}
    return evaluator.input_of(spec, run.input, outputs, run.options.max_payload_bytes)


def is_written(step: StepState) -> bool:
    """Say whether the author of the workflow wrote the input of a step's next attempt.

    Default inputs are not written: the run's input, outputs by step id, and what a fallback takes over.
    """
    written: Step | FallbackAction | None = step.spec
    if step.original is not None:
        written = step.spec.fallback if isinstance(step.spec.fallback, FallbackAction) else None
    if written is None or (written.input is None and not written.bindings):
        return False
    return not any(not it.target and isinstance(it.source, FromInput) for it in written.bindings)


def _stand_in(spec: Step) -> Step:
    """Return a step with the input and bindings of its fallback."""
    fallback = spec.fallback
    if not isinstance(fallback, FallbackAction) or (fallback.input is None and not fallback.bindings):
        return spec
    return replace(spec, input=fallback.input, bindings=fallback.bindings)
