"""The JSON that Stepwave accepts, checked wherever a value enters, and JSON Pointers into it.

It is RFC 8259 with bounds that the parsers of all languages share. Lists and objects nest at most `MAX_DEPTH` deep. A
number is within the range of a double and has at most `MAX_NUMBER` characters; its digits are kept as they are. `NaN`
and `Infinity` are refused.
"""

import json
import re
from collections.abc import Iterable
from itertools import accumulate
from math import isinf

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
_BLOCK = _LONGEST_SAFE // 2
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NO_BRACKET = re.compile(r"[^\[\]{}]+")
_LONG_NUMBER = re.compile(rf"-?\d{{{_LONGEST_SAFE},}}", re.ASCII)
_STEP = {"[": 1, "{": 1, "]": -1, "}": -1}


def json_problem(text: str) -> str:
    """Return why an untrusted JSON text is refused; empty: it is accepted."""
    if text == "null":
        return ""
    if _too_deep(text):
        return _TOO_DEEP
    try:
        _CHECKER.decode(text)
    except _BadNumber as error:
        return f"holds {error}"
    except ValueError as error:
        return f"is not JSON: {error}"
    return ""


def parse_json_text(text: str) -> object:
    """Return the value of an untrusted JSON text.

    Raises:
        ValueError: The text is not JSON that Stepwave accepts; the message says why.
    """
    if problem := json_problem(text):
        raise ValueError(problem.removeprefix("is "))
    return json.loads(text)


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


class _BadNumber(ValueError):
    """Raised when a number breaks a bound."""


def _too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    brackets = _NO_BRACKET.sub("", _STRING.sub("", text))
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_DEPTH


def _check_number(text: str) -> None:
    if problem := number_problem(text):
        raise _BadNumber(problem)


def _check_integer(text: str) -> None:
    if len(text) > _LONGEST_SAFE:
        _check_number(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _shortened(text: str) -> str:
    return text if len(text) <= 20 else f"{text[:17]}…"


_CHECKER = json.JSONDecoder(parse_float=_check_number, parse_int=_check_integer, parse_constant=_refuse_constant)
