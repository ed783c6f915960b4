"""Values of declared types from outputs, which are JSON."""

import typing
from collections.abc import Collection, Container, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from types import NoneType, UnionType
from typing import Any, ForwardRef, NewType, TypeVar, cast

from stepwave._values.payload import Blob, Output, dump_json

__all__ = ["typed_answer"]

_VALUES = {Any, object, None, NoneType, bool, int, float, str, Blob}
_LISTS = {list, Sequence, MutableSequence, Collection, Container, Iterable}
_OBJECTS = {dict, Mapping, MutableMapping}


def typed_answer(value: Output, hint: object, step_id: str) -> Output:
    """Return an output as a value of its declared type.

    JSON and blobs are returned as they are. Pydantic makes values of types that JSON does not have, such as
    dataclasses, models, enums, dates and tuples.

    Args:
        value: The output.
        hint: The declared type.
        step_id: The step, for messages.

    Raises:
        TypeError: JSON does not have the type, and pydantic is not installed or does not support the type.
        ValueError: The output is no value of the type.
    """
    if isinstance(value, Blob) or _is_json(hint, ()):
        return value
    what, name = f"the output of step {step_id!r}", getattr(hint, "__name__", None) or str(hint)
    try:
        from pydantic import TypeAdapter, ValidationError
    except ModuleNotFoundError as error:
        raise TypeError(
            f"{what} is declared as {name}, which only pydantic can make of JSON: pip install pydantic, or use "
            f"`result[{step_id!r}]`, which is JSON"
        ) from error
    try:
        adapter: TypeAdapter[Output] = TypeAdapter(cast("Any", hint))
    except Exception as error:  # hooks of types for pydantic are the action's code
        raise TypeError(f"{what} is declared as {name}, which pydantic cannot make of JSON: {error}") from error
    try:
        return adapter.validate_json(dump_json(value))  # as JSON: a strict model takes a date only from JSON's string
    except ValidationError as error:
        raise ValueError(f"{what} is not the declared {name}: {error}") from error


def _is_json(hint: object, outer: tuple[object, ...]) -> bool:
    """Return whether all values of a type, inside others that are being checked, are as JSON is read by Python."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _is_json(parts[0], outer)
    if origin is typing.Literal:
        return all(type(part) in (NoneType, bool, int, str) for part in parts)
    if origin in (typing.Union, UnionType) or origin in _LISTS:
        return all(_is_json(part, outer) for part in parts)
    if origin in _OBJECTS:
        return not parts or (_is_text(parts[0]) and _is_json(parts[1], outer))
    if isinstance(hint, NewType):
        return _is_json(hint.__supertype__, outer)
    if _is_in(hint, outer):
        return True
    if typing.is_typeddict(hint):
        return all(_is_json(field, (*outer, hint)) for field in typing.get_type_hints(hint).values())
    if not isinstance(hint, type) and hasattr(hint, "__value__"):  # `type Facts = …`, of Python 3.12
        return _is_json(hint.__value__, (*outer, hint))
    # A reference that is left is one of a type to itself; a type variable has no type of its own.
    return isinstance(hint, ForwardRef | TypeVar) or _is_in(hint, (*_VALUES, *_LISTS, *_OBJECTS))


def _is_text(hint: object) -> bool:
    literal = typing.get_origin(hint) is typing.Literal
    return hint in (str, Any, object) or (literal and all(type(part) is str for part in typing.get_args(hint)))


def _is_in(hint: object, kinds: tuple[object, ...]) -> bool:
    return any(hint is kind for kind in kinds)  # a hint need not be hashable
