"""The functions of expressions. Regular expressions and times are those of the CEL library."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta

import cel
from simplejson import RawJSON

from .operations import Budget, Problem, bounded, plain, quoted, undefined

__all__ = ["FUNCTIONS"]

MAX_PATTERN = 1_000
"""Characters of a regular expression."""

MAX_TIME = 100
"""Characters of the text of a time or duration."""


def _size(_budget: Budget, value: object) -> int:
    if isinstance(value, str | list | dict):
        return len(value)
    raise undefined("size()", value)


def _int(_budget: Budget, value: object) -> int:
    value = plain(value)
    match value:
        case bool():
            pass
        case int():
            return bounded(value)
        case float() if math.isfinite(value):
            return bounded(int(value))
        case str() if len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
            return bounded(int(value))
        case str():
            raise Problem(f"{quoted(value)} is no integer")
        case datetime():
            return math.floor(value.timestamp())
    raise undefined("int()", value)


def _double(_budget: Budget, value: object) -> float:
    value = plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value) if "_" not in value and len(value) < 400 else float("")
        except ValueError:
            raise Problem(f"{quoted(value)} is no number") from None
    raise undefined("double()", value)


def _string(_budget: Budget, value: object) -> str:
    if isinstance(value, RawJSON) and isinstance(plain(value), int):
        return str(value.encoded_json)
    value = plain(value)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value).removesuffix(".0")
        case datetime() | timedelta():
            return str(_native("string(a)", value))
    raise undefined("string()", value)


def _text_test(name: str, test: Callable[[str, str], bool]) -> Callable[[Budget, object, object], bool]:
    def apply(budget: Budget, text: object, part: object) -> bool:
        if isinstance(text, str) and isinstance(part, str):
            budget.spend((len(text) + len(part)) >> 6)
            return test(text, part)
        raise undefined(f"{name}()", text, part)

    return apply


def _matches(budget: Budget, text: object, pattern: object) -> object:
    """Match a regular expression (RE2) in linear time. The library compiles it at each call."""
    if not isinstance(text, str) or not isinstance(pattern, str):
        raise undefined("matches()", text, pattern)
    if len(pattern) > MAX_PATTERN:
        raise Problem(f"a regular expression has at most {MAX_PATTERN:,} characters")
    budget.spend(500 + len(pattern) * 10 + len(text) * (10 + len(pattern)) // 200)
    return _native("a.matches(b)", text, pattern)


_PROGRAMS: dict[str, cel.Program] = {}


def _native(text: str, *values: object) -> object:
    """Return the value of an expression of the library, for what it does better: regular expressions and times."""
    if text not in _PROGRAMS:
        _PROGRAMS[text] = cel.compile(text)
    try:
        return _PROGRAMS[text].execute(dict(zip("ab", values, strict=False)))
    except Exception as error:
        shown = str(error).partition("\n")[0].rstrip(":")
        raise Problem(shown if len(shown) <= 200 else f"{shown[:199]}…") from None


def _time_of_text(function: str) -> Callable[[Budget, object], object]:
    text = f"{function}(a)"

    def apply(budget: Budget, value: object) -> object:
        if not isinstance(value, str):
            raise undefined(f"{function}()", value)
        if len(value) > MAX_TIME:
            raise Problem(f"{quoted(value)} is no {function}")
        budget.spend(50)
        return _native(text, value)

    return apply


def _part_of_time(function: str, *kinds: type) -> Callable[[Budget, object], object]:
    text = f"a.{function}()"

    def apply(budget: Budget, value: object) -> object:
        if not isinstance(value, kinds):
            raise undefined(f"{function}()", value)
        budget.spend(50)
        return _native(text, value)

    return apply


_DATES = ("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear")
_CLOCK = ("getHours", "getMinutes", "getSeconds", "getMilliseconds")

FUNCTIONS: dict[tuple[str, bool, int], Callable[..., object]] = {
    ("size", False, 1): _size,
    ("size", True, 1): _size,
    ("int", False, 1): _int,
    ("double", False, 1): _double,
    ("string", False, 1): _string,
    ("contains", True, 2): _text_test("contains", lambda text, part: part in text),
    ("startsWith", True, 2): _text_test("startsWith", str.startswith),
    ("endsWith", True, 2): _text_test("endsWith", str.endswith),
    ("matches", True, 2): _matches,
    ("timestamp", False, 1): _time_of_text("timestamp"),
    ("duration", False, 1): _time_of_text("duration"),
    **{(name, True, 1): _part_of_time(name, datetime) for name in _DATES},
    **{(name, True, 1): _part_of_time(name, datetime, timedelta) for name in _CLOCK},
}
"""The functions by name, whether they are methods, and number of arguments, the target included."""
