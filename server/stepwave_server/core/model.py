"""Workflows, steps, failures and states: data alone."""

from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TypeAlias, TypeVar, dataclass_transform

__all__ = [
    "MAX_ITEMS",
    "MAX_MESSAGE_CONTENT",
    "MAX_NESTING",
    "MAX_PAYLOAD_BYTES",
    "RETRYABLE",
    "SECOND",
    "WAIT_ACTION",
    "WORKFLOW_ACTION",
    "Binding",
    "BindingSource",
    "Blob",
    "Failure",
    "FailureCause",
    "FailurePolicy",
    "FallbackAction",
    "ForEach",
    "FromExpression",
    "FromInput",
    "FromItem",
    "FromSecret",
    "FromStep",
    "Join",
    "OnInterrupt",
    "Payload",
    "Reason",
    "Retry",
    "Scheduling",
    "SecretPlace",
    "Skip",
    "SkipCause",
    "State",
    "Step",
    "Workflow",
    "immutable",
    "payload_size",
    "secret_mark",
]

SECOND = 1_000_000_000
"""Nanoseconds in a second. Times and durations in the server are whole nanoseconds."""

MAX_PAYLOAD_BYTES = 1 << 20
"""Bytes that a payload may have, unless the server is configured with a lower bound."""

MAX_MESSAGE_CONTENT = 1 << 20
"""Bytes of content that one message carries, about: lists and long plans are split here. No message passes 3 MiB."""

MAX_ITEMS = 100_000
"""Items that a list may have for a step to run over it."""

MAX_NESTING = 8
"""Workflows that may be nested in the workflow of a run, one in the other."""

WAIT_ACTION = "core.wait"
"""The action of steps that are completed from outside. The core starts them itself: they need no place."""

WORKFLOW_ACTION = "core.workflow"
"""The action of steps that run a nested workflow. A step with a workflow of its own has it, too."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def immutable(cls: type[T]) -> type[T]:
    """Make a class a slotted dataclass that type checkers treat as frozen.

    A dataclass that is frozen at run time takes three times as long to make. A run makes several values for every
    step, so only the type checker guards them.
    """
    return dataclass(slots=True)(cls)


class State(IntEnum):
    """State of a run or a step. Values are those of the contract."""

    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5
    SKIPPED = 6


class Scheduling(Enum):
    """When a step becomes ready: after its own dependencies, or after the whole wave before."""

    EAGER = 1
    WAVE = 2


class FailurePolicy(Enum):
    """Effect of an unhandled failure on the rest of the run."""

    FAIL_FAST = 1
    CONTINUE = 2


class Join(Enum):
    """Condition on the dependencies of a step."""

    ALL = 1
    ANY = 2
    ALL_DONE = 3


class OnInterrupt(Enum):
    """Effect of a server restart on a running attempt."""

    RETRY = 1
    FAIL = 2


class Reason(IntEnum):
    """Reason of a failure. Values are those of the contract."""

    RATE_LIMITED = 1
    TIMEOUT = 2
    UNAVAILABLE = 3
    INVALID_INPUT = 4
    UNAUTHORIZED = 5
    NOT_FOUND = 6
    ACTION_ERROR = 7
    CANCELLED = 8
    INTERRUPTED = 9
    RESOURCE_EXHAUSTED = 10
    INTERNAL = 11


class FailureCause(IntEnum):
    """Cause of a failure that no action reported. Values are those of the contract.

    It is data beside the message, so no code reads the message.
    """

    UNSPECIFIED = 0
    """The failure is an action's, or its cause was not recorded."""

    ATTEMPT_TIMEOUT = 1
    TOTAL_TIMEOUT = 2
    RUN_TIMEOUT = 3
    CLEANUP_TIMEOUT = 4
    CANCEL_REQUESTED = 5
    STEP_FAILED = 6
    NOT_NEEDED = 7
    ATTEMPT_LOST = 8
    INPUT = 9
    """The condition, the list, the input or the output could not be put together."""

    SERVER_STOPPED = 10
    """The engine ended the run: after a restart, a defect, at a limit of Temporal, or with its workflow there."""

    NESTED_STEP_FAILED = 11
    """A child of the step, or a step of its nested workflow, failed."""

    PLAN_IDLE = 12
    """No steps were added to the open run for too long."""

    DRAINED = 13
    """The server or host stopped in order while the attempt ran."""


RETRYABLE = (Reason.ACTION_ERROR, Reason.TIMEOUT, Reason.UNAVAILABLE, Reason.RATE_LIMITED)
"""The reasons that a retry policy retries by default."""


class SkipCause(IntEnum):
    """Cause of a skip. Values are those of the contract."""

    DEPENDENCY = 1
    CONDITION = 2
    FAIL_FAST = 3
    CANCELLED = 4
    TIMEOUT = 5
    NOT_NEEDED = 6


@immutable
class Blob:
    """Bytes that are not JSON."""

    content_type: str
    data: bytes


Payload: TypeAlias = str | Blob
"""A value of the contract: JSON text, or a blob."""


def payload_size(payload: Payload) -> int:
    """Return the size of a value in bytes."""
    if isinstance(payload, Blob):
        return len(payload.data)
    return len(payload) if payload.isascii() else len(payload.encode())


@immutable
class Failure:
    """Why a step or a run did not succeed.

    `retry_after` is in nanoseconds. `step_id` is empty for the run itself. `cause` is set unless an action failed.
    """

    reason: Reason
    message: str
    retryable: bool = False
    retry_after: int | None = None
    step_id: str = ""
    attempt: int = 0
    details: tuple[tuple[str, str], ...] = ()
    cause: FailureCause = FailureCause.UNSPECIFIED


@immutable
class Skip:
    """Why a step was never invoked, and the step to blame; empty: none."""

    cause: SkipCause
    step_id: str = ""


@immutable
class FromStep:
    """The output of another step, or a part of it."""

    step_id: str
    path: str = ""


@immutable
class FromInput:
    """The input of the run, or a part of it."""

    path: str = ""


@immutable
class FromItem:
    """The item that a child of a `for_each` runs for, or a part of it."""

    path: str = ""


@immutable
class FromExpression:
    """The value of a CEL expression."""

    text: str


@immutable
class FromSecret:
    """A secret, of which a run knows the name alone."""

    name: str


@immutable
class SecretPlace:
    """The place of a secret in an input: a JSON Pointer, and the name of the secret."""

    target: str
    name: str


def secret_mark(name: str) -> str:
    """Return the text that stands for the value of a secret, wherever the value must not be."""
    return f"[secret {name}]"


BindingSource: TypeAlias = FromStep | FromInput | FromItem | FromExpression | FromSecret
"""A source of a value for the input of a step."""


@immutable
class Binding:
    """A value that is put into the input of a step. `target` and paths are JSON Pointers.

    `position` is its index among the step's bindings.
    """

    target: str
    source: BindingSource
    default: Payload | None = None
    position: int = 0


@immutable
class Retry:
    """A retry policy. Durations are in nanoseconds.

    Attributes:
        max_attempts: The bound of attempts, the first one included. Attempts that a server restart ended do not count.
        initial_backoff: The pause before the second attempt.
        backoff_multiplier: The factor between one pause and the next.
        max_backoff: The longest pause.
        jitter: The random share of a pause, from 0 to 1.
        retryable_reasons: The failures that are retried.
    """

    max_attempts: int = 1
    initial_backoff: int = SECOND // 2
    backoff_multiplier: float = 2.0
    max_backoff: int = 30 * SECOND
    jitter: float = 0.2
    retryable_reasons: tuple[Reason, ...] = RETRYABLE


@immutable
class FallbackAction:
    """An action that replaces the step's own one. Without input and bindings, it gets the input of the own one."""

    action: str
    input: Payload | None = None
    bindings: tuple[Binding, ...] = ()


@immutable
class ForEach:
    """A list to run a step over: from a step, the run's input or an expression, or a literal list.

    `max_parallelism` is the largest number of children in flight; 0: no bound of its own.
    """

    source: FromStep | FromInput | FromExpression | Payload
    max_parallelism: int = 0


@immutable
class Step:
    """One unit of work.

    `timeout` and `total_timeout` are in nanoseconds; `None` means the default, and no limit. A `fallback` that is a
    payload is a fixed output. `concurrency_key` is a JSON Pointer into the input: attempts with equal values there
    share limits; `None`: no key. `when` is a CEL expression; empty: no condition. With a `workflow`, the step runs that
    in place of its action.
    """

    id: str
    action: str
    depends_on: tuple[str, ...] = ()
    input: Payload | None = None
    bindings: tuple[Binding, ...] = ()
    timeout: int | None = None
    join: Join = Join.ALL
    allow_failure: bool = False
    on_interrupt: OnInterrupt = OnInterrupt.RETRY
    retry: Retry | None = None
    total_timeout: int | None = None
    fallback: Payload | FallbackAction | None = None
    concurrency_key: str | None = None
    when: str = ""
    for_each: ForEach | None = None
    workflow: "Workflow | None" = None

    @property
    def internal(self) -> bool:
        """Whether it has no action of its own: it waits to be completed, or becomes several."""
        return self.for_each is not None or self.workflow is not None or self.action == WAIT_ACTION

    @property
    def all_bindings(self) -> tuple[Binding, ...]:
        """Its bindings, and those of its fallback."""
        if isinstance(self.fallback, FallbackAction):
            return (*self.bindings, *self.fallback.bindings)
        return self.bindings

    @property
    def edges(self) -> int:
        """Its dependencies, as bounds count them: bindings count like dependencies."""
        edges = len(self.depends_on) + len(self.bindings if self.fallback is None else self.all_bindings)
        return edges if self.for_each is None else edges + 1

    def dependencies(self) -> tuple[str, ...]:
        """Return the ids of its dependencies, each once, in order. Bindings to steps imply dependencies."""
        if not self.bindings and self.fallback is None and self.for_each is None:
            return self.depends_on if len(self.depends_on) < 2 else tuple(dict.fromkeys(self.depends_on))
        sources = [binding.source for binding in self.all_bindings]
        if self.for_each is not None and isinstance(self.for_each.source, FromStep):
            sources.append(self.for_each.source)
        implied = (source.step_id for source in sources if isinstance(source, FromStep))
        return tuple(dict.fromkeys((*self.depends_on, *implied)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow: steps in declaration order, and policies. `timeout` is in nanoseconds.

    `retry` is the policy of steps that have none of their own. `input_schema` is the JSON Schema of the input; empty:
    any input.
    """

    name: str
    steps: tuple[Step, ...] = ()
    scheduling: Scheduling = Scheduling.EAGER
    failure_policy: FailurePolicy = FailurePolicy.FAIL_FAST
    max_parallelism: int = 0
    timeout: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    retry: Retry | None = None
    input_schema: str = ""
