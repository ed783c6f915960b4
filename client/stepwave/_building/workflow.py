"""The workflow builder."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar, Unpack, overload

from stepwave._actions.action import ActionLike, is_same_target, name_of
from stepwave._values.payload import to_payload
from stepwave._values.time import Seconds
from stepwave.v1 import workflow_pb2

from .action_types import (
    AsyncAction,
    Chunk,
    InvokedClass,
    ListAction,
    StepOptions,
    StreamAction,
    T,
    TextAction,
    UntypedAction,
)
from .failure_policies import NOT_GIVEN, Fallback, NotGiven, Retry, optional_duration
from .input_keys import InputKeys
from .references import Input, Reference, StepHandle, extract

__all__ = ["ActionLike", "Workflow", "name_of"]

Number = TypeVar("Number")  # of an enum of the contract


_SCHEDULING = {"eager": workflow_pb2.SCHEDULING_EAGER, "wave": workflow_pb2.SCHEDULING_WAVE}
_POLICIES = {"fail_fast": workflow_pb2.FAILURE_POLICY_FAIL_FAST, "continue": workflow_pb2.FAILURE_POLICY_CONTINUE}
_INTERRUPTS = {"retry": workflow_pb2.ON_INTERRUPT_RETRY, "fail": workflow_pb2.ON_INTERRUPT_FAIL}
_JOINS = {"all": workflow_pb2.JOIN_ALL, "any": workflow_pb2.JOIN_ANY, "all_done": workflow_pb2.JOIN_ALL_DONE}


class Workflow:
    """A graph of steps under construction. It is data, for a client to run.

    The server checks the graph, and reports all problems at once, such as a cycle or an unknown dependency.

    A server gets the names of the actions alone. A server in the client's process also gets the functions and classes:
    see `actions`.

    Args:
        name: The workflow's name in lists and traces.
        scheduling: When a step becomes ready: `eager`, as soon as its dependencies have ended; `wave`, once all steps
            of earlier waves have ended.
        failure_policy: The effect of an unhandled failure on other steps: `fail_fast` interrupts them, `continue` runs
            those that still can.
        max_parallelism: The largest number of attempts of a run in flight at once; 0: no limit but the server's.
        timeout: The longest that a run may take, in seconds or as a `timedelta`; `None`: no limit.
        labels: Key-value pairs to find runs by.
        outputs: The steps whose outputs are the run's; `None`: every succeeded step that nothing depends on. The
            attribute of this name may be set later.
        retry: The retry policy of steps without one of their own.

    Raises:
        ValueError: An option is not one of its named values.
    """

    def __init__(
        self,
        name: str,
        *,
        scheduling: Literal["eager", "wave"] = "eager",
        failure_policy: Literal["fail_fast", "continue"] = "fail_fast",
        max_parallelism: int = 0,
        timeout: Seconds | None = None,
        labels: Mapping[str, str] | None = None,
        outputs: Sequence[StepHandle | str] | None = None,
        retry: Retry | None = None,
    ) -> None:
        self.name = name
        self.outputs = outputs
        self._steps: list[workflow_pb2.Step] = []
        self._input_keys = InputKeys()
        self._ids: set[str] = set()
        self._header = workflow_pb2.Workflow(
            name=name,
            scheduling=_choice("scheduling", scheduling, _SCHEDULING),
            failure_policy=_choice("failure_policy", failure_policy, _POLICIES),
            max_parallelism=max_parallelism,
            timeout=optional_duration(timeout),
            labels=labels,
            retry=retry.to_proto() if retry else None,
        )
        self._targets: dict[str, list[Callable[..., object]]] = {}  # by action name

    @property
    def input(self) -> Reference:
        """A reference to the run's input, for the inputs of steps."""
        return Reference(self, None)

    @property
    def actions(self) -> tuple[Callable[..., object], ...]:
        """The functions and classes that steps and fallbacks have as actions, each once; not those given by name.

        `AsyncClient.local`, `Client.local` and `stepwave.testing.run_scripted` use them without being given them. For a
        server by itself: `stepwave.testing.serve(flow.actions)`.
        """
        return tuple(target for targets in self._targets.values() for target in targets)

    @overload
    def step(
        self, step_id: str, action: UntypedAction, input: Input | NotGiven = NOT_GIVEN, **options: Unpack[StepOptions]
    ) -> StepHandle: ...

    @overload
    def step(
        self, step_id: str, action: TextAction, input: Input | NotGiven = NOT_GIVEN, **options: Unpack[StepOptions]
    ) -> StepHandle[str]: ...

    @overload
    def step(
        self,
        step_id: str,
        action: ListAction[Chunk],
        input: Input | NotGiven = NOT_GIVEN,
        **options: Unpack[StepOptions],
    ) -> StepHandle[list[Chunk]]: ...

    @overload
    def step(
        self, step_id: str, action: StreamAction, input: Input | NotGiven = NOT_GIVEN, **options: Unpack[StepOptions]
    ) -> StepHandle: ...

    @overload
    def step(
        self,
        step_id: str,
        action: AsyncAction[T],
        input: Input | NotGiven = NOT_GIVEN,
        **options: Unpack[StepOptions],
    ) -> StepHandle[T]: ...

    @overload
    def step(
        self,
        step_id: str,
        action: InvokedClass[T],
        input: Input | NotGiven = NOT_GIVEN,
        **options: Unpack[StepOptions],
    ) -> StepHandle[T]: ...

    @overload
    def step(
        self,
        step_id: str,
        action: Callable[..., T],
        input: Input | NotGiven = NOT_GIVEN,
        **options: Unpack[StepOptions],
    ) -> StepHandle[T]: ...

    def step(
        self,
        step_id: str,
        action: ActionLike,
        input: Input | NotGiven = NOT_GIVEN,
        *,
        depends_on: Iterable[StepHandle | str] = (),
        timeout: Seconds | None = None,
        total_timeout: Seconds | None = None,
        join: Literal["all", "any", "all_done"] = "all",
        allow_failure: bool = False,
        retry: Retry | None = None,
        fallback: Fallback | None = None,
        concurrency_key: str | None = None,
        on_interrupt: Literal["retry", "fail"] = "retry",
    ) -> StepHandle:
        """Add a step.

        Type checkers see the type of the action's answer in that of the step: see `RunResult.__getitem__`. A fallback
        should answer the same type.

        Args:
            step_id: The step's id, unique in the workflow.
            action: A function or class marked with `action`, or the name of an action of the server. A remote server
                must have an action of the function's name.
            input: The step's input, with references (`other.output["part"]`, `flow.input`) at any depth. A reference to
                a step makes it a dependency. Default: the run's input if the step has no dependencies, else an object
                of their outputs by id. `None` is `null`.
            depends_on: Steps that must end before this one starts, beside those that the input refers to.
            timeout: The longest that one attempt may take, in seconds or as a `timedelta`; `None`: the server's
                default.
            total_timeout: The longest that all attempts, pauses and waiting may take together, from when the step is
                ready; `None`: no limit.
            join: The condition on the dependencies: `all` succeeded, `any` one succeeded, or `all_done`: all ended.
            allow_failure: Whether the run and the step's dependents continue after the step's failure.
            retry: The step's retry policy; `None`: the workflow's.
            fallback: The answer after the last attempt has failed; `None`: there is none.
            concurrency_key: A JSON Pointer into the input, such as `/tenant`. Limits by key count each value there
                separately. `None`, or no value there: all such steps count together.
            on_interrupt: What to do when the server stops during an attempt. `retry`: make another attempt when a
                server continues the run; up to three of these do not count as attempts of the retry policy, the
                fourth interruption fails the step. `fail`: fail the step, for actions that must not run twice.

        Raises:
            TypeError: The action is not marked, a key of the input is not a string, a step is given in place of its
                output, or `depends_on` is not a list of steps. Or the action's function has no parameter for a key of
                the input, or needs a key that the input, or the object of outputs in its place, lacks.
            ValueError: The workflow has a step of this id already, a reference or dependency belongs to another
                workflow, JSON cannot hold the input, or an option is not one of its named values.
        """
        if step_id in self._ids:
            raise ValueError(f"the workflow has a step {step_id!r} already; ids are unique")
        step = workflow_pb2.Step(
            id=step_id,
            action=name_of(action),
            depends_on=self._own_ids("depends_on", depends_on),
            timeout=optional_duration(timeout),
            total_timeout=optional_duration(total_timeout),
            join=_choice("join", join, _JOINS),
            allow_failure=allow_failure,
            retry=retry.to_proto() if retry else None,
            concurrency_key=concurrency_key,
            on_interrupt=_choice("on_interrupt", on_interrupt, _INTERRUPTS),
        )
        if not isinstance(input, NotGiven):
            self._set_input(step_id, step, action, input)
        elif step.depends_on:
            self._input_keys.check_dependencies(step_id, action, step.depends_on)
        if fallback is not None:
            self._set_fallback(step, fallback)
        self._remember(action)
        if fallback is not None and fallback.action is not None:
            self._remember(fallback.action)
        self._add(step)
        return StepHandle(self, step_id, None if isinstance(action, str) else action)

    def to_proto(self) -> workflow_pb2.Workflow:
        """Convert to a message of the contract.

        Raises:
            TypeError: `outputs` is not a list of steps.
            ValueError: One of `outputs` belongs to another workflow.
        """
        workflow = workflow_pb2.Workflow()
        workflow.CopyFrom(self._header)
        workflow.steps.extend(self._steps)
        workflow.outputs.extend(self._own_ids("outputs", self.outputs or ()))
        return workflow

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {len(self._steps)} steps>"

    def _add(self, step: workflow_pb2.Step) -> None:
        """Add a step that is complete. An open run sends it, too."""
        self._steps.append(step)
        self._ids.add(step.id)

    def _remember(self, action: ActionLike) -> None:
        if isinstance(action, str):
            return
        targets = self._targets.setdefault(name_of(action), [])
        if not any(is_same_target(action, target) for target in targets):
            targets.append(action)

    def _set_fallback(self, step: workflow_pb2.Step, fallback: Fallback) -> None:
        if not isinstance(fallback, Fallback):
            raise TypeError(f'fallback must be a Fallback, such as Fallback("cached_search"), got {fallback!r}')
        if fallback.action is None:
            step.fallback.value.CopyFrom(to_payload(fallback.value))
            return
        step.fallback.action.action = name_of(fallback.action)
        if not isinstance(fallback.input, NotGiven):
            self._set_input(step.id, step.fallback.action, fallback.action, fallback.input)

    def _set_input(
        self, step_id: str, into: workflow_pb2.Step | workflow_pb2.FallbackAction, action: ActionLike, value: Input
    ) -> None:
        fixed, references = extract(value)
        self._input_keys.check(step_id, action, fixed)
        for target, reference in references:
            if reference.owner is not self:
                raise ValueError(f"step {step_id!r}: {reference!r} belongs to another workflow, {reference.owner!r}")
            into.bindings.append(reference.to_binding(target))
        if not isinstance(value, Reference):  # a reference that is the whole input leaves no fixed part
            into.input.CopyFrom(to_payload(fixed))

    def _own_ids(self, option: str, items: Iterable[StepHandle | str]) -> list[str]:
        if isinstance(items, str):  # iterable, too: letter by letter
            raise TypeError(f"{option} must be a list of steps, such as {option}=[{items!r}], got {items!r}")
        if isinstance(items, StepHandle):
            raise TypeError(f"{option} must be a list of steps, such as {option}=[{items.id}], got {items!r}")
        return [self._own_id(item) for item in items]

    def _own_id(self, item: StepHandle | str) -> str:
        if isinstance(item, str):
            return item
        if not isinstance(item, StepHandle):
            raise TypeError(f"{item!r} is not a step; pass the step itself, or its id")
        if item.owner is not self:
            raise ValueError(f"{item!r} belongs to another workflow, {item.owner!r}")
        return item.id


def _choice(option: str, value: str, choices: Mapping[str, Number]) -> Number:
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
    return choices[value]
