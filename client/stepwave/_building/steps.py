"""Makes the steps of a workflow under construction, as messages of the contract."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from stepwave._actions.action import ActionLike, name_of
from stepwave._values.payload import to_payload
from stepwave.v1 import workflow_pb2

from .action_types import Over, StepOptions
from .cel import Source
from .expressions import Cel, Expression, WithDefault, expression_of
from .failure_policies import Fallback, NotGiven, optional_duration, optional_retry
from .input_keys import InputKeys
from .references import Bound, Input, Reference, Secret, StepHandle, extract

__all__ = ["StepMaker", "choice", "own_ids"]

Number = TypeVar("Number")  # of an enum of the contract

_INTERRUPTS = {"retry": workflow_pb2.ON_INTERRUPT_RETRY, "fail": workflow_pb2.ON_INTERRUPT_FAIL}
_JOINS = {"all": workflow_pb2.JOIN_ALL, "any": workflow_pb2.JOIN_ANY, "all_done": workflow_pb2.JOIN_ALL_DONE}


class StepMaker:
    """Makes the steps of one workflow. `TypeError` and `ValueError` are raised as `Workflow.step` describes.

    Args:
        owner: The workflow.
    """

    def __init__(self, owner: object) -> None:
        self._owner = owner
        self._input_keys = InputKeys()

    def make(
        self, step_id: str, action: ActionLike | None, value: Input | NotGiven, options: StepOptions
    ) -> workflow_pb2.Step:
        """Return a step that runs once. Without an action, it is to run a workflow."""
        step = self._header(step_id, action, options)
        self._fill(step, action, value, options)
        if isinstance(value, NotGiven) and step.depends_on and action is not None:
            self._input_keys.check_dependencies(step_id, action, step.depends_on)
        return step

    def make_list(
        self,
        step_id: str,
        action: ActionLike | None,
        value: Input | NotGiven,
        options: StepOptions,
        over: Over,
        max_parallelism: int,
    ) -> workflow_pb2.Step:
        """Return a step that runs once for every item of a list."""
        step = self._header(step_id, action, options)
        step.for_each.max_parallelism = max_parallelism
        needed = self._set_list(step, over)
        self._fill(step, action, value, options, needed)
        return step

    def _header(self, step_id: str, action: ActionLike | None, options: StepOptions) -> workflow_pb2.Step:
        """Return a step without its input, condition and fallback."""
        retry = options.get("retry")
        if action is None and retry is not None:
            raise ValueError(f"step {step_id!r}: a step that runs a workflow has no retry; give it to that workflow")
        return workflow_pb2.Step(
            id=step_id,
            action="" if action is None else name_of(action),
            depends_on=own_ids(self._owner, "depends_on", options.get("depends_on", ())),
            timeout=optional_duration(options.get("timeout")),
            total_timeout=optional_duration(options.get("total_timeout")),
            join=choice("join", options.get("join", "all"), _JOINS),
            allow_failure=options.get("allow_failure", False),
            retry=optional_retry(retry),
            concurrency_key=options.get("concurrency_key"),
            on_interrupt=choice("on_interrupt", options.get("on_interrupt", "retry"), _INTERRUPTS),
        )

    def _fill(
        self,
        step: workflow_pb2.Step,
        action: ActionLike | None,
        value: Input | NotGiven,
        options: StepOptions,
        needed: Iterable[Source] = (),
    ) -> None:
        """Set the input, the condition and the fallback of a step, and the dependencies that its expressions need."""
        sources = [*needed, *self._set_condition(step, options.get("when"))]
        if not isinstance(value, NotGiven):
            sources += self._set_input(step.id, step, action, value)
        if (fallback := options.get("fallback")) is not None:
            sources += self._set_fallback(step, fallback)
        if sources:
            implied = {*step.depends_on, *_implied(step)}
            needed_ids = dict.fromkeys(source.step_id for source in sources)
            step.depends_on.extend(step_id for step_id in needed_ids if step_id and step_id not in implied)

    def _set_condition(self, step: workflow_pb2.Step, when: Expression | str | None) -> tuple[Source, ...]:
        """Set a condition. Returns the values that it uses."""
        if when is None:
            return ()
        if isinstance(when, str):
            when = Cel(when)
        if not isinstance(when, Expression):
            raise TypeError(
                f"step {step.id!r}: when is an expression such as search.output > 3, or a CEL text, got {when!r}"
            )
        self._check_owner(step.id, when)
        step.when = when.text
        return when.sources

    def _set_list(self, step: workflow_pb2.Step, over: Over) -> tuple[Source, ...]:
        """Set a list. Returns the values that its expression uses."""
        if isinstance(over, list | tuple):
            fixed, bound = extract(over)
            if not bound:
                step.for_each.items.CopyFrom(to_payload(fixed))
                return ()
            over = expression_of(over)
        if isinstance(over, StepHandle | WithDefault | Secret):
            raise over.refusal()
        if not isinstance(over, Expression):
            raise TypeError(f"step {step.id!r}: over is a list, a reference or an expression, got {over!r}")
        self._check_owner(step.id, over)
        if isinstance(over, Reference) and over.source != "item":
            binding = over.to_binding("")
            if over.source == "step":
                step.for_each.step.CopyFrom(binding.step)
            else:
                step.for_each.input = binding.input
            return ()
        step.for_each.expression = over.text
        return over.sources

    def _set_fallback(self, step: workflow_pb2.Step, fallback: Fallback) -> list[Source]:
        """Set a fallback. Returns the values that the expressions of its input use."""
        if not isinstance(fallback, Fallback):
            raise TypeError(f'fallback must be a Fallback, such as Fallback("cached_search"), got {fallback!r}')
        if fallback.action is None:
            step.fallback.value.CopyFrom(to_payload(fallback.value))
            return []
        step.fallback.action.action = name_of(fallback.action)
        if isinstance(fallback.input, NotGiven):
            return []
        return self._set_input(step.id, step.fallback.action, fallback.action, fallback.input)

    def _set_input(
        self,
        step_id: str,
        into: workflow_pb2.Step | workflow_pb2.FallbackAction,
        action: ActionLike | None,
        value: Input,
    ) -> list[Source]:
        """Set an input. Returns the values that its expressions use."""
        fixed, found = extract(value)
        if action is not None:
            self._input_keys.check(step_id, action, fixed)
        sources: list[Source] = []
        for target, bound in found:
            self._check_owner(step_id, bound)
            binding = bound.to_binding(target)
            if binding.WhichOneof("source") == "expression":
                sources += bound.sources
            into.bindings.append(binding)
        if not isinstance(value, Bound):  # one that is the whole input leaves no fixed part
            into.input.CopyFrom(to_payload(fixed))
        return sources

    def _check_owner(self, step_id: str, value: Bound) -> None:
        for source in value.sources:
            if source.owner is not self._owner:
                raise ValueError(
                    f"step {step_id!r}: {source.value!r} belongs to another workflow, {source.owner!r}; "
                    "a nested workflow gets values from outside as its input: pass it as the body's input"
                )


def own_ids(owner: object, option: str, items: Iterable[StepHandle | str]) -> list[str]:
    """Return the ids of steps that are given as steps or ids.

    Raises:
        TypeError: `items` is not a list of steps.
        ValueError: A step belongs to another workflow than `owner`.
    """
    if isinstance(items, str):  # iterable, too: letter by letter
        raise TypeError(f"{option} must be a list of steps, such as {option}=[{items!r}], got {items!r}")
    if isinstance(items, StepHandle):
        raise TypeError(f"{option} must be a list of steps, such as {option}=[{items.id}], got {items!r}")
    return [_own_id(owner, item) for item in items]


def choice(option: str, value: str, choices: Mapping[str, Number]) -> Number:
    """Return the number of a named value.

    Raises:
        ValueError: There is no such value.
    """
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
    return choices[value]


def _own_id(owner: object, item: StepHandle | str) -> str:
    if isinstance(item, str):
        return item
    if not isinstance(item, StepHandle):
        raise TypeError(f"{item!r} is not a step; pass the step itself, or its id")
    if item.owner is not owner:
        raise ValueError(f"{item!r} belongs to another workflow, {item.owner!r}")
    return item.id


def _implied(step: workflow_pb2.Step) -> Iterator[str]:
    """Yield the ids of the dependencies that bindings and a list imply."""
    yield step.for_each.step.id
    for binding in (*step.bindings, *step.fallback.action.bindings):
        yield binding.step.id
