"""The type hints of an action's code, read one by one: one that cannot be read is named, if it is needed at all."""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from functools import cache, partial
from typing import Any

import typing_extensions
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema

__all__ = ["accept_typed_dicts", "code_of", "is_text", "read_hint", "yields"]

Names = Mapping[str, object]

STREAMS = ("AsyncGenerator", "AsyncIterable", "AsyncIterator", "Generator", "Iterable", "Iterator")
"""What a function returns that streams. Their names are known even where only a type checker imports them."""

_REQUIREMENTS = (typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)


def code_of(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function or method that a call of an object runs: its own, a partial's, an instance's `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function) or hasattr(function, "__wrapped__"):
        return function
    return typing.cast("Callable[..., object]", getattr(function, "__call__", function))  # noqa: B004 - it has one


def read_hint(function: Callable[..., object], name: str, annotation: object, more: Names | None = None) -> object:
    """Return what an annotation says, its text evaluated where the function stands.

    Args:
        function: Whose it is.
        name: The parameter's name, or `return`.
        annotation: The annotation, or its text.
        more: Names that are known beside the module's own.

    Raises:
        Exception: It cannot be evaluated: a name is not there, or whatever its evaluation raises.
    """
    names = {**(more or {}), **getattr(inspect.unwrap(code_of(function)), "__globals__", {})}
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    return typing.get_type_hints(holder, names, include_extras=True)[name]


def yields(function: Callable[..., object]) -> object:
    """Return the type of the chunks that a function declares to stream; `None` if it declares no stream.

    Nothing is checked against it, so a hint that cannot be read declares nothing.
    """
    annotation = getattr(code_of(function), "__annotations__", {}).get("return")
    try:
        hint = read_hint(function, "return", annotation, {name: getattr(typing, name) for name in STREAMS})
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
    except Exception:
        return None
    if origin is None or getattr(origin, "__name__", "") not in STREAMS:
        return None
    return parts[0] if parts else object


def is_text(hint: object) -> bool:
    """Say whether all values of a type are strings."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return is_text(parts[0])
    if origin in (typing.Union, types.UnionType):
        return all(map(is_text, parts))
    if origin is typing.Literal:
        return all(isinstance(part, str) for part in parts)
    if isinstance(hint, typing.NewType):
        return is_text(hint.__supertype__)
    return isinstance(hint, type) and issubclass(hint, str)


def accept_typed_dicts(hint: object) -> None:
    """Let pydantic read the `typing.TypedDict` of a Python that is older than 3.12, which it refuses, wherever it is.

    It has what pydantic misses there: which keys are required. So pydantic is given an equal one of
    `typing_extensions`.
    """
    if sys.version_info < (3, 12):
        _accept(hint, set())


def _accept(hint: object, seen: set[type]) -> None:
    for part in typing.get_args(hint):
        _accept(part, seen)
    if not isinstance(hint, type) or hint in seen:
        return
    seen.add(hint)
    is_theirs = typing.is_typeddict(hint)
    if is_theirs and "__get_pydantic_core_schema__" not in vars(hint):
        hint.__get_pydantic_core_schema__ = classmethod(_schema_of_twin)  # type: ignore[attr-defined]  # pydantic's hook
    if is_theirs or is_dataclass(hint) or hasattr(hint, "_field_defaults"):
        for inner in typing.get_type_hints(hint, include_extras=True).values():
            _accept(inner, seen)


def _schema_of_twin(kind: Any, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    return handler.generate_schema(_twin(kind))


@cache
def _twin(kind: Any) -> Any:
    """Return a `typing_extensions.TypedDict` like one of `typing`; always the same one, for it may hold itself."""
    fields = {
        name: hint
        if typing.get_origin(hint) in _REQUIREMENTS or name not in kind.__optional_keys__
        else typing_extensions.NotRequired[hint]
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    }
    make: Any = typing_extensions.TypedDict
    twin = make(kind.__name__, fields)
    twin.__doc__ = kind.__doc__
    if hasattr(kind, "__pydantic_config__"):
        twin.__pydantic_config__ = kind.__pydantic_config__
    return twin
