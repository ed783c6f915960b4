"""Steps under construction, and references to values that only the run will have: outputs and the run's input.

A reference may be anywhere in a step's input. `extract` replaces references with `null`; each becomes a binding of the
contract, whose target and path are JSON Pointers (RFC 6901).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, NoReturn, TypeAlias, cast

from stepwave._actions.typed_answers import typed_answer
from stepwave._values.json import pointer
from stepwave._values.payload import JSON, Blob, Output
from stepwave.v1 import workflow_pb2

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with a default, which Python has from 3.13 on

    T_co = TypeVar("T_co", covariant=True, default=Output)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["Input", "Reference", "StepHandle", "extract"]


@dataclass(frozen=True, slots=True, repr=False)
class Reference:
    """A value, or part of it, that only the run will have. `reference["key"]` and `reference[0]` refer to its parts.

    Attributes:
        owner: The workflow that it belongs to.
        step_id: The step whose output it is; `None`: it is the run's input.
        path: The keys and indexes of the part; empty: the whole value.
    """

    owner: object
    step_id: str | None
    path: tuple[str | int, ...] = ()

    # Without these, `__getitem__` would make iteration endless.
    __iter__ = None
    __contains__ = None

    def __getitem__(self, key: str | int) -> "Reference":
        if type(key) not in (str, int):  # exactly: a bool is an int, but no index
            raise TypeError(f"a part of {self!r} is named by a string or an index, got {key!r}")
        if isinstance(key, int) and key < 0:
            raise ValueError(f"an index into {self!r} counts from the front, got {key}")
        return Reference(self.owner, self.step_id, (*self.path, key))

    def __bool__(self) -> NoReturn:
        raise TypeError(f"{self!r} has no value before the run: it is neither true nor false")

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError(
            f"{self!r} has no value before the run: it cannot be part of a text; pass it as a value of its own"
        )

    def __repr__(self) -> str:
        root = "input" if self.step_id is None else f"{self.step_id}.output"
        return root + "".join(f"[{part!r}]" for part in self.path)

    def to_binding(self, target: str) -> workflow_pb2.Binding:
        """Return the binding that puts the value at a JSON Pointer."""
        path = pointer(self.path)
        if self.step_id is None:
            return workflow_pb2.Binding(target=target, input=path)
        return workflow_pb2.Binding(target=target, step=workflow_pb2.StepOutput(id=self.step_id, path=path))


@dataclass(frozen=True, slots=True, repr=False)
class StepHandle(Generic[T_co]):
    """A step of a workflow under construction. `StepHandle[str]` is one whose action answers a string.

    Attributes:
        owner: The workflow it belongs to.
        id: Its id.
        action: The function or class that is its action; `None`: its action is given by name.
    """

    owner: object
    id: str
    action: Callable[..., object] | None = field(default=None, compare=False)

    @property
    def output(self) -> Reference:
        """A reference to the step's output, for the inputs of other steps."""
        return Reference(self.owner, self.id)

    def typed(self, output: Output) -> T_co:
        """Return an output of the step, such as that of its `StepResult`, as the type that its action declares.

        JSON and blobs are returned as they are, without a check, also if the action declares no type. So the step of an
        action `-> int` with `Fallback(value="n/a")` may return `"n/a"`, and one of an action `-> date` that answered a
        `Blob` returns the blob. Pydantic, if it is installed, makes values of types that JSON does not have:
        dataclasses, models, enums, dates, tuples.

        Raises:
            TypeError: The declared type cannot be read or made of JSON, or pydantic is not installed.
            ValueError: Pydantic cannot make a value of the declared type of this output, for example because it is a
                fallback's.
        """
        return cast("T_co", output if self.action is None else typed_answer(output, self.action, self.id))

    def __repr__(self) -> str:
        return f"<step {self.id!r}>"


# A step's input: a value that JSON can hold, a blob, or references at any depth.
Input: TypeAlias = JSON | Blob | Reference | Sequence["Input"] | Mapping[str, "Input"]


def extract(value: Input) -> tuple[object, list[tuple[str, Reference]]]:
    """Take the references out of a step's input.

    Returns:
        The input with `None` in place of references, and the references, each with the JSON Pointer to its place.

    Raises:
        TypeError: A key is not a string, or a step is given in place of its output.
        ValueError: The input is nested beyond the interpreter's limit, or contains itself.
    """
    found: list[tuple[str, Reference]] = []
    try:
        return _strip(value, "", found), found
    except RecursionError as error:
        raise ValueError("the input is nested too deeply, or contains itself") from error


def _strip(value: object, here: str, found: list[tuple[str, Reference]]) -> object:
    match value:
        case None | str() | int() | float() | Blob():
            return value
        case Reference():
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
