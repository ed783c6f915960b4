"""Type hints of an action's function, read one by one, so that an unreadable one that is not needed does no harm."""

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

__all__ = ["accept_typed_dicts", "chunk_type", "code_of", "is_text", "read_hint"]

Names = Mapping[str, object]

STREAM_TYPES = ("AsyncGenerator", "AsyncIterable", "AsyncIterator", "Generator", "Iterable", "Iterator")
"""Return types of functions that stream. The names are known even if the module imports them for type checking only."""

_REQUIREMENTS = (typing.Required, typing.NotRequired, typing_extensions.Required, typing_extensions.NotRequired)


def code_of(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function that a call of an object runs: itself, a partial's function, or an instance's `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function) or hasattr(function, "__wrapped__"):
        return function
    return typing.cast("Callable[..., object]", getattr(function, "__call__", function))  # noqa: B004 - the object is callable


def read_hint(function: Callable[..., object], name: str, annotation: object, more: Names | None = None) -> object:
    """Return a type hint. A text is evaluated in the module of the function.

    Args:
        function: The annotated function.
        name: The parameter's name, or `return`.
        annotation: The annotation, or its text.
        more: Names that are known besides the module's.

    Raises:
        Exception: The annotation cannot be evaluated, for example because a name is unknown.
    """
    names = {**(more or {}), **getattr(inspect.unwrap(code_of(function)), "__globals__", {})}
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    return typing.get_type_hints(holder, names, include_extras=True)[name]


def chunk_type(function: Callable[..., object]) -> object:
    """Return the declared type of a function's chunks; `None`: the function declares no stream.

    Chunks are not checked against it, so a hint that cannot be read counts as none.
    """
    annotation = getattr(code_of(function), "__annotations__", {}).get("return")
    try:
        hint = read_hint(function, "return", annotation, {name: getattr(typing, name) for name in STREAM_TYPES})
        origin, parts = typing.get_origin(hint), typing.get_args(hint)
    except Exception:
        return None
    if origin is None or getattr(origin, "__name__", "") not in STREAM_TYPES:
        return None
    return parts[0] if parts else object


def is_text(hint: object) -> bool:
    """Return whether all values of a type are strings."""
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
    """Make pydantic accept `typing.TypedDict` before Python 3.12, also inside other types.

    Pydantic rejects it there for lack of information on required keys. It gets an equal class of `typing_extensions`
    instead.
    """
    if sys.version_info < (3, 12):
        _accept(hint, set())


def _accept(hint: object, seen: set[type]) -> None:
    for part in typing.get_args(hint):
        _accept(part, seen)
    if not isinstance(hint, type) or hint in seen:
        return
    seen.add(hint)
    is_typed_dict = typing.is_typeddict(hint)
    if is_typed_dict and "__get_pydantic_core_schema__" not in vars(hint):
        hint.__get_pydantic_core_schema__ = classmethod(_schema_of_equal)  # type: ignore[attr-defined]  # pydantic's hook
    if is_typed_dict or is_dataclass(hint) or hasattr(hint, "_field_defaults"):
        for inner in typing.get_type_hints(hint, include_extras=True).values():
            _accept(inner, seen)


def _schema_of_equal(kind: Any, _source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
    return handler.generate_schema(_equal_class(kind))


@cache
def _equal_class(kind: Any) -> Any:
    """Return the equal `typing_extensions.TypedDict` of one of `typing`. Cached, because it may refer to itself."""
    fields = {
        name: hint
        if typing.get_origin(hint) in _REQUIREMENTS or name not in kind.__optional_keys__
        else typing_extensions.NotRequired[hint]
        for name, hint in typing.get_type_hints(kind, include_extras=True).items()
    }
    make: Any = typing_extensions.TypedDict
    equal = make(kind.__name__, fields)
    equal.__doc__ = kind.__doc__
    if hasattr(kind, "__pydantic_config__"):
        equal.__pydantic_config__ = kind.__pydantic_config__
    return equal
