"""What the function of an action declares: the keys that it takes from an input, and the type of its answer."""

import inspect
import types
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterator,
)
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Any, cast

from stepwave._values.payload import JSON

from .context import Answer, Context

__all__ = ["DeclaredKeys", "answer_type", "code_place", "declared_keys"]

_AWAITED = (Awaitable, Coroutine)
_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterator)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_UNIONS = (typing.Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class DeclaredKeys:
    """The keys that a function takes from an input.

    Attributes:
        known: All of them, in the order of the parameters.
        required: Those whose parameters have no default.
        open: Whether the function takes any other key as well, by `**kwargs`.
    """

    known: tuple[str, ...]
    required: tuple[str, ...]
    open: bool


def declared_keys(target: object) -> DeclaredKeys | None:
    """Return the keys that an action takes from an input.

    Args:
        target: The function, class or object of the action.

    Returns:
        The keys; `None` if the signature does not tell them: a parameter takes the whole input, has an alias or cannot
        be filled by name, or a type hint cannot be read.
    """
    try:
        function = _called(target)
        parameters = inspect.signature(function).parameters.values()
        hints = {it.name: _read_hint(function, it.name, it.annotation) for it in parameters}
    except Exception:  # evaluating a hint runs the action's code; the server reports what it cannot read
        return None
    taken = [it for it in parameters if not _is_context(hints[it.name])]
    named = [it for it in taken if it.kind in _BY_NAME]
    is_open = any(it.kind is Parameter.VAR_KEYWORD for it in taken)
    if len(named) + is_open < len(taken) or any(it.name == "input" or _has_alias(it, hints[it.name]) for it in named):
        return None
    required = tuple(it.name for it in named if it.default is Parameter.empty)
    return DeclaredKeys(tuple(it.name for it in named), required, is_open)


def answer_type(target: object) -> object:
    """Return the declared type of an action's answer; `Any` if it declares none.

    An awaitable answers what it results in. A stream of strings answers a string, and another stream the list of its
    chunks, unless they may contain strings, which are joined if there are no others, or an `Answer`.

    Args:
        target: The function, class or object of the action.

    Raises:
        TypeError: The return type cannot be read.
    """
    try:
        function = _called(target)
        annotation = getattr(_code_of(function), "__annotations__", {}).get("return", Parameter.empty)
        hint = _read_hint(function, "return", annotation)
    except Exception as error:
        advice = " (is it imported only `if TYPE_CHECKING`?)" if isinstance(error, NameError) else ""
        raise TypeError(f"the return type of {code_place(target)} cannot be read: {error}{advice}") from error
    while typing.get_origin(hint) in _AWAITED:
        hint = typing.get_args(hint)[-1]
    if (typing.get_origin(hint) or hint) in _STREAMS:
        return _stream_answer((typing.get_args(hint) or (Any,))[0])
    return hint


def code_place(target: object) -> str:
    """Return an action's name in the code, with its file and line if they are known."""
    named = target.func if isinstance(target, partial) else target
    name = getattr(named, "__qualname__", None) or type(target).__qualname__
    code = None
    with suppress(Exception):  # an attribute may be computed by the action's code
        code = getattr(inspect.unwrap(_code_of(_called(target))), "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else str(name)


def _called(target: object) -> Callable[..., object]:
    """Return what the server calls: `stream` or `invoke` of a class or an object, else the target itself.

    A method of a class is bound to some object, so that its signature has no `self`.
    """
    kind = target if inspect.isclass(target) else type(target)
    method = next((name for name in ("stream", "invoke") if hasattr(kind, name)), "")
    if not method or inspect.isroutine(target):
        return cast("Callable[..., object]", target)
    if not inspect.isclass(target):
        return cast("Callable[..., object]", getattr(target, method))
    found: Any = inspect.getattr_static(target, method)
    return cast("Callable[..., object]", found.__get__(object(), target) if hasattr(found, "__get__") else found)


def _code_of(function: Callable[..., object]) -> Callable[..., object]:
    """Return the function that a call of an object runs: itself, a partial's function, or an object's `__call__`."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isroutine(function) or inspect.isclass(function) or hasattr(function, "__wrapped__"):
        return function
    return cast("Callable[..., object]", getattr(function, "__call__", function))  # noqa: B004 - the object is callable


def _read_hint(function: Callable[..., object], name: str, annotation: object) -> object:
    """Return a type hint by itself, so that others need not be readable. A text is evaluated in the function's module.

    Raises:
        Exception: The annotation cannot be evaluated, for example because a name is unknown.
    """
    if annotation is Parameter.empty:
        return Any
    # `JSON` refers to itself by its name, which the module need not know.
    names = {"JSON": JSON, **getattr(inspect.unwrap(_code_of(function)), "__globals__", {})}
    holder = types.SimpleNamespace(__annotations__={name: annotation})
    return typing.get_type_hints(holder, names, include_extras=True)[name]


def _is_context(hint: object) -> bool:
    wraps = typing.get_origin(hint) in {*_UNIONS, typing.Annotated}
    return hint is Context or (wraps and any(map(_is_context, typing.get_args(hint))))


def _has_alias(parameter: Parameter, hint: object) -> bool:
    """Return whether pydantic's `Field`, in an annotation or as a default, gives a parameter another key."""
    extras = getattr(hint, "__metadata__", ())
    return any(getattr(extra, "validation_alias", None) is not None for extra in (*extras, parameter.default))


def _stream_answer(chunk: object) -> object:
    kinds = [_text_share(part) for part in _alternatives(chunk)]
    if all(kind == "all" for kind in kinds):
        return str
    return types.GenericAlias(list, (chunk,)) if all(kind == "none" for kind in kinds) else Any


def _alternatives(hint: object) -> list[object]:
    """Return the types of a union, or the type itself, without annotations and new names."""
    if typing.get_origin(hint) is typing.Annotated:
        return _alternatives(typing.get_args(hint)[0])
    if isinstance(hint, typing.NewType):
        return _alternatives(hint.__supertype__)
    if typing.get_origin(hint) in _UNIONS:
        return [each for part in typing.get_args(hint) for each in _alternatives(part)]
    if typing.get_origin(hint) is typing.Literal:
        return [type(value) for value in typing.get_args(hint)]
    return [hint]


def _text_share(kind: object) -> str:
    """Return whether `all`, `some` or `none` of a type's values are strings. An `Answer` may answer anything."""
    origin = typing.get_origin(kind) or kind
    if kind is Any or not isinstance(origin, type) or origin is Answer:
        return "some"
    try:
        return "all" if issubclass(origin, str) else "some" if issubclass(str, origin) else "none"
    except TypeError:  # a protocol that cannot be checked
        return "some"
