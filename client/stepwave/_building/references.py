"""Steps under construction, and references to values that only the run will have: outputs, the input and items.

References and expressions may be anywhere in a step's input. `extract` replaces them with `null`; each becomes a
binding of the contract, whose target and path are JSON Pointers (RFC 6901).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Literal, TypeAlias, cast

from stepwave._actions.typed_answers import typed_answer
from stepwave._values.json import pointer
from stepwave._values.payload import JSON, Blob, Output
from stepwave.v1 import workflow_pb2

from .cel import NoTerm, Source, Term, literal
from .expressions import Expression, StepState, WithDefault

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with a default, which Python has from 3.13 on

    T_co = TypeVar("T_co", covariant=True, default=Output)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["Bound", "Input", "Reference", "Secret", "StepHandle", "extract"]


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Reference(Expression):
    """A value, or part of it, that only the run will have. `reference["key"]` and `reference[0]` refer to its parts.

    Operators make expressions of it: see `Expression`.

    Attributes:
        owner: The workflow that it belongs to.
        source: What it is: the output of a `step`, the `input` of the run, or the `item` of a list.
        step_id: The step whose output it is; empty: another source.
        path: The keys and indexes of the part; empty: the whole value.
    """

    owner: object
    source: Literal["step", "input", "item"]
    step_id: str = ""
    path: tuple[str | int, ...] = ()

    def __getitem__(self, key: str | int) -> "Reference":
        if type(key) not in (str, int):  # exactly: a bool is an int, but no index
            raise TypeError(f"a part of {self!r} is named by a string or an index, got {key!r}")
        if isinstance(key, int) and key < 0:
            raise ValueError(f"an index into {self!r} counts from the front, got {key}")
        return Reference(self.owner, self.source, self.step_id, (*self.path, key))

    def __repr__(self) -> str:
        root = f"{self.step_id}.output" if self.step_id else self.source
        return root + "".join(f"[{part!r}]" for part in self.path)

    @property
    def term(self) -> Term:
        """Its CEL text, and the reference itself."""
        root = f"deps[{literal(self.step_id).text}].output" if self.step_id else self.source
        text = root + "".join(f"[{literal(part).text}]" for part in self.path)
        return Term(text, self.sources)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The reference itself."""
        return (Source(self.owner, self.step_id, self),)

    def to_binding(self, target: str) -> workflow_pb2.Binding:
        """Return the binding that puts the value at a JSON Pointer."""
        path = pointer(self.path)
        match self.source:
            case "step":
                return workflow_pb2.Binding(target=target, step=workflow_pb2.StepOutput(id=self.step_id, path=path))
            case "input":
                return workflow_pb2.Binding(target=target, input=path)
            case "item":
                return workflow_pb2.Binding(target=target, item=path)


@dataclass(frozen=True, slots=True, repr=False)
class StepHandle(NoTerm, Generic[T_co]):
    """A step of a workflow under construction. `StepHandle[str]` is one whose action answers a string.

    Attributes:
        owner: The workflow it belongs to.
        id: Its id.
        action: The function or class that is its action; `None`: its action is given by name, or it runs a workflow.
        is_list: Whether it runs once for every item of a list, so that its output is the list of the answers.
    """

    owner: object
    id: str
    action: Callable[..., object] | None = field(default=None, compare=False)
    is_list: bool = field(default=False, compare=False)

    if not TYPE_CHECKING:

        def __eq__(self, other: object) -> bool:
            if isinstance(other, StepHandle):
                return self.owner is other.owner and self.id == other.id
            return NoTerm.__eq__(self, other)

        def __hash__(self) -> int:
            return hash((id(self.owner), self.id))

    @property
    def output(self) -> Reference:
        """A reference to the step's output, for the inputs and conditions of other steps."""
        return Reference(self.owner, "step", self.id)

    @property
    def state(self) -> Expression:
        """The step's end state, for the conditions of other steps: `step.state == "failed"`.

        It is compared with a `State` or its text. A step that also runs after a failure has another `join` than `all`.
        """
        return StepState(self.owner, self.id)

    def typed(self, output: Output) -> T_co:
        """Return an output of the step, such as that of its `StepResult`, as the type that its action declares.

        JSON and blobs are returned as they are, without a check, also if the action declares no type. So the step of an
        action `-> int` with `Fallback(value="n/a")` may return `"n/a"`, and one of an action `-> date` that answered a
        `Blob` returns the blob. Pydantic, if it is installed, makes values of types that JSON does not have:
        dataclasses, models, enums, dates, tuples. In the output of a step that runs for every item of a list, `None`
        stays in the place of an item whose step failed.

        Raises:
            TypeError: The declared type cannot be read or made of JSON, or pydantic is not installed.
            ValueError: Pydantic cannot make a value of the declared type of this output, for example because it is a
                fallback's.
        """
        return cast("T_co", output if self.action is None else self._typed(output, self.action))

    def refusal(self) -> TypeError:
        """Return the error for its use as a value."""
        return TypeError(f"{self!r} is a step; use its `.output` or its `.state`")

    def __repr__(self) -> str:
        return f"<step {self.id!r}>"

    def _typed(self, output: Output, action: Callable[..., object]) -> Output:
        if not self.is_list:
            return typed_answer(output, action, self.id)
        return [None if item is None else typed_answer(item, action, self.id) for item in output]


@dataclass(frozen=True, slots=True, eq=False)
class Secret(NoTerm):
    """A secret of the server, anywhere in a step's input: `{"bearer": Secret("SEARCH_KEY")}`.

    The server puts its value in when an attempt starts. Workflows and results never have the value.

    Attributes:
        name: The name of the secret.
    """

    name: str

    def __post_init__(self) -> None:
        name: object = self.name
        if not isinstance(name, str) or not name:
            raise TypeError(f"a secret has a name, got {name!r}")

    @property
    def sources(self) -> tuple[Source, ...]:
        """Nothing: it belongs to no workflow."""
        return ()

    def to_binding(self, target: str) -> workflow_pb2.Binding:
        """Return the binding that puts the secret at a JSON Pointer."""
        return workflow_pb2.Binding(target=target, secret=self.name)

    def refusal(self) -> TypeError:
        """Return the error for its use in an expression."""
        return TypeError(f"{self!r} is put in by the server; it can be a value of an input, and nothing else")

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"


# A step's input: a value that JSON can hold, a blob, or references, expressions and secrets at any depth; or one alone.
Input: TypeAlias = JSON | Blob | Expression | WithDefault | Secret | Sequence["Input"] | Mapping[str, "Input"]
Bound: TypeAlias = Expression | WithDefault | Secret


def extract(value: Input) -> tuple[object, list[tuple[str, Bound]]]:
    """Separate the references, expressions and secrets of a step's input from its fixed part.

    Returns:
        The input with `None` in their place, and each with the JSON Pointer to its place.

    Raises:
        TypeError: A key is not a string, or a step is given in place of its output.
        ValueError: The input is nested beyond the interpreter's limit, or contains itself.
    """
    found: list[tuple[str, Bound]] = []
    try:
        return _strip(value, "", found), found
    except RecursionError as error:
        raise ValueError("the input is nested too deeply, or contains itself") from error


def _strip(value: object, here: str, found: list[tuple[str, Bound]]) -> object:
    match value:
        case None | str() | int() | float() | Blob():
            return value
        case Expression() | WithDefault() | Secret():
            found.append((here, value))
            return None
        case Mapping():
            return {_key(key, here): _strip(item, here + pointer((key,)), found) for key, item in value.items()}
        case list() | tuple():
            return [_strip(item, f"{here}/{index}", found) for index, item in enumerate(value)]
        case StepHandle():
            raise TypeError(f"{here or 'the input'}: {value!r} is a step; pass its `.output`")
        case _:
            return value  # not JSON: refused when it is encoded


def _key(key: object, here: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"{here or 'the input'}: keys must be strings, got {key!r}")
    return key
