"""The workflow builder: steps, and what flows between them, as Python says it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from stepwave._actions.action import ActionLike, name_of
from stepwave._values.payload import to_payload
from stepwave._values.time import Seconds
from stepwave.v1 import workflow_pb2

from .failure_policies import NOT_GIVEN, Fallback, NotGiven, Retry, optional_duration
from .references import Input, Reference, StepHandle, extract

__all__ = ["ActionLike", "Workflow", "name_of"]

Number = TypeVar("Number")  # of an enum of the contract


_SCHEDULING = {"eager": workflow_pb2.SCHEDULING_EAGER, "wave": workflow_pb2.SCHEDULING_WAVE}
_POLICIES = {"fail_fast": workflow_pb2.FAILURE_POLICY_FAIL_FAST, "continue": workflow_pb2.FAILURE_POLICY_CONTINUE}
_INTERRUPTS = {"retry": workflow_pb2.ON_INTERRUPT_RETRY, "fail": workflow_pb2.ON_INTERRUPT_FAIL}
_JOINS = {"all": workflow_pb2.JOIN_ALL, "any": workflow_pb2.JOIN_ANY, "all_done": workflow_pb2.JOIN_ALL_DONE}


class Workflow:
    """A graph of steps under construction; data, to be run by a client.

    What is wrong with the graph, such as a cycle or an id given twice, is for the server to say, all of it at once.

    Args:
        name: A name for people, traces and lists.
        scheduling: When a step becomes ready: `eager`, the moment its own dependencies are done; `wave`, when every
            step of all earlier waves is.
        failure_policy: What an unhandled failure does to the rest: `fail_fast` interrupts it, `continue` lets run what
            still can.
        max_parallelism: How many attempts of a run may be in flight at once; 0: as many as the server admits.
        timeout: How long a run may take, in seconds or as a `timedelta`; `None`: no limit.
        labels: Free key-value pairs for finding runs again.
        outputs: The steps whose outputs are the run's; `None`: every succeeded step that nothing depends on. May be set
            later, as the attribute of that name.
        retry: The retry policy of steps that have none of their own.

    Raises:
        ValueError: A choice is not one of those named here.
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
        self._frame = workflow_pb2.Workflow(
            name=name,
            scheduling=_choice("scheduling", scheduling, _SCHEDULING),
            failure_policy=_choice("failure_policy", failure_policy, _POLICIES),
            max_parallelism=max_parallelism,
            timeout=optional_duration(timeout),
            labels=labels,
            retry=retry.to_proto() if retry else None,
        )

    @property
    def input(self) -> Reference:
        """The run's input, to be put into the inputs of steps."""
        return Reference(self, None)

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

        Args:
            step_id: Its id, unique in the workflow.
            action: What it does: a function or class marked with `action`, or the name of an action of the server.
            input: Its input, with references (`other.output["part"]`, `flow.input`) at any depth; a reference makes the
                step depend on the one it refers to. Not given: a step without dependencies gets the run's input, one
                with dependencies an object of their outputs by id. `None` is `null`.
            depends_on: Steps that must end before this one starts, beside those it refers to.
            timeout: How long one attempt may take, in seconds or as a `timedelta`; `None`: the server's default.
            total_timeout: How long it may take over all its attempts, pauses and waiting, from when its dependencies
                allowed it to start; `None`: no limit.
            join: What it asks of its dependencies: `all` succeeded, `any` one did, or `all_done`, whatever became of
                them.
            allow_failure: Whether a final failure of this step leaves the run and its dependents alone.
            retry: Its own retry policy; `None`: the workflow's.
            fallback: What answers in its place once it has finally failed; `None`: nothing does.
            concurrency_key: A JSON Pointer into its input, such as `/tenant`: what the server limits by key, it limits
                for each value there apart. `None`, or nothing there: it counts with all others of that kind.
            on_interrupt: What becomes of it when the server stops while an attempt runs: `retry`, another attempt once
                a server goes on with the run, which uses up none of the policy's (the fourth time it fails all the
                same); or `fail`, for what must not happen twice.

        Raises:
            TypeError: The action is not marked, a key of the input is not a string, or a step stands where its output
                is meant.
            ValueError: A reference or dependency belongs to another workflow, JSON cannot hold the input, or a choice
                is not one of those named here.
        """
        step = workflow_pb2.Step(
            id=step_id,
            action=name_of(action),
            depends_on=[self._own_id(item) for item in depends_on],
            timeout=optional_duration(timeout),
            total_timeout=optional_duration(total_timeout),
            join=_choice("join", join, _JOINS),
            allow_failure=allow_failure,
            retry=retry.to_proto() if retry else None,
            concurrency_key=concurrency_key,
            on_interrupt=_choice("on_interrupt", on_interrupt, _INTERRUPTS),
        )
        if not isinstance(input, NotGiven):
            self._set_input(step_id, step, input)
        if fallback is not None:
            self._set_fallback(step, fallback)
        self._steps.append(step)
        return StepHandle(self, step_id)

    def to_proto(self) -> workflow_pb2.Workflow:
        """Return the workflow as a message of the contract.

        Raises:
            ValueError: One of `outputs` belongs to another workflow.
        """
        workflow = workflow_pb2.Workflow()
        workflow.CopyFrom(self._frame)
        workflow.steps.extend(self._steps)
        workflow.outputs.extend(self._own_id(item) for item in self.outputs or ())
        return workflow

    def __repr__(self) -> str:
        return f"<Workflow {self.name!r}: {len(self._steps)} steps>"

    def _set_fallback(self, step: workflow_pb2.Step, fallback: Fallback) -> None:
        if not isinstance(fallback, Fallback):
            raise TypeError(f'a fallback is a Fallback, as Fallback("cached_search"), got {fallback!r}')
        if fallback.action is None:
            step.fallback.value.CopyFrom(to_payload(fallback.value))
            return
        step.fallback.action.action = name_of(fallback.action)
        if not isinstance(fallback.input, NotGiven):
            self._set_input(step.id, step.fallback.action, fallback.input)

    def _set_input(self, step_id: str, into: workflow_pb2.Step | workflow_pb2.FallbackAction, value: Input) -> None:
        fixed, references = extract(value)
        for target, reference in references:
            if reference.owner is not self:
                raise ValueError(f"step {step_id!r}: {reference!r} belongs to another workflow, {reference.owner!r}")
            into.bindings.append(reference.to_binding(target))
        if not isinstance(value, Reference):  # one that is the whole input leaves nothing fixed
            into.input.CopyFrom(to_payload(fixed))

    def _own_id(self, item: StepHandle | str) -> str:
        if isinstance(item, str):
            return item
        if item.owner is not self:
            raise ValueError(f"{item!r} belongs to another workflow, {item.owner!r}")
        return item.id


def _choice(option: str, value: str, choices: Mapping[str, Number]) -> Number:
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
    return choices[value]
