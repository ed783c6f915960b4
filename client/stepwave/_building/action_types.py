"""Types of actions by their answers, and of a step's options. The overloads of `Workflow` are made of them."""

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Never, Protocol, Required, TypeAlias, TypedDict, TypeVar

from stepwave._values.time import Seconds

from .expressions import Expression
from .failure_policies import Fallback, Retry
from .references import Input, StepHandle

__all__ = [
    "AsyncAction",
    "Chunk",
    "InvokedClass",
    "ListAction",
    "ListOptions",
    "NestedListOptions",
    "NestedOptions",
    "OpenRunOptions",
    "Over",
    "StepOptions",
    "StreamAction",
    "T",
    "TextAction",
    "UntypedAction",
]

Result = TypeVar("Result")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# A chunk that cannot be a string. Streams of these answer a list, while strings are joined if there are no others.
Chunk = TypeVar("Chunk", bound=bool | int | float | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None)
Chunk_co = TypeVar(
    "Chunk_co", bound=bool | int | float | list[Any] | tuple[Any, ...] | Mapping[str, Any] | None, covariant=True
)

# `Iterable` is left out, because texts, lists and objects are iterables, too, and would match. A step of an action that
# returns `Iterable[T]` keeps this type, which the text or list of its answer has.
_Stream: TypeAlias = AsyncIterable[Result] | Iterator[Result]
_Chunks: TypeAlias = _Stream[Result] | Awaitable[_Stream[Result]]

# Any type, or one with `Any` for its parts: only `Any` is compatible with `Never`.
_Unknown: TypeAlias = _Chunks[Never] | Awaitable[Never]


# Classes rather than aliases, because type checkers show these names in their messages.


class UntypedFunction(Protocol):
    def __call__(self, *args: Any, **options: Any) -> _Unknown: ...


class UntypedStream(Protocol):
    @property
    def stream(self) -> UntypedFunction: ...


class UntypedInvoke(Protocol):
    @property
    def invoke(self) -> UntypedFunction: ...


class TextFunction(Protocol):
    def __call__(self, *args: Any, **options: Any) -> _Chunks[str]: ...


class TextStream(Protocol):
    @property
    def stream(self) -> TextFunction: ...


class ListFunction(Protocol[Chunk_co]):
    def __call__(self, *args: Any, **options: Any) -> _Chunks[Chunk_co]: ...


class ListStream(Protocol[Chunk_co]):
    @property
    def stream(self) -> ListFunction[Chunk_co]: ...


class StreamFunction(Protocol):
    def __call__(self, *args: Any, **options: Any) -> _Chunks[object]: ...


class Stream(Protocol):
    @property
    def stream(self) -> StreamFunction: ...


class AsyncFunction(Protocol[T_co]):
    def __call__(self, *args: Any, **options: Any) -> Awaitable[T_co]: ...


class AsyncInvoke(Protocol[T_co]):
    @property
    def invoke(self) -> AsyncFunction[T_co]: ...


class Invoke(Protocol[T_co]):
    @property
    def invoke(self) -> Callable[..., T_co]: ...


UntypedAction: TypeAlias = UntypedFunction | type[UntypedStream] | type[UntypedInvoke] | str
TextAction: TypeAlias = TextFunction | type[TextStream]
ListAction: TypeAlias = ListFunction[Chunk] | type[ListStream[Chunk]]
StreamAction: TypeAlias = StreamFunction | type[Stream]
AsyncAction: TypeAlias = AsyncFunction[T] | type[AsyncInvoke[T]]
InvokedClass: TypeAlias = type[Invoke[T]]


class OpenRunOptions(TypedDict, total=False):
    """The options of a workflow whose steps are added while it runs, as those of `Workflow`."""

    failure_policy: Literal["fail_fast", "continue"]
    max_parallelism: int
    timeout: Seconds | None
    labels: Mapping[str, str] | None
    outputs: Sequence[str] | None
    retry: Retry | None


class NestedOptions(TypedDict, total=False):
    """The options of a step that runs a workflow: those of `Workflow.step`, which describes them, but `retry`."""

    depends_on: Iterable[StepHandle | str]
    when: Expression | str | None
    timeout: Seconds | None
    total_timeout: Seconds | None
    join: Literal["all", "any", "all_done"]
    allow_failure: bool
    fallback: Fallback | None
    concurrency_key: str | None
    on_interrupt: Literal["retry", "fail"]


class StepOptions(NestedOptions, total=False):
    """The options of `Workflow.step`, which describes them."""

    retry: Retry | None


# The list that a step runs over.
Over: TypeAlias = Expression | Sequence[Input]


class NestedListOptions(NestedOptions, total=False):
    """The options of `Workflow.for_each`, which describes them, but `retry`."""

    over: Required[Over]
    input: Input
    max_parallelism: int


class ListOptions(NestedListOptions, total=False):
    """The options of `Workflow.for_each`, which describes them."""

    retry: Retry | None
