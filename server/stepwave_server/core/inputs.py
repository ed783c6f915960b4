"""What an attempt does and what it gets: the action, and its input put together from its bindings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from .messages import Invoke
from .model import (
    FallbackAction,
    ForEach,
    FromInput,
    FromSecret,
    Payload,
    Reason,
    SecretPlace,
    State,
    Step,
    immutable,
)
from .state import RunState, Scope, StepState

__all__ = [
    "EvaluationFailed",
    "Evaluator",
    "Values",
    "action_of",
    "holds",
    "input_of",
    "invoke",
    "is_written",
    "item_of",
    "items_of",
    "payload_of",
    "scope_input",
    "secrets_of",
]


class EvaluationFailed(Exception):
    """Raised when a binding or condition has no value, or the value is too large. The message is the step failure's.

    Attributes:
        reason: The kind of failure.
    """

    def __init__(self, message: str, reason: Reason = Reason.INVALID_INPUT) -> None:
        super().__init__(message)
        self.reason = reason


@immutable
class Values:
    """What the bindings and expressions of a step may use.

    Attributes:
        input: The input of the run, or of the nested workflow.
        outputs: The outputs of the step's dependencies by id, in order; `None` for one that did not succeed.
        states: The states of its dependencies by id. `PENDING`: it had not ended when the step began.
        item: The item that it runs for; `None`: there is none.
    """

    input: Payload
    outputs: Mapping[str, Payload | None]
    states: Mapping[str, State]
    item: Payload | None = None


class Evaluator(Protocol):
    """Evaluates bindings, conditions and lists. It must be pure: equal arguments give equal values."""

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        """Return the input of the step's action, or of its nested workflow. In the place of a secret is its name.

        Args:
            step: The step, whose join is met.
            values: What its bindings may use.
            max_bytes: Bytes that the input may have; `None`: the evaluator's own bound.

        Raises:
            EvaluationFailed: A binding has no value, or the input is too large.
        """
        ...

    def check_input(self, schema: str, payload: Payload) -> None:
        """Check the input of a nested workflow.

        Args:
            schema: The JSON Schema of the workflow's input, not empty.
            payload: The input.

        Raises:
            EvaluationFailed: The input does not match the schema.
        """
        ...

    def condition(self, expression: str, values: Values) -> bool:
        """Return the value of a condition.

        Raises:
            EvaluationFailed: It cannot be evaluated, or its value is no bool.
        """
        ...

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        """Return the items of a list, in order.

        Raises:
            EvaluationFailed: There is no such value, it is no list, or it has more than `MAX_ITEMS` items.
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
        return Invoke(step.id, step.attempt + 1, step.spec.action, carried)
    return Invoke(step.id, step.attempt + 1, action_of(step), carried, fallback=True)


def payload_of(run: RunState, invoke: Invoke, evaluator: Evaluator) -> Payload:
    """Return the input of a requested attempt. A large one is put together anew at each call."""
    return input_of(run, run.steps[invoke.step_id], evaluator) if invoke.carried is None else invoke.carried


def action_of(step: StepState) -> str:
    """Return the action of a step's next attempt."""
    fallback = step.spec.fallback
    return fallback.action if step.original is not None and isinstance(fallback, FallbackAction) else step.spec.action


def input_of(run: RunState, step: StepState, evaluator: Evaluator) -> Payload:
    """Return the input of a step's next attempt, or of the workflow that it becomes.

    Every attempt gets the outputs that its dependencies had when the step first took its places.

    Raises:
        EvaluationFailed: A binding has no value.
    """
    spec = step.spec if step.original is None else _stand_in(step.spec)
    deps = spec.dependencies()
    if spec.input is None and not spec.bindings:
        if step.item is not None:
            return item_of(run, step, evaluator)
        if spec.fallback is not None:  # the step's own action does not get what its fallback binds
            deps = tuple(dict.fromkeys(spec.depends_on))
        if not deps:
            return scope_input(run, step.scope, evaluator)
    return evaluator.input_of(spec, _values(run, step, deps, evaluator), run.options.max_payload_bytes)


def secrets_of(step: StepState) -> tuple[SecretPlace, ...]:
    """Return the places of secrets in the input of a step's next attempt. The core never has their values."""
    spec = step.spec if step.original is None else _stand_in(step.spec)
    if not spec.bindings:  # the common case
        return ()
    return tuple(SecretPlace(it.target, it.source.name) for it in spec.bindings if isinstance(it.source, FromSecret))


def holds(run: RunState, step: StepState, evaluator: Evaluator) -> bool:
    """Return whether a step's condition holds.

    Raises:
        EvaluationFailed: It cannot be evaluated.
    """
    return evaluator.condition(step.spec.when, _values(run, step, step.spec.dependencies(), evaluator))


def items_of(run: RunState, step: StepState, evaluator: Evaluator) -> list[Payload]:
    """Return the items of a step's list.

    Raises:
        EvaluationFailed: There is no list, or it is too long.
    """
    assert step.spec.for_each is not None, "the step has a list"
    return evaluator.items(step.spec.for_each, _values(run, step, step.spec.dependencies(), evaluator))


def item_of(run: RunState, step: StepState, evaluator: Evaluator) -> Payload:
    """Return the item of a child of a list. The list is read once."""
    scope = step.scope
    assert scope.owner is not None, "a child of a list has an owner"
    assert step.item is not None, "a child of a list has an item"
    if scope.known_items is None:
        scope.known_items = items_of(run, scope.owner, evaluator)
    return scope.known_items[step.item]


def scope_input(run: RunState, scope: Scope, evaluator: Evaluator) -> Payload:
    """Return the input of a graph: the run's, or that of its nested workflow. It is put together once."""
    if scope.owner is None:
        return run.input
    if scope.input is not None:
        return scope.input
    if scope.is_list:
        return scope_input(run, scope.owner.scope, evaluator)
    if scope.known_input is None:
        scope.known_input = input_of(run, scope.owner, evaluator)
    return scope.known_input


def _values(run: RunState, step: StepState, deps: Sequence[str], evaluator: Evaluator) -> Values:
    """Return what a step may use. A child of a list may use what the step with the list may."""
    scope, source = step.scope, step
    if scope.is_list and scope.owner is not None:
        source = scope.owner
        deps = source.spec.dependencies()
    prefix, steps, taken = source.scope.prefix, run.steps, source.dispatched
    outputs: dict[str, Payload | None] = {}
    states: dict[str, State] = {}
    for dep_id in deps:
        dep = steps.get(prefix + dep_id)
        known = dep is not None and 0 < dep.finish <= taken
        outputs[dep_id] = dep.output if known and dep is not None else None
        states[dep_id] = dep.state if known and dep is not None else State.PENDING
    return Values(scope_input(run, scope, evaluator), outputs, states, _item(run, step, evaluator))


def _item(run: RunState, step: StepState, evaluator: Evaluator) -> Payload | None:
    """Return the item that a step or the workflow around it runs for; `None`: there is none."""
    owner = step.scope.owner
    if step.item is not None:
        return item_of(run, step, evaluator)
    return None if owner is None or owner.item is None else item_of(run, owner, evaluator)


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
