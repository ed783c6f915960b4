"""Values of declared types from outputs, which are JSON."""

import typing
from collections.abc import (
    Callable,
    Collection,
    Container,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from types import GenericAlias, NoneType
from typing import TYPE_CHECKING, Any, ForwardRef, NewType, TypeVar, cast

from stepwave._values.payload import Blob, Output, dump_json

from .declarations import answer_type
from .hints import UNIONS, advice, without_alias
from .typed_dicts import accept_typed_dicts

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["typed_answer"]

_VALUES = {Any, object, None, NoneType, bool, int, float, str, typing.LiteralString, Blob}
_GENERAL_LISTS = {Collection, Container, Iterable}  # pydantic rejects these, or makes an iterator that can be read once
_LISTS = {list, Sequence, MutableSequence, *_GENERAL_LISTS}
_OBJECTS = {dict, Mapping, MutableMapping}


def typed_answer(value: Output, action: Callable[..., object], step_id: str) -> Output:
    """Return an output as a value of the type that its action declares.

    JSON and blobs are returned as they are, without a check. Pydantic makes values of types that JSON does not have,
    such as dataclasses, models, enums, dates and tuples.

    Args:
        value: The output.
        action: The function, class or object of the action.
        step_id: The step, for messages.

    Raises:
        TypeError: The declared type cannot be read. Or JSON does not have it, and pydantic is not installed or does not
            support it.
        ValueError: Pydantic cannot make a value of the declared type of this output.
    """
    if isinstance(value, Blob):
        return value
    declared = _declared(_Step(action, step_id))
    if declared.adapter is None:
        return value
    from pydantic import ValidationError

    try:
        # As JSON: a strict model takes a date only from JSON's string.
        return declared.adapter.validate_json(dump_json(value))
    except ValidationError as error:
        raise ValueError(f"the output of step {step_id!r} is not the declared {declared.name}: {error}") from error


class _Step:
    """A step as a key for the cache. Steps of the same action are equal; an action itself need not be hashable."""

    __slots__ = ("action", "step_id")

    def __init__(self, action: Callable[..., object], step_id: str) -> None:
        self.action = action
        self.step_id = step_id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Step) and self.action is other.action

    def __hash__(self) -> int:
        return id(self.action)


@dataclass(frozen=True, slots=True)
class _Declared:
    """A declared type, and what makes its values of JSON; `None`: pydantic is not needed."""

    name: str
    adapter: "TypeAdapter[Output] | None"


# To read a type and to make its adapter takes much longer than to use them. The cache is safe: it keeps each action, so
# that no other one gets its identity, an action's declared type does not change, and errors are not cached.
@lru_cache(maxsize=512)
def _declared(step: _Step) -> _Declared:
    """Return the type that a step's action declares. Raises the `TypeError`s of `typed_answer`."""
    hint = answer_type(step.action)
    name = getattr(hint, "__name__", None) or str(hint)
    what = f"the output of step {step.step_id!r} is declared as {name}"
    try:
        is_json = _is_json(hint, ())
    except Exception as error:  # reading the hints of fields runs the action's code
        raise TypeError(f"{what}, whose fields cannot be read: {error}{advice(error)}") from error
    try:
        return _Declared(name, None if is_json else _adapter(hint))
    except ModuleNotFoundError as error:
        use = f"pip install pydantic, or use `result[{step.step_id!r}]`, which is JSON"
        raise TypeError(f"{what}, which only pydantic can make of JSON: {use}") from error
    except Exception as error:  # hooks of types for pydantic are the action's code
        raise TypeError(f"{what}, which pydantic cannot make of JSON: {error}") from error


def _adapter(hint: object) -> "TypeAdapter[Output]":
    """Return what makes values of a type. Raises what pydantic raises for a type that it does not support."""
    from pydantic import TypeAdapter

    with suppress(Exception):  # pydantic itself says which field cannot be read
        accept_typed_dicts(hint)
    adapter: TypeAdapter[Output] = TypeAdapter(cast("Any", _with_lists(hint, ())))
    adapter.rebuild(raise_errors=True)
    return adapter


def _with_lists(hint: Any, outer: tuple[object, ...]) -> Any:
    """Return a type with lists in place of general types such as `Iterable`, of which pydantic makes no lists.

    Args:
        hint: The type.
        outer: The aliases that contain it, because an alias may contain itself.
    """
    if (inner := without_alias(hint)) is not hint:
        return hint if _is_in(hint, outer) else _with_lists(inner, (*outer, hint))
    origin: Any = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin is typing.Annotated:
        return typing.Annotated[(_with_lists(parts[0], outer), *parts[1:])]
    if _is_in(origin or hint, tuple(_GENERAL_LISTS)):
        return GenericAlias(list, tuple(_with_lists(part, outer) for part in parts or (Any,)))
    if origin is typing.Literal:
        return hint
    changed = tuple(_with_lists(part, outer) for part in parts)
    if changed == parts:
        return hint
    return (typing.Union if origin in UNIONS else origin)[changed]


def _is_json(hint: object, outer: tuple[object, ...]) -> bool:
    """Return whether pydantic is not needed for a type.

    Args:
        hint: The type.
        outer: The types that contain it and are being checked, because a type may contain itself.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _is_json(parts[0], outer)
    if origin is typing.Literal:
        return all(type(part) in (NoneType, bool, int, str) for part in parts)
    if origin in UNIONS or origin in _LISTS:
        return all(_is_json(part, outer) for part in parts)
    if origin in _OBJECTS:
        return not parts or (_is_text(parts[0]) and _is_json(parts[1], outer))
    if isinstance(hint, NewType):
        return _is_json(hint.__supertype__, outer)
    if _is_in(hint, outer):
        return True
    if typing.is_typeddict(hint):
        return all(_is_json(field, (*outer, hint)) for field in typing.get_type_hints(hint).values())
    if (inner := without_alias(hint)) is not hint:
        return _is_json(inner, (*outer, hint))
    # A reference that is left is one of a type to itself; a type variable has no type of its own.
    return isinstance(hint, ForwardRef | TypeVar) or _is_in(hint, (*_VALUES, *_LISTS, *_OBJECTS))


def _is_text(hint: object) -> bool:
    literal = typing.get_origin(hint) is typing.Literal
    return hint in (str, Any, object) or (literal and all(type(part) is str for part in typing.get_args(hint)))


def _is_in(hint: object, kinds: tuple[object, ...]) -> bool:
    return any(hint is kind for kind in kinds)  # a hint need not be hashable
