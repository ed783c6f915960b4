"""Converts results and events to plain values that JSON can hold."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from typing import TypeAlias, cast

from .payload import JSON, Blob

__all__ = ["PAYLOAD", "PAYLOADS", "Plain", "plain", "plain_payload"]

_Converter: TypeAlias = Callable[[object], JSON]


class Plain:
    """A frozen dataclass with a form that JSON can hold."""

    __slots__ = ()

    def to_dict(self) -> dict[str, JSON]:
        """Return all fields by name, for `json.dumps`.

        Times are RFC 3339 in UTC, durations are seconds, payloads are their values, and blobs are
        `{"content_type": …, "data": …}` in base64. A missing value is `None`.
        """
        kind: type = type(self)
        return {name: convert(getattr(self, name)) for name, convert in _converters(kind)}


def plain(value: object) -> JSON:
    """Convert a field of a result or event to a value that JSON can hold.

    Raises:
        TypeError: Fields have no such type.
    """
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return cast("str", value.value)
        case str():
            return value
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
        case Plain():
            return value.to_dict()
        case Mapping():
            return {str(key): plain(item) for key, item in value.items()}
        case tuple():
            return [plain(item) for item in value]
        case _:
            raise TypeError(f"no plain form for {type(value).__name__}")


def plain_payload(value: object) -> JSON:
    """Convert a blob, and return JSON as it is: it may be large, and nested deeper than Python can recurse."""
    if isinstance(value, Blob):
        return {"content_type": value.content_type, "data": base64.b64encode(value.data).decode("ascii")}
    return cast("JSON", value)


def _payloads(value: object) -> JSON:
    return {key: plain_payload(item) for key, item in cast("Mapping[str, object]", value).items()}


# The metadata of a field that holds a payload, or a mapping of them.
PAYLOAD: Mapping[str, _Converter] = {"plain": plain_payload}
PAYLOADS: Mapping[str, _Converter] = {"plain": _payloads}


@cache
def _converters(kind: type) -> tuple[tuple[str, _Converter], ...]:
    return tuple((field.name, field.metadata.get("plain", plain)) for field in fields(kind))
