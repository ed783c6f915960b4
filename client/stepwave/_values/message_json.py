"""Messages of the contract read from JSON, and refused with the place of what does not fit.

Protobuf's own reader takes an empty list or string for an object, and refuses others in the words of Python, without
their place. So shapes are checked before it reads, and what it refuses all the same is then found value by value.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["InvalidMessage", "read_message"]

AnyMessage = TypeVar("AnyMessage", bound=Message)

_LONGEST = 40
_WRITTEN_AS_TEXT = {
    "google.protobuf.Timestamp": 'a time such as "2026-01-31T09:30:00Z"',
    "google.protobuf.Duration": 'a duration such as "1.5s"',
}
_WANTED = {
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_UINT32: "a whole number from 0 on",
    FieldDescriptor.CPPTYPE_UINT64: "a whole number from 0 on",
    FieldDescriptor.CPPTYPE_STRING: "a string",
}


class InvalidMessage(Exception):
    """Raised when a JSON value does not fit a message; the text names the place, then what is wrong there."""


def read_message(message: AnyMessage, value: object, place: str) -> AnyMessage:
    """Read a message from the JSON form that protobuf defines, and return it.

    Args:
        message: An empty message, which is filled.
        value: The value, as Python's `json` module reads it.
        place: The value's path in its document, for example `events[3]`.

    Raises:
        InvalidMessage: The value does not fit the message.
    """
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    _check_shape(descriptor, value, place)
    try:
        return ParseDict(cast("dict[str, Any]", value), message)
    except ParseError as error:
        _check_values(descriptor, cast("dict[str, object]", value), place)
        raise InvalidMessage(f"{place}: does not fit the contract's {descriptor.name}") from error


def _check_shape(descriptor: Descriptor, value: object, place: str) -> None:
    """Check that objects and lists stand where they should, and that every key is known."""
    if not isinstance(value, dict):
        raise InvalidMessage(f"{place}: expected an object, got {_shown(value)}")
    fields = _fields(descriptor)
    for key, item in value.items():
        kind = fields.get(key)
        if kind is None:
            raise InvalidMessage(f"{place}: has the unknown key {_shown(key)}")
        if item is not None and kind.nests:
            for held, inner, where in _items(kind, item, f"{place}.{key}"):
                if held.message is not None:
                    _check_shape(held.message, inner, where)


def _check_values(descriptor: Descriptor, value: Mapping[str, object], place: str) -> None:
    """Find the value that protobuf's reader refuses, in an object whose shape is right."""
    chosen: dict[str, str] = {}
    for key, item in value.items():
        kind = _fields(descriptor)[key]
        if item is None:
            continue
        if kind.choice and chosen.setdefault(kind.choice, key) != key:
            raise InvalidMessage(f"{place}: has both {chosen[kind.choice]} and {key}, and may have one of them")
        for held, inner, where in _items(kind, item, f"{place}.{key}"):
            if held.message is not None:
                _check_values(held.message, cast("dict[str, object]", inner), where)
            elif not held.takes(inner):
                raise InvalidMessage(f"{where}: expected {held.wanted}, got {_shown(inner)}")


def _items(kind: "_Kind", value: object, place: str) -> Iterator[tuple["_Kind", object, str]]:
    """Yield what a field holds, with the kind and the place of each: the items of a list or map, else its own value."""
    if kind.values is not None:
        if not isinstance(value, dict):
            raise InvalidMessage(f"{place}: expected an object, got {_shown(value)}")
        for key, item in value.items():
            yield kind.values, item, f"{place}[{json.dumps(key, ensure_ascii=False)}]"
    elif kind.field.is_repeated:
        if not isinstance(value, list):
            raise InvalidMessage(f"{place}: expected a list, got {_shown(value)}")
        for index, item in enumerate(value):
            yield kind, item, f"{place}[{index}]"
    else:
        yield kind, value, place


@dataclass(frozen=True, slots=True)
class _Kind:
    """The kind of value that a field takes.

    Attributes:
        field: The field.
        message: The type of what it holds, if that is written as an object.
        values: What its values take, if it is a map.
        choice: The group of fields of which only one may be given; empty: it belongs to none.
    """

    field: FieldDescriptor
    message: Descriptor | None
    values: "_Kind | None"
    choice: str

    @property
    def nests(self) -> bool:
        """Whether it holds objects or lists."""
        return self.message is not None or self.values is not None or self.field.is_repeated

    @property
    def wanted(self) -> str:
        """The kind in words, for messages."""
        if self.field.message_type is not None:
            return _WRITTEN_AS_TEXT[self.field.message_type.full_name]
        if self.field.enum_type is not None:
            return f"a name of {self.field.enum_type.name}"
        return _WANTED[self.field.cpp_type] if self.field.type != FieldDescriptor.TYPE_BYTES else "a string of base64"

    def takes(self, value: object) -> bool:
        """Return whether protobuf's reader takes a value that is no object."""
        if value is None:
            return False
        probe = GetMessageClass(cast("Descriptor", self.field.containing_type))()
        try:
            ParseDict({self.field.name: [value] if self.field.is_repeated else value}, probe)
        except ParseError:
            return False
        return True


@cache
def _fields(descriptor: Descriptor) -> dict[str, _Kind]:
    """Return a message's fields, by both names that they may have in JSON."""
    return {name: _kind(field) for field in descriptor.fields for name in (field.json_name, field.name)}


def _kind(field: FieldDescriptor) -> _Kind:
    message = field.message_type
    choice = field.containing_oneof.name if field.containing_oneof is not None else ""
    if message is not None and message.GetOptions().map_entry:
        return _Kind(field, None, _kind(message.fields_by_name["value"]), choice)
    as_text = message is None or message.full_name in _WRITTEN_AS_TEXT
    return _Kind(field, None if as_text else message, None, choice)


def _shown(value: object) -> str:
    """Return what a value is: a short one as its JSON text."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
