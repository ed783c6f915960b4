"""The workflow builder: steps, and what flows between them, as Python says it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias, TypeVar

from google.protobuf import duration_pb2

from stepwave.v1 import run_pb2, workflow_pb2

from ._action import action_name
from ._payload import to_payload
from ._refs import Input, Reference, StepHandle, extract
from ._results import FailureReason
from ._time import Seconds, to_duration

__all__ = ["ActionLike", "Retry", "Workflow", "name_of"]

# What a step does: a marked function or class, or the name by which the server knows it.
ActionLike: TypeAlias = Callable[..., object] | str

Number = TypeVar("Number")  # of an enum of the contract


class _NotGiven(Enum):
    """Tells an input that was not given from one that is `None`, which is JSON's `null`."""

    NOT_GIVEN = "not given"


NOT_GIVEN: Final = _NotGiven.NOT_GIVEN

_SCHEDULING = {"eager": workflow_pb2.SCHEDULING_EAGER, "wave": workflow_pb2.SCHEDULING_WAVE}
_POLICIES = {"fail_fast": workflow_pb2.FAILURE_POLICY_FAIL_FAST, "continue": workflow_pb2.FAILURE_POLICY_CONTINUE}
_INTERRUPTS = {"retry": workflow_pb2.ON_INTERRUPT_RETRY, "fail": workflow_pb2.ON_INTERRUPT_FAIL}
_JOINS = {"all": workflow_pb2.JOIN_ALL, "any": workflow_pb2.JOIN_ANY, "all_done": workflow_pb2.JOIN_ALL_DONE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """When and how often a failed attempt is tried again. What is not given takes the server's default.

    Attributes:
        max_attempts: All attempts together, the first included.
        initial_backoff: The pause before the second attempt; default 500 ms.
        backoff_multiplier: The factor by which each pause exceeds the one before; default 2.
        max_backoff: The longest pause; default 30 s.
        jitter: The share of a pause that is drawn at random, 0 to 1; default 0.2.
        retryable_reasons: Failures worth another attempt; default: `action_error`, `timeout`, `unavailable` and
            `rate_limited`.
    """

    max_attempts: int
    initial_backoff: Seconds | None = None
    backoff_multiplier: float | None = None
    max_backoff: Seconds | None = None
    jitter: float | None = None
    retryable_reasons: tuple[FailureReason | str, ...] = ()

    def to_proto(self) -> workflow_pb2.Retry:
        """Return it as a message of the contract.

        Raises:
            ValueError: A reason or a length of time is not one.
        """
        return workflow_pb2.Retry(
            max_attempts=self.max_attempts,
            initial_backoff=_optional(self.initial_backoff),
            backoff_multiplier=self.backoff_multiplier or 0.0,
            max_backoff=_optional(self.max_backoff),
            jitter=self.jitter,
            retryable_reasons=[_reason_number(FailureReason(reason)) for reason in self.retryable_reasons],
        )


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
            timeout=_optional(timeout),
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
        input: Input | _NotGiven = NOT_GIVEN,
        *,
        depends_on: Iterable[StepHandle | str] = (),
        timeout: Seconds | None = None,
        join: Literal["all", "any", "all_done"] = "all",
        allow_failure: bool = False,
        retry: Retry | None = None,
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
            join: What it asks of its dependencies: `all` succeeded, `any` one did, or `all_done`, whatever became of
                them.
            allow_failure: Whether a final failure of this step leaves the run and its dependents alone.
            retry: Its own retry policy; `None`: the workflow's.
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
            timeout=_optional(timeout),
            join=_choice("join", join, _JOINS),
            allow_failure=allow_failure,
            retry=retry.to_proto() if retry else None,
            on_interrupt=_choice("on_interrupt", on_interrupt, _INTERRUPTS),
        )
        if not isinstance(input, _NotGiven):
            self._set_input(step, input)
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

    def _set_input(self, step: workflow_pb2.Step, value: Input) -> None:
        fixed, references = extract(value)
        for target, reference in references:
            if reference.owner is not self:
                raise ValueError(f"step {step.id!r}: {reference!r} belongs to another workflow, {reference.owner!r}")
            step.bindings.append(reference.to_binding(target))
        if not isinstance(value, Reference):  # one that is the whole input leaves nothing fixed
            step.input.CopyFrom(to_payload(fixed))

    def _own_id(self, item: StepHandle | str) -> str:
        if isinstance(item, str):
            return item
        if item.owner is not self:
            raise ValueError(f"{item!r} belongs to another workflow, {item.owner!r}")
        return item.id


def name_of(action: ActionLike) -> str:
    """Return the name of an action that is given by its name or as the marked function or class itself.

    Raises:
        TypeError: It is not marked.
    """
    if isinstance(action, str):
        return action
    name = action_name(action)
    if name is None:
        raise TypeError(f"{action!r} is not an action: mark it with @stepwave.action")
    return name


def _choice(option: str, value: str, choices: Mapping[str, Number]) -> Number:
    if value not in choices:
        raise ValueError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
    return choices[value]


def _optional(length: Seconds | None) -> duration_pb2.Duration | None:
    return None if length is None else to_duration(length)


def _reason_number(reason: FailureReason) -> run_pb2.FailureReason.ValueType:
    return run_pb2.FailureReason.Value(f"FAILURE_REASON_{reason.name}")
