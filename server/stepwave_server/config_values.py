"""The values of settings as texts: durations, sizes, lists of names; and what is shown of a password."""

import re
from collections.abc import Callable
from typing import Annotated, TypeAlias, get_args

from pydantic import BeforeValidator, ByteSize, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode

from stepwave._files._contract import parse_duration

__all__ = ["Bytes", "Names", "Seconds", "is_duration", "is_size", "mask_passwords", "show_seconds", "show_size"]

_DAYS = re.compile(r"([0-9]{1,7}(?:\.[0-9]+)?)d", re.ASCII)
_PASSWORD = re.compile(r"(://[^/?#:@\s]*:)[^\s]*@")
_PARAMETER = re.compile(r"([?&](?:password|passwd|token|secret)=)[^&#\s]+", re.IGNORECASE)
_MASK = "***"
_UNITS = (("d", 24 * 3600.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 0.001))
_SIZES = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def _to_seconds(value: object) -> object:
    """Return seconds for a duration such as `30s`, `2m` or `7d`; leave numbers as they are.

    Raises:
        ValueError: The text is not a duration.
    """
    if not isinstance(value, str) or _is_number(value):
        return value
    text = value.strip()
    if days := _DAYS.fullmatch(text):
        return float(days[1]) * 24 * 3600
    duration = parse_duration(text)
    return duration.seconds + duration.nanos / 1e9


def _to_bytes(value: object) -> object:
    """Return bytes for a size such as `64MiB`; leave numbers as they are.

    Raises:
        ValueError: The text is not a size.
    """
    if not isinstance(value, str) or _is_number(value):
        return value
    try:
        return int(TypeAdapter(ByteSize).validate_python(value.strip()))
    except ValueError:
        raise ValueError(f'"{value}" is not a size such as 64MiB, 10GiB or 1048576') from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _to_names(value: object) -> object:
    """Return the names in a text that separates them by commas; leave lists as they are."""
    return [name for part in value.split(",") if (name := part.strip())] if isinstance(value, str) else value


Seconds: TypeAlias = Annotated[float, BeforeValidator(_to_seconds)]
"""A duration: a number of seconds, or a text as in workflow files. Days are allowed, too: `30s`, `1h30m`, `7d`."""

Bytes: TypeAlias = Annotated[int, BeforeValidator(_to_bytes)]
"""A size: a number of bytes, or a text such as `64MiB`."""

Names: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_to_names)]
"""Names: a list, or a text that separates them by commas."""


def is_duration(field: FieldInfo) -> bool:
    """Return whether a setting is a duration."""
    return _is_read_by(_to_seconds, field)


def is_size(field: FieldInfo) -> bool:
    """Return whether a setting is a size."""
    return _is_read_by(_to_bytes, field)


def _is_read_by(read: Callable[[object], object], field: FieldInfo) -> bool:
    """Return whether a setting has a validator, by itself or within a union such as `Seconds | None`."""
    inner = (item for kind in get_args(field.annotation) for item in getattr(kind, "__metadata__", ()))
    return any(getattr(item, "func", None) is read for item in (*field.metadata, *inner))


def show_seconds(seconds: float) -> str:
    """Return a duration in its largest unit that leaves no fraction: `90s`, `10m`, `30d`."""
    for unit, length in _UNITS:
        if seconds and (count := round(seconds / length, 9)).is_integer():
            return f"{count:.0f}{unit}"
    return f"{seconds:g}s"


def show_size(count: int) -> str:
    """Return a size in its largest unit that leaves no fraction: `3MiB`; or the number of bytes."""
    for unit, length in _SIZES:
        if count and count % length == 0:
            return f"{count // length}{unit}"
    return str(count)


def mask_passwords(text: str) -> str:
    """Return a text with `***` for the passwords of URLs: `redis://user:***@host`."""
    return _PARAMETER.sub(rf"\g<1>{_MASK}", _PASSWORD.sub(rf"\g<1>{_MASK}@", text))
