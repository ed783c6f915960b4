"""What the operators and functions of expressions do with values.

Values are those of JSON, times (`datetime`) and durations (`timedelta`). A number of a JSON text stays text, with its
digits, until an operator needs its value: without a fraction and an exponent it is an int, otherwise a double. What is
computed with ints has 64 bits. As in CEL, no operator mixes ints and doubles, except comparisons.
"""

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta

import cel
from simplejson import RawJSON

__all__ = [
    "FUNCTIONS",
    "OPERATORS",
    "Budget",
    "Exhausted",
    "Missing",
    "Problem",
    "equal",
    "field_of",
    "item_at",
    "named",
]

MAX_PATTERN = 1_000
"""Characters of a regular expression."""

MAX_TIME = 100
"""Characters of the text of a time or duration."""

LARGEST = 2**63
NUMBERS = frozenset({int, float})
ORDERED = frozenset({str, bool, datetime, timedelta})
TYPES = {
    type(None): "null",
    bool: "a bool",
    int: "an int",
    float: "a double",
    str: "a string",
    list: "a list",
    dict: "a map",
    datetime: "a timestamp",
    timedelta: "a duration",
}


class Problem(Exception):
    """Raised when an operation has no result for its values."""


class Missing(Problem):
    """Raised for a field or an item that does not exist."""


class Exhausted(Exception):
    """Raised when an evaluation has used up its budget."""


class Budget:
    """The work that one evaluation may still do: about a tenth of a microsecond for each unit."""

    __slots__ = ("left",)

    def __init__(self, units: int) -> None:
        self.left = units

    def spend(self, units: int) -> None:
        """Take units away.

        Raises:
            Exhausted: There are too few.
        """
        self.left -= units
        if self.left < 0:
            raise Exhausted


def plain(value: object) -> object:
    """Return a value, with a number of a JSON text as an int or a double."""
    if not isinstance(value, RawJSON):
        return value
    text: str = value.encoded_json
    return int(text) if text.lstrip("-").isdigit() else float(text)


def named(value: object) -> str:
    """Return the name of a value's type, with an article."""
    return TYPES.get(type(plain(value)), "a value")


def equal(budget: Budget, one: object, other: object) -> bool:
    """Say whether two values are equal. Values of different types are not, but an int may equal a double."""
    one, other = plain(one), plain(other)
    kind, other_kind = type(one), type(other)
    if kind in NUMBERS and other_kind in NUMBERS:
        return one == other
    if kind is not other_kind:
        return False
    if isinstance(one, list) and isinstance(other, list):
        budget.spend(4 * len(one))
        return len(one) == len(other) and all(map(equal, [budget] * len(one), one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        budget.spend(4 * len(one))
        return one.keys() == other.keys() and all(equal(budget, value, other[key]) for key, value in one.items())
    if isinstance(one, str):
        budget.spend(len(one) >> 6)
    return one == other


def field_of(value: object, field: str) -> object:
    """Return a field of a map."""
    if type(value) is dict:
        try:
            return value[field]
        except KeyError:
            raise Missing(f"there is no field {_quoted(field)}") from None
    if value is None:
        raise Missing(f"null has no field {_quoted(field)}")
    raise Problem(f"{named(value)} has no field {_quoted(field)}")


def item_at(value: object, index: object) -> object:
    """Return an item of a list, or a value of a map."""
    index = plain(index)
    if isinstance(value, list) and type(index) is int:
        if 0 <= index < len(value):
            return value[index]
        raise Missing(f"there is no item {index} in a list of {len(value)}")
    if isinstance(index, str):
        return field_of(value, index)
    if value is None:
        raise Missing(f"null has no item {index}")
    raise Problem(f"{named(value)} has no item at {named(index)}")


def _quoted(text: str) -> str:
    return f'"{text}"' if len(text) <= 80 else f'"{text[:79]}…"'


def _undefined(sign: str, *values: object) -> Problem:
    kinds = {type(value) for value in values}
    hint = ": convert with int() or double()" if kinds == {int, float} else ""
    return Problem(f"`{sign}` is not defined for {' and '.join(map(named, values))}{hint}")


def _bounded(value: int) -> int:
    if -LARGEST <= value < LARGEST:
        return value
    raise Problem("an integer has more than 64 bits")


def _comparison(sign: str, compare: Callable[[object, object], object]) -> Callable[[Budget, object, object], bool]:
    def apply(budget: Budget, one: object, other: object) -> bool:
        one, other = plain(one), plain(other)
        kind, other_kind = type(one), type(other)
        if (kind in NUMBERS and other_kind in NUMBERS) or (kind is other_kind and kind in ORDERED):
            if isinstance(one, str):
                budget.spend(len(one) >> 6)
            return bool(compare(one, other))
        raise _undefined(sign, one, other)

    return apply


def _add(budget: Budget, one: object, other: object) -> object:
    one, other = plain(one), plain(other)
    kinds = (type(one), type(other))
    if isinstance(one, list) and isinstance(other, list):
        budget.spend((len(one) + len(other)) >> 1)
        return one + other
    if isinstance(one, str) and isinstance(other, str):
        budget.spend((len(one) + len(other)) >> 4)
        return one + other
    if kinds in ((datetime, timedelta), (timedelta, datetime), (timedelta, timedelta)):
        return _time(operator.add, one, other)
    return _arithmetic("+", operator.add, one, other)


def _subtract(_budget: Budget, one: object, other: object) -> object:
    one, other = plain(one), plain(other)
    if (type(one), type(other)) in ((datetime, timedelta), (datetime, datetime), (timedelta, timedelta)):
        return _time(operator.sub, one, other)
    return _arithmetic("-", operator.sub, one, other)


def _time(apply: Callable[[object, object], object], one: object, other: object) -> object:
    try:
        return apply(one, other)
    except OverflowError:
        raise Problem("a time is out of its range") from None


def _arithmetic(sign: str, apply: Callable[..., object], one: object, other: object) -> object:
    if type(one) is int and type(other) is int:
        result = apply(one, other)
        assert isinstance(result, int)
        return _bounded(result)
    if type(one) is float and type(other) is float:
        return apply(one, other)
    raise _undefined(sign, one, other)


def _multiply(_budget: Budget, one: object, other: object) -> object:
    return _arithmetic("*", operator.mul, plain(one), plain(other))


def _divide(_budget: Budget, one: object, other: object) -> object:
    return _arithmetic("/", _quotient, plain(one), plain(other))


def _quotient(one: float, other: float) -> float:
    if isinstance(one, int) and isinstance(other, int):  # rounded toward zero
        if not other:
            raise Problem("division by zero")
        return abs(one) // abs(other) * (1 if (one < 0) == (other < 0) else -1)
    if other:
        return one / other
    return math.nan if not one or math.isnan(one) else math.copysign(math.inf, one) * math.copysign(1.0, other)


def _modulo(_budget: Budget, one: object, other: object) -> object:
    one, other = plain(one), plain(other)
    if type(one) is not int or type(other) is not int:
        raise _undefined("%", one, other)
    if not other:
        raise Problem("division by zero")
    return _bounded(abs(one) % abs(other) * (-1 if one < 0 else 1))


def _negate(_budget: Budget, value: object) -> object:
    value = plain(value)
    if type(value) is int:
        return _bounded(-value)
    if type(value) is float:
        return -value
    raise _undefined("-", value)


def _not(_budget: Budget, value: object) -> bool:
    if isinstance(value, bool):
        return not value
    raise _undefined("!", value)


def _in(budget: Budget, value: object, group: object) -> bool:
    if isinstance(group, list):
        for item in group:
            budget.spend(4)
            if equal(budget, value, item):
                return True
        return False
    if isinstance(group, dict) and type(plain(value)) in (str, int, bool):
        return value in group if isinstance(value, str) else False
    raise _undefined("in", value, group)


OPERATORS: dict[tuple[str, int], Callable[..., object]] = {
    ("==", 2): equal,
    ("!=", 2): lambda budget, one, other: not equal(budget, one, other),
    ("<", 2): _comparison("<", operator.lt),  # type: ignore[arg-type]  # the values are of one ordered type
    ("<=", 2): _comparison("<=", operator.le),  # type: ignore[arg-type]  # as above
    (">", 2): _comparison(">", operator.gt),  # type: ignore[arg-type]  # as above
    (">=", 2): _comparison(">=", operator.ge),  # type: ignore[arg-type]  # as above
    ("in", 2): _in,
    ("+", 2): _add,
    ("-", 2): _subtract,
    ("*", 2): _multiply,
    ("/", 2): _divide,
    ("%", 2): _modulo,
    ("neg", 1): _negate,
    ("!", 1): _not,
}
"""The operators by sign and number of operands. Each gets the budget first."""


def _size(_budget: Budget, value: object) -> int:
    if isinstance(value, str | list | dict):
        return len(value)
    raise _undefined("size()", value)


def _int(_budget: Budget, value: object) -> int:
    value = plain(value)
    match value:
        case bool():
            pass
        case int():
            return _bounded(value)
        case float() if math.isfinite(value):
            return _bounded(int(value))
        case str() if len(value) <= 20 and value.isascii() and value.removeprefix("-").isdigit():
            return _bounded(int(value))
        case str():
            raise Problem(f"{_quoted(value)} is no integer")
        case datetime():
            return math.floor(value.timestamp())
    raise _undefined("int()", value)


def _double(_budget: Budget, value: object) -> float:
    value = plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value) if "_" not in value and len(value) < 400 else float("")
        except ValueError:
            raise Problem(f"{_quoted(value)} is no number") from None
    raise _undefined("double()", value)


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
    raise _undefined("string()", value)


def _text_test(name: str, test: Callable[[str, str], bool]) -> Callable[[Budget, object, object], bool]:
    def apply(budget: Budget, text: object, part: object) -> bool:
        if isinstance(text, str) and isinstance(part, str):
            budget.spend((len(text) + len(part)) >> 6)
            return test(text, part)
        raise _undefined(f"{name}()", text, part)

    return apply


def _matches(budget: Budget, text: object, pattern: object) -> object:
    """Match a regular expression (RE2) in linear time. The library compiles it at each call."""
    if not isinstance(text, str) or not isinstance(pattern, str):
        raise _undefined("matches()", text, pattern)
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
            raise _undefined(f"{function}()", value)
        if len(value) > MAX_TIME:
            raise Problem(f"{_quoted(value)} is no {function}")
        budget.spend(50)
        return _native(text, value)

    return apply


def _part_of_time(function: str, *kinds: type) -> Callable[[Budget, object], object]:
    text = f"a.{function}()"

    def apply(budget: Budget, value: object) -> object:
        if not isinstance(value, kinds):
            raise _undefined(f"{function}()", value)
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
