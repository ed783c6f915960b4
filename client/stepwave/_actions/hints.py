"""The code and the type hints of an action's function, for the SDK and the server.

Hints are read one by one, so that an unreadable one that is not needed does no harm.
"""

import inspect
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from functools import partial
from inspect import Parameter
from typing import Any, cast

from stepwave._values.payload import JSON

from .context import Context

__all__ = [
    "UNIONS",
    "advice",
    "alternatives",
    "chunk_type",
    "code_of",
    "is_context",
    "is_text",
    "method_name",
    "read_hint",
    "read_return_hint",
    "without_alias",
]

UNIONS = (typing.Union, types.UnionType)

_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)

# `JSON` refers to itself by its name, which a module need not know.
_NAMES: Mapping[str, object] = {"JSON": JSON}

# The types of streams are known even if a module imports them for type checking only.
_RETURN_NAMES = {**_NAMES, **{kind.__name__: kind for kind in _STREAMS}}


def method_name(kind: type) -> str:
    """Return the method of a class that the server calls, `stream` or `invoke`; empty: the class has neither."""
    return next((name for name in ("stream", "invoke") if hasattr(kind, name)), "")


def code_of(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function that a call of an object runs: itself, a partial's function, or an object's `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function) or hasattr(function, "__wrapped__"):
        return function
    return cast("Callable[..., object]", getattr(function, "__call__", function))  # noqa: B004 - the object is callable


def read_hint(function: Callable[..., object], parameter: Parameter) -> object:
    """Return the type hint of a parameter; `Any`: it has none. A text is evaluated in the module of the function.

    Raises:
        Exception: The annotation cannot be evaluated, for example because a name is unknown.
    """
    return _read(function, parameter.name, parameter.annotation, _NAMES)


def read_return_hint(function: Callable[..., object]) -> object:
    """Return the type hint of what a function returns; `Any`: it has none. As `read_hint`.

    Raises:
        Exception: The annotation cannot be evaluated, for example because a name is unknown.
    """
    annotation = getattr(code_of(function), "__annotations__", {}).get("return", Parameter.empty)
    return _read(function, "return", annotation, _RETURN_NAMES)


def _read(function: Callable[..., object], name: str, annotation: object, more: Mapping[str, object]) -> object:
    if annotation is Parameter.empty:
        return Any
    names = {**more, **getattr(inspect.unwrap(code_of(function)), "__globals__", {})}
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    return typing.get_type_hints(holder, names, include_extras=True)[name]


def advice(error: Exception) -> str:
    """Return what to append to the message of an error that was raised by the evaluation of a hint."""
    return " (is it imported only `if TYPE_CHECKING`?)" if isinstance(error, NameError) else ""


def is_context(hint: object) -> bool:
    """Return whether a hint is the context's type. It may be optional, for calls without a server."""
    wraps = typing.get_origin(hint) in {*UNIONS, typing.Annotated}
    return hint is Context or (wraps and any(map(is_context, typing.get_args(hint))))


def chunk_type(hint: object) -> object:
    """Return the type of the chunks of a return type; `None`: it is no stream's. Chunks are not checked against it.

    An `Iterable` counts as a stream. A function may also return a list as one.
    """
    hint = without_alias(hint)
    if (typing.get_origin(hint) or hint) not in _STREAMS:
        return None
    return (typing.get_args(hint) or (object,))[0]


def is_text(hint: object) -> bool:
    """Return whether all values of a type are strings."""
    return all(isinstance(kind, type) and issubclass(kind, str) for kind in alternatives(hint))


def alternatives(hint: object) -> list[object]:
    """Return the types of a union, or the type itself, without annotations, aliases and new names."""
    hint = without_alias(hint)
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return alternatives(parts[0])
    if isinstance(hint, typing.NewType):
        return alternatives(hint.__supertype__)
    if (inner := without_alias(origin)) is not origin:  # an alias with parameters; these do not matter here
        return alternatives(inner)
    if origin in UNIONS:
        return [each for part in parts for each in alternatives(part)]
    if origin is typing.Literal:
        return [type(value) for value in parts]
    return [str if hint is typing.LiteralString else hint]


def without_alias(hint: object) -> object:
    """Return what an alias of Python 3.12, `type Facts = …`, stands for. One with parameters, `Facts[int]`, is left."""
    while typing.get_origin(hint) is None and not isinstance(hint, type) and hasattr(hint, "__value__"):
        hint = hint.__value__
    return hint
