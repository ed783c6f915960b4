"""Reads what the function of an action declares: the keys of its input, and the type of its answer."""

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from inspect import Parameter
from typing import Any, cast

from .context import Answer
from .hints import (
    advice,
    alternatives,
    chunk_type,
    code_of,
    is_context,
    is_text,
    method_name,
    read_hint,
    read_return_hint,
    without_alias,
)
from .tools import ToolAction

__all__ = ["DeclaredKeys", "answer_type", "code_place", "declared_keys"]

_AWAITED = (Awaitable, Coroutine)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class DeclaredKeys:
    """The keys that a function takes from an input.

    Attributes:
        known: All of them, in the order of the parameters.
        required: Those whose parameters have no default.
        takes_others: Whether the function takes any other key as well, by `**kwargs`.
    """

    known: tuple[str, ...]
    required: tuple[str, ...]
    takes_others: bool


def declared_keys(target: object) -> DeclaredKeys | None:
    """Return the keys that an action takes from an input.

    Args:
        target: The function, class or object of the action.

    Returns:
        The keys; `None` if the signature does not tell them: a parameter takes the whole input, has an alias or cannot
        be filled by name, or a type hint cannot be read.
    """
    if isinstance(target, ToolAction):
        return DeclaredKeys(target.keys, target.required, target.takes_others)
    try:
        function = _called(target)
        parameters = inspect.signature(function).parameters.values()
        hints = {it.name: read_hint(function, it) for it in parameters}
        return _keys_of([it for it in parameters if not is_context(hints[it.name])], hints)
    except Exception:  # reading a hint runs the action's code; the server reports what it cannot read
        return None


def _keys_of(taken: Sequence[Parameter], hints: Mapping[str, object]) -> DeclaredKeys | None:
    named = [it for it in taken if it.kind in _BY_NAME]
    takes_others = any(it.kind is Parameter.VAR_KEYWORD for it in taken)
    if len(named) + takes_others < len(taken):
        return None
    if any(it.name == "input" or _has_alias(it, hints[it.name]) for it in named):
        return None
    required = tuple(it.name for it in named if not _has_default(it, hints[it.name]))
    return DeclaredKeys(tuple(it.name for it in named), required, takes_others)


def answer_type(target: object) -> object:
    """Return the declared type of an action's answer; `Any` if it declares none.

    An awaitable answers what it results in. A stream of strings answers a string, and another stream the list of its
    chunks, unless they may contain strings, which are joined if there are no others, or an `Answer`. A function that
    returns an `Iterable` may return a stream or a list, unless it is a generator.

    Args:
        target: The function, class or object of the action.

    Raises:
        TypeError: The return type cannot be read.
    """
    try:
        function = _called(target)
        hint = read_return_hint(function)
    except Exception as error:
        raise TypeError(f"the return type of {code_place(target)} cannot be read: {error}{advice(error)}") from error
    while typing.get_origin(hint) in _AWAITED:
        hint = typing.get_args(hint)[-1]
    chunk = chunk_type(hint)
    if chunk is None:
        return hint
    hint = without_alias(hint)
    is_iterable = (typing.get_origin(hint) or hint) is Iterable
    return _stream_answer(chunk, may_be_list=is_iterable and not inspect.isgeneratorfunction(code_of(function)))


def code_place(target: object) -> str:
    """Return an action's name in the code, with its file and line if they are known."""
    if isinstance(target, ToolAction):
        return code_place(target.function)
    named = target.func if isinstance(target, partial) else target
    name = getattr(named, "__qualname__", None) or type(target).__qualname__
    code = None
    with suppress(Exception):  # an attribute may be computed by the action's code
        code = getattr(inspect.unwrap(code_of(_called(target))), "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else str(name)


def _called(target: object) -> Callable[..., object]:
    """Return what the server calls: `stream` or `invoke` of a class or an object, else the target itself.

    A method of a class is bound to some object, so that its signature has no `self`.
    """
    if isinstance(target, ToolAction):
        return target.function
    method = method_name(target if inspect.isclass(target) else type(target))
    if not method or inspect.isroutine(target):
        return cast("Callable[..., object]", target)
    if not inspect.isclass(target):
        return cast("Callable[..., object]", getattr(target, method))
    found: Any = inspect.getattr_static(target, method)
    return cast("Callable[..., object]", found.__get__(object(), target) if hasattr(found, "__get__") else found)


def _has_alias(parameter: Parameter, hint: object) -> bool:
    """Return whether pydantic's `Field`, in an annotation or as a default, gives a parameter another key."""
    extras = getattr(hint, "__metadata__", ())
    return any(getattr(extra, "validation_alias", None) is not None for extra in (*extras, parameter.default))


def _has_default(parameter: Parameter, hint: object) -> bool:
    """Return whether a parameter has a default, or pydantic's `Field` in its annotation gives it one."""
    if parameter.default is not Parameter.empty:
        return True
    extras = getattr(hint, "__metadata__", ())
    return any(hasattr(extra, "is_required") and not extra.is_required() for extra in extras)


def _stream_answer(chunk: object, *, may_be_list: bool) -> object:
    """Return the type of what a stream answers, or of that and a list."""
    if is_text(chunk) and not may_be_list:
        return str
    return Any if any(map(_may_be_text, alternatives(chunk))) else types.GenericAlias(list, (chunk,))


def _may_be_text(kind: object) -> bool:
    """Return whether a value of a type may be a string. An `Answer` may answer one."""
    origin = typing.get_origin(kind) or kind
    if typing.is_typeddict(origin):
        return False
    if kind is Any or not isinstance(origin, type) or origin is Answer:
        return True
    try:
        return issubclass(origin, str) or issubclass(str, origin)
    except TypeError:  # a protocol that cannot be checked
        return True
