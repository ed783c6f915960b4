"""The workflow builder."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Unpack, cast, overload

from stepwave._actions.action import ActionLike, is_same_target, name_of
from stepwave._values.payload import JSON, dump_json
from stepwave._values.time import Seconds
from stepwave.v1 import workflow_pb2

from .action_types import (
    AsyncAction,
    Chunk,
    InvokedClass,
    ListAction,
    ListOptions,
    NestedListOptions,
    NestedOptions,
    Over,
    StepOptions,
    StreamAction,
    T,
    TextAction,
    UntypedAction,
)
from .expressions import Expression
from .failure_policies import NOT_GIVEN, Fallback, NotGiven, Retry, optional_duration, optional_retry
from .references import Input, Reference, StepHandle
from .steps import StepMaker, choice, own_ids

__all__ = ["ActionLike", "Workflow", "name_of"]

_SCHEDULING = {"eager": workflow_pb2.SCHEDULING_EAGER, "wave": workflow_pb2.SCHEDULING_WAVE}
_POLICIES = {"fail_fast": workflow_pb2.FAILURE_POLICY_FAIL_FAST, "continue": workflow_pb2.FAILURE_POLICY_CONTINUE}


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
        input_schema: A JSON Schema (draft 2020-12) of the run's input. The server refuses a run whose input does not
            match. `None`: any input.

    Raises:
        TypeError: The schema is not a dict.
        ValueError: An option is not one of its named values, or JSON cannot hold the schema.
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
        input_schema: Mapping[str, JSON] | None = None,
    ) -> None:
        self.name = name
        self.outputs = outputs
        self._steps: list[workflow_pb2.Step] = []
        self._maker = StepMaker(self)
        self._nested: dict[str, Workflow] = {}  # by the id of the step that runs it
        self._ids: set[str] = set()
        self._header = workflow_pb2.Workflow(
            name=name,
            scheduling=choice("scheduling", scheduling, _SCHEDULING),
            failure_policy=choice("failure_policy", failure_policy, _POLICIES),
            max_parallelism=max_parallelism,
            timeout=optional_duration(timeout),
            labels=labels,
            retry=optional_retry(retry),
            input_schema=_schema_text(input_schema),
        )
        self._targets: dict[str, list[Callable[..., object]]] = {}  # by action name

    @property
    def input(self) -> Reference:
        """A reference to the run's input, for the inputs and conditions of steps.

        In a workflow that a step runs, it is the input of that step.
        """
        return Reference(self, "input")

    @property
    def item(self) -> Reference:
        """A reference to the current item of a list, for the input of a `for_each`: `{"url": flow.item["url"]}`.

        The steps of a workflow that a `for_each` runs may use it too, with their own workflow's `item`.
        """
        return Reference(self, "item")

    @property
    def actions(self) -> tuple[Callable[..., object], ...]:
        """The functions and classes that steps and fallbacks have as actions, each once; not those given by name.

        Those of nested workflows are among them. `AsyncClient.local`, `Client.local` and
        `stepwave.testing.run_scripted` use them without being given them. For a server by itself:
        `stepwave.testing.serve(flow.actions)`.
        """
        found = {name: list(targets) for name, targets in self._targets.items()}
        for target in (target for nested in self.nested for target in nested.actions):
            _add_target(found, target)
        return tuple(target for targets in found.values() for target in targets)

    @property
    def nested(self) -> "tuple[Workflow, ...]":
        """The workflows that its steps run, in the order of the steps."""
        return tuple(self._nested.values())

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

    @overload
    def step(
        self,
        step_id: str,
        *,
        workflow: "Workflow",
        input: Input | NotGiven = NOT_GIVEN,
        **options: Unpack[NestedOptions],
    ) -> StepHandle[dict[str, Any]]: ...

    def step(
        self,
        step_id: str,
        action: ActionLike | None = None,
        input: Input | NotGiven = NOT_GIVEN,
        *,
        workflow: "Workflow | None" = None,
        depends_on: Iterable[StepHandle | str] = (),
        when: Expression | str | None = None,
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
            input: The step's input, with references (`other.output["part"]`, `flow.input`) and expressions
                (`other.output["n"] + 1`, `Cel("…")`) at any depth. The steps that they name become dependencies; those
                that a `Cel` names must be given. Default: the run's input if the step has no dependencies, else an
                object of their outputs by id. `None` is `null`.
            workflow: A workflow to run in place of an action, within the run. Its `input` is the step's input. The
                output is an object of its outputs by step id. It may get more steps later.
            depends_on: Steps that must end before this one starts, beside those that the input and the condition name.
            when: The condition, evaluated when the dependencies have ended as `join` says: an expression, such as
                `search.output["hits"] > 3`, or a CEL text. If it is false, the step is skipped. The steps that an
                expression names become dependencies; those that a CEL text names must be given.
            timeout: The longest that one attempt may take, in seconds or as a `timedelta`; `None`: the server's
                default.
            total_timeout: The longest that all attempts, pauses and waiting may take together, from when the step is
                ready; `None`: no limit.
            join: The condition on the dependencies: `all` succeeded, `any` one succeeded, or `all_done`: all ended.
            allow_failure: Whether the run and the step's dependents continue after the step's failure.
            retry: The step's retry policy; `None`: the workflow's. A step that runs a workflow has none.
            fallback: The answer after the last attempt has failed; `None`: there is none.
            concurrency_key: A JSON Pointer into the input, such as `/tenant`. Limits by key count each value there
                separately. `None`, or no value there: all such steps count together.
            on_interrupt: What to do when the server stops during an attempt. `retry`: make another attempt when a
                server continues the run; it does not count as an attempt of the retry policy, but the fourth crash of a
                server fails the step. `fail`: fail the step, for actions that must not run twice.

        Raises:
            TypeError: There is not exactly one of `action` and `workflow`. The action is not marked, a key of the input
                is not a string, a step is given in place of its output, `depends_on` is not a list of steps, or `when`
                is no condition. Or the action's function has no parameter for a key of the input, or needs a key that
                the input, or the object of outputs in its place, lacks.
            ValueError: The workflow has a step of this id already, a reference or dependency belongs to another
                workflow, JSON cannot hold the input, an option is not one of its named values, or a workflow would
                contain itself.
        """
        self._check_new(step_id, action, workflow)
        options = StepOptions(
            depends_on=depends_on,
            when=when,
            timeout=timeout,
            total_timeout=total_timeout,
            join=join,
            allow_failure=allow_failure,
            retry=retry,
            fallback=fallback,
            concurrency_key=concurrency_key,
            on_interrupt=on_interrupt,
        )
        made = self._maker.make(step_id, action, input, options)
        return self._complete(made, action, workflow, fallback)

    @overload
    def for_each(
        self, step_id: str, *, action: UntypedAction, **options: Unpack[ListOptions]
    ) -> StepHandle[list[Any]]: ...

    @overload
    def for_each(
        self, step_id: str, *, action: TextAction, **options: Unpack[ListOptions]
    ) -> StepHandle[list[str]]: ...

    @overload
    def for_each(
        self, step_id: str, *, action: ListAction[Chunk], **options: Unpack[ListOptions]
    ) -> StepHandle[list[list[Chunk]]]: ...

    @overload
    def for_each(
        self, step_id: str, *, action: StreamAction, **options: Unpack[ListOptions]
    ) -> StepHandle[list[Any]]: ...

    @overload
    def for_each(
        self, step_id: str, *, action: AsyncAction[T], **options: Unpack[ListOptions]
    ) -> StepHandle[list[T]]: ...

    @overload
    def for_each(
        self, step_id: str, *, action: InvokedClass[T], **options: Unpack[ListOptions]
    ) -> StepHandle[list[T]]: ...

    @overload
    def for_each(
        self, step_id: str, *, action: Callable[..., T], **options: Unpack[ListOptions]
    ) -> StepHandle[list[T]]: ...

    @overload
    def for_each(
        self, step_id: str, *, workflow: "Workflow", **options: Unpack[NestedListOptions]
    ) -> StepHandle[list[dict[str, Any]]]: ...

    def for_each(
        self,
        step_id: str,
        *,
        over: Over,
        action: ActionLike | None = None,
        workflow: "Workflow | None" = None,
        input: Input | NotGiven = NOT_GIVEN,
        max_parallelism: int = 0,
        **options: Any,
    ) -> StepHandle[Any]:
        """Add a step that runs an action, or a workflow, once for every item of a list.

            pages = flow.for_each("pages", over=search.output["urls"], action=fetch, input={"url": flow.item})

        The output is the list of the answers, in the order of the items; of no items, `[]`. Each item has a child step
        of its own, `pages[0]`, `pages[1]`, …, with all options of this one but `depends_on`, `when` and `join`. A child
        that fails, fails the step, by the workflow's `failure_policy`: at once, or after all children. With
        `allow_failure`, it leaves `None` in the list, and the step succeeds.

        Args:
            step_id: The step's id, unique in the workflow.
            over: The list: a reference (`search.output["urls"]`, `flow.input["urls"]`), an expression, or a list. At
                most 100,000 items.
            action: The action that each item gets, as for `step`.
            workflow: The workflow that each item gets in place of an action. Its `input` is the child's input. The
                items go through its steps without waiting for each other.
            input: A child's input, as for `step`; `flow.item` refers to the item. Default: the item.
            max_parallelism: The largest number of children in flight at once; 0: no limit but the workflow's.
            options: The other options of `step`.

        Raises:
            TypeError: As for `step`, or `over` is no list.
            ValueError: As for `step`.
        """
        _check_options(options)
        self._check_new(step_id, action, workflow)
        given = cast("StepOptions", options)
        made = self._maker.make_list(step_id, action, input, given, over, max_parallelism)
        return self._complete(made, action, workflow, given.get("fallback"))

    def to_proto(self) -> workflow_pb2.Workflow:
        """Convert to a message of the contract.

        Raises:
            TypeError: `outputs` is not a list of steps.
            ValueError: One of `outputs` belongs to another workflow.
        """
        workflow = workflow_pb2.Workflow()
        workflow.CopyFrom(self._header)
        workflow.steps.extend(self._steps)
        for step in workflow.steps if self._nested else ():
            if step.id in self._nested:
                step.workflow.CopyFrom(self._nested[step.id].to_proto())
        workflow.outputs.extend(own_ids(self, "outputs", self.outputs or ()))
        return workflow

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {len(self._steps)} steps>"

    def _check_new(self, step_id: str, action: ActionLike | None, workflow: "Workflow | None") -> None:
        if step_id in self._ids:
            raise ValueError(f"the workflow has a step {step_id!r} already; ids are unique")
        if (action is None) == (workflow is None):
            raise TypeError(f"step {step_id!r}: exactly one of action and workflow is needed")
        if workflow is None:
            return
        if not isinstance(workflow, Workflow):
            raise TypeError(f"step {step_id!r}: workflow must be a Workflow, got {workflow!r}")
        if _reaches(workflow, self):
            raise ValueError(f"step {step_id!r}: {self!r} would contain itself")

    def _add(self, step: workflow_pb2.Step) -> None:
        """Add a step that is complete."""
        self._steps.append(step)
        self._ids.add(step.id)

    def _complete(
        self,
        step: workflow_pb2.Step,
        action: ActionLike | None,
        workflow: "Workflow | None",
        fallback: Fallback | None,
    ) -> StepHandle[Any]:
        """Complete and add a step, and return its handle."""
        if workflow is not None:
            step.workflow.CopyFrom(workflow.to_proto())
            self._nested[step.id] = workflow
        for used in (action, fallback.action if fallback is not None else None):
            if used is not None and not isinstance(used, str):
                _add_target(self._targets, used)
        self._add(step)
        function = None if isinstance(action, str) else action
        return StepHandle(self, step.id, function, is_list=step.HasField("for_each"))


def _reaches(workflow: Workflow, other: Workflow) -> bool:
    return workflow is other or any(_reaches(nested, other) for nested in workflow.nested)


def _add_target(targets: dict[str, list[Callable[..., object]]], action: Callable[..., object]) -> None:
    """Add a function or class to those of its name, unless it is there."""
    same_name = targets.setdefault(name_of(action), [])
    if not any(is_same_target(action, target) for target in same_name):
        same_name.append(action)


def _check_options(options: Mapping[str, object]) -> None:
    for name in options:
        if name not in StepOptions.__annotations__:
            raise TypeError(f"Workflow.for_each() got an unexpected keyword argument {name!r}")


def _schema_text(schema: Mapping[str, JSON] | None) -> str:
    if schema is None:
        return ""
    if not isinstance(schema, Mapping):
        raise TypeError(f"input_schema must be a dict, the JSON Schema of the input, got {schema!r}")
    return dump_json(schema)
