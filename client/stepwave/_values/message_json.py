"""Reads messages of the contract from JSON, with errors that name the place of the problem.

Protobuf's own reader accepts an empty list or string in place of an object, and its errors name no place. So shapes
are checked first, and a value that protobuf refuses afterwards is found by trying each one.
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

_MAX_SHOWN = 40
_TEXT_FORMS = {
    "google.protobuf.Timestamp": 'a time such as "2026-01-31T09:30:00Z"',
    "google.protobuf.Duration": 'a duration such as "1.5s"',
}
_EXPECTED = {
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
    """Raised when a JSON value does not fit a message. The text names the place, then the problem."""


def read_message(message: AnyMessage, value: object, place: str) -> AnyMessage:
    """Fill a message from its protobuf JSON form, and return it.

    Args:
        message: An empty message.
        value: The value, as Python's `json` module reads it.
        place: The value's path in its document, such as `events[3]`.

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
    """Check that objects and lists are where the message has them, and that every key is known."""
    if not isinstance(value, dict):
        raise InvalidMessage(f"{place}: expected an object, got {_shown(value)}")
    fields = _fields(descriptor)
    for key, item in value.items():
        kind = fields.get(key)
        if kind is None:
            raise InvalidMessage(f"{place}: has the unknown key {_shown(key)}")
        if item is not None and kind.nests:
            for item_kind, inner, where in _items(kind, item, f"{place}.{key}"):
                if item_kind.message is not None:
                    _check_shape(item_kind.message, inner, where)


def _check_values(descriptor: Descriptor, value: Mapping[str, object], place: str) -> None:
    """Find the value that protobuf refuses, in an object of the right shape."""
    chosen: dict[str, str] = {}
    for key, item in value.items():
        kind = _fields(descriptor)[key]
        if item is None:
            continue
        if kind.choice and chosen.setdefault(kind.choice, key) != key:
            raise InvalidMessage(f"{place}: has both {chosen[kind.choice]} and {key}, and may have one of them")
        for item_kind, inner, where in _items(kind, item, f"{place}.{key}"):
            if item_kind.message is not None:
                _check_values(item_kind.message, cast("dict[str, object]", inner), where)
            elif not item_kind.takes(inner):
                raise InvalidMessage(f"{where}: expected {item_kind.expected}, got {_shown(inner)}")


def _items(kind: "_Kind", value: object, place: str) -> Iterator[tuple["_Kind", object, str]]:
    """Yield the values of a field with their kinds and places: the items of a list or map, else the value itself."""
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
        message: The message type of its values; `None`: they are not written as objects.
        values: The kind of the map's values; `None`: the field is not a map.
        choice: The name of its oneof; empty: it has none.
    """

    field: FieldDescriptor
    message: Descriptor | None
    values: "_Kind | None"
    choice: str

    @property
    def nests(self) -> bool:
        """Whether the field takes objects or lists."""
        return self.message is not None or self.values is not None or self.field.is_repeated

    @property
    def expected(self) -> str:
        """The kind in words, for error messages."""
        if self.field.message_type is not None:
            return _TEXT_FORMS[self.field.message_type.full_name]
        if self.field.enum_type is not None:
            return f"a name of {self.field.enum_type.name}"
        return _EXPECTED[self.field.cpp_type] if self.field.type != FieldDescriptor.TYPE_BYTES else "a string of base64"

    def takes(self, value: object) -> bool:
        """Return whether protobuf accepts a value that is not an object."""
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
    """Return a message's fields by both of their JSON names."""
    return {name: _kind(field) for field in descriptor.fields for name in (field.json_name, field.name)}


def _kind(field: FieldDescriptor) -> _Kind:
    message = field.message_type
    choice = field.containing_oneof.name if field.containing_oneof is not None else ""
    if message is not None and message.GetOptions().map_entry:
        return _Kind(field, None, _kind(message.fields_by_name["value"]), choice)
    as_text = message is None or message.full_name in _TEXT_FORMS
    return _Kind(field, None if as_text else message, None, choice)


def _shown(value: object) -> str:
    """Return a value for an error message: the JSON text of a short one, else its kind."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
