"""Numbers of JSON whose text Python's floats lose: `1.10`, `0.1234567890123456789`, `1E2`, `-0`."""

import json
import re
from collections.abc import Callable, Collection
from math import isinf
from typing import Any, Self, TypeAlias

__all__ = [
    "KeptFloat",
    "ReadNumber",
    "TextOf",
    "kept_text",
    "read_json",
    "read_kept",
    "refuse_constant",
    "show_json",
    "write_json",
]

ReadNumber: TypeAlias = Callable[[str], float]
"""Returns the float of a JSON number that is no integer, or that is `-0`."""

TextOf: TypeAlias = Callable[[float], str]
"""Returns the text of a float; empty: Python's own."""

_NEGATIVE_ZERO = re.compile(r"-0(?![\d.eE])")
_NO_FLOATS = frozenset({type(None), bool, int, str})


class KeptFloat(float):
    """A float that keeps the text of its JSON.

    It is for the command line alone, which passes values on and shows them. Some libraries refuse subclasses of
    `float`.

    Attributes:
        text: The text.
    """

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number of a JSON text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __reduce__(self) -> tuple[type, tuple[str]]:
        """Return how to copy it."""
        return KeptFloat, (self.text,)


def read_kept(text: str) -> float:
    """Return the number of a JSON text: a `KeptFloat` if Python would write it in another way."""
    number = float(text)
    return number if repr(number) == text or isinf(number) else KeptFloat(text)


def kept_text(number: float) -> str:
    """Return the text of a `KeptFloat`; empty for any other float."""
    return number.text if isinstance(number, KeptFloat) else ""


def read_json(text: str, read_number: ReadNumber) -> Any:
    """Return the value of a valid JSON text.

    Raises:
        ValueError: The text is not JSON. `NaN` and `Infinity` are refused.
        RecursionError: It is nested beyond the interpreter's limit.
    """

    def read_integer(digits: str) -> float:
        return read_number(digits) if digits == "-0" else int(digits)

    # The search is for speed: with a function for integers, reading many takes several times as long.
    holds_negative_zero = "-0" in text and _NEGATIVE_ZERO.search(text)
    decoder = json.JSONDecoder(
        parse_float=read_number,
        parse_int=read_integer if holds_negative_zero else None,
        parse_constant=refuse_constant,
    )
    return decoder.decode(text)


def write_json(value: object, encoder: json.JSONEncoder, text_of: TextOf) -> str:
    """Return the JSON text of a value.

    Args:
        value: The value.
        encoder: The encoder of everything but floats.
        text_of: Returns the text of a float.

    Raises:
        TypeError, ValueError, RecursionError: The encoder refuses the value, or it contains itself.
    """
    return _Writer(encoder, text_of).write(value, "\n")


def show_json(value: object, *, indent: int | None = None) -> str:
    """Return the JSON text of a value for people, with spaces. Numbers of `read_kept` keep their digits."""
    return write_json(value, json.JSONEncoder(ensure_ascii=False, indent=indent), kept_text)


def refuse_constant(name: str) -> None:
    """Refuse `NaN` and `Infinity`, which Python's parser accepts.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{name} is not allowed")


class _Writer:
    """Writes containers that may hold floats, and leaves all others to an encoder, which is faster."""

    def __init__(self, encoder: json.JSONEncoder, text_of: TextOf) -> None:
        self._encoder = encoder
        self._text_of = text_of
        self._comma = encoder.item_separator
        self._indent = " " * encoder.indent if isinstance(encoder.indent, int) else encoder.indent

    def write(self, value: object, line: str) -> str:
        """Return a value's text. `line` is the line break before it, with its indent."""
        match value:
            case None | bool() | int() | str():
                return self._encoder.encode(value)
            case float():
                return self._text_of(value) or self._encoder.encode(value)
            case dict():
                return self._object(value, line) if self._is_open(value.values()) else self._encoder.encode(value)
            case list() | tuple():
                return self._list(value, line) if self._is_open(value) else self._encoder.encode(value)
            case _:
                return self.write(self._encoder.default(value), line)

    def _object(self, value: dict[object, object], line: str) -> str:
        inner = line + (self._indent or "")
        return self._joined("{", [self._key(key) + self.write(item, inner) for key, item in value.items()], "}", line)

    def _list(self, value: Collection[object], line: str) -> str:
        inner = line + (self._indent or "")
        return self._joined("[", [self.write(item, inner) for item in value], "]", line)

    def _is_open(self, items: Collection[object]) -> bool:
        """Return whether to write items one by one: they may hold floats, or need an indent."""
        return bool(items) and (self._indent is not None or not _NO_FLOATS.issuperset(map(type, items)))

    def _key(self, key: object) -> str:
        """Return a key and the separator after it."""
        return self._encoder.encode({key: 0}).strip("{} \n")[:-1]

    def _joined(self, opening: str, parts: list[str], closing: str, line: str) -> str:
        if self._indent is None:
            return opening + self._comma.join(parts) + closing
        inner = line + self._indent
        return opening + inner + f"{self._comma}{inner}".join(parts) + line + closing
