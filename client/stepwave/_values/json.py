"""The JSON that Stepwave accepts, checked wherever a value enters, and JSON Pointers into it.

It is RFC 8259 with bounds that the parsers of all languages share. Lists and objects nest at most `MAX_DEPTH` deep. A
number is within the range of a double and has at most `MAX_NUMBER` characters; its digits are kept as they are. The
keys of an object are distinct, because parsers do not agree which of two counts. `NaN` and `Infinity` are refused.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import isinf

from .numbers import read_json, read_kept, refuse_constant

__all__ = [
    "MAX_DEPTH",
    "MAX_NUMBER",
    "json_problem",
    "number_problem",
    "parse_json_text",
    "parse_pointer",
    "pointer",
    "written_problem",
]

MAX_DEPTH = 100
"""Nesting of lists and objects. Some parsers read no more by default."""

MAX_NUMBER = 4_300
"""Characters of a number. Python reads no more digits of an integer by default."""

_TOO_DEEP = f"is nested too deeply: at most {MAX_DEPTH} lists and objects within each other"
_LONGEST_SAFE = 308  # digits of an integer that any double can hold
_MAX_SHOWN = 200  # characters of a key or JSON Pointer in a message
_BLOCK = _LONGEST_SAFE // 2
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_LONG_NUMBER = re.compile(rf"-?\d{{{_LONGEST_SAFE},}}", re.ASCII)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def json_problem(text: str) -> str:
    """Return why an untrusted JSON text is refused, and where; empty: it is accepted."""
    if text == "null":
        return ""
    if _too_deep(text):
        return _TOO_DEEP
    try:
        _CHECKER.decode(text)
    except _Refused:
        return _placed_problem(text)
    except ValueError as error:
        return f"is not JSON: {error}"
    return ""


def parse_json_text(text: str) -> object:
    """Return the value of an untrusted JSON text. Its numbers keep their digits for `dump_json`.

    Raises:
        ValueError: The text is not JSON that Stepwave accepts; the message says why.
    """
    if problem := json_problem(text):
        raise ValueError(problem.removeprefix("is "))
    return read_json(text, read_kept)


def written_problem(text: str) -> str:
    """Return why a text written by Python's encoder with `allow_nan=False` is refused; empty: it is accepted.

    Its grammar is valid, so only depth and integers are checked.
    """
    if _too_deep(text):
        return f"it {_TOO_DEEP}"
    if _has_long_number(text):
        for number in _LONG_NUMBER.findall(_STRING.sub("", text)):
            if problem := number_problem(number):
                return f"it holds {problem}"
    return ""


def number_problem(text: str) -> str:
    """Return why a number of JSON's grammar is refused; empty: it is accepted."""
    if len(text) > MAX_NUMBER:
        return f"a number of {len(text):,} characters, and {MAX_NUMBER:,} are allowed"
    if isinf(float(text)):
        return f"the number {_shortened(text)}, which is beyond the range of a double"
    return ""


def pointer(path: Iterable[str | int]) -> str:
    """Return the JSON Pointer (RFC 6901) for keys and indexes; empty for the whole value."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def parse_pointer(text: str) -> list[str]:
    """Return the keys of a JSON Pointer (RFC 6901); empty for the whole value."""
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _has_long_number(text: str) -> bool:
    """Return whether the text may hold an integer that is too long.

    Such an integer fills at least one whole block with digits, wherever it begins. This takes a tenth of the time of a
    regular expression, and large answers are written on the event loop.
    """
    return any(text[at : at + _BLOCK].isdigit() for at in range(0, len(text) - _BLOCK + 1, _BLOCK))


class _Refused(Exception):
    """Raised at a number that breaks a bound, or an object with a duplicate key. Its place is not known yet."""


class _Pairs(list[tuple[str, object]]):
    """The keys of an object with their values, before keys that are equal become one."""


class _Number(str):
    """The text of a number."""

    __slots__ = ()


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _NO_BRACKET.sub("", _STRING.sub("", text))
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH


def _check_number(text: str) -> None:
    if number_problem(text):
        raise _Refused


def _check_integer(text: str) -> None:
    if len(text) > _LONGEST_SAFE:
        _check_number(text)


def _check_keys(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise _Refused


def _placed_problem(text: str) -> str:
    """Return the first problem of a refused text with its place, which takes a second and slower reading."""
    try:
        value = _FINDER.decode(text)
    except ValueError as error:  # it has an error of its syntax later on
        return f"is not JSON: {error}"
    return next(_problems(value, ()))


def _problems(value: object, path: tuple[str | int, ...]) -> Iterator[str]:
    """Yield the numbers beyond a bound and the duplicate keys of a value; `path` has the keys and indexes to it.

    A pointer is made for a problem alone: its keys may be long, and the values many.
    """
    if isinstance(value, _Number):
        if problem := number_problem(value):
            yield f"holds {problem}" + (f", at {_quoted(pointer(path))}" if path else "")
    elif isinstance(value, _Pairs):
        yield from _duplicates(value, path)
        for key, item in value:
            yield from _problems(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _problems(item, (*path, index))


def _duplicates(pairs: _Pairs, path: tuple[str | int, ...]) -> Iterator[str]:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            place = f", in the object at {_quoted(pointer(path))}" if path else ""
            yield f"holds the key {_quoted(key)} twice{place}"
        seen.add(key)


def _quoted(text: str) -> str:
    """Return a text in quotes, on one line that UTF-8 can encode."""
    shown = text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"
    return json.dumps(shown, ensure_ascii=False).encode(errors="backslashreplace").decode()


def _shortened(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:17]}…"


_CHECKER = json.JSONDecoder(
    parse_float=_check_number,
    parse_int=_check_integer,
    parse_constant=refuse_constant,
    object_pairs_hook=_check_keys,
)
_FINDER = json.JSONDecoder(
    parse_float=_Number, parse_int=_Number, parse_constant=refuse_constant, object_pairs_hook=_Pairs
)
