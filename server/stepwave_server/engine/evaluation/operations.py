"""Values of expressions, and what operators do with them.

Values are those of JSON, times (`datetime`) and durations (`timedelta`). A number of a JSON text stays text, with its
digits, until an operator needs its value: without a fraction and an exponent it is an int, otherwise a double. What is
computed with ints has 64 bits. As in CEL, no operator mixes ints and doubles, except comparisons.
"""

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta

from simplejson import RawJSON

__all__ = [
    "OPERATORS",
    "Budget",
    "Exhausted",
    "Missing",
    "Problem",
    "bounded",
    "field_of",
    "item_at",
    "named",
    "plain",
    "quoted",
    "undefined",
]

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
            raise Missing(f"there is no field {quoted(field)}") from None
    if value is None:
        raise Missing(f"null has no field {quoted(field)}")
    raise Problem(f"{named(value)} has no field {quoted(field)}")


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


def quoted(text: str) -> str:
    """Return a text in quotes, cut if it is long."""
    return f'"{text}"' if len(text) <= 80 else f'"{text[:79]}…"'


def undefined(sign: str, *values: object) -> Problem:
    """Return the problem that an operator or function is not defined for values of these types."""
    kinds = {type(value) for value in values}
    hint = ": convert with int() or double()" if kinds == {int, float} else ""
    return Problem(f"`{sign}` is not defined for {' and '.join(map(named, values))}{hint}")


def bounded(value: int) -> int:
    """Return an integer, which must have 64 bits."""
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
        raise undefined(sign, one, other)

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
        return bounded(result)
    if type(one) is float and type(other) is float:
        return apply(one, other)
    raise undefined(sign, one, other)


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
        raise undefined("%", one, other)
    if not other:
        raise Problem("division by zero")
    return bounded(abs(one) % abs(other) * (-1 if one < 0 else 1))


def _negate(_budget: Budget, value: object) -> object:
    value = plain(value)
    if type(value) is int:
        return bounded(-value)
    if type(value) is float:
        return -value
    raise undefined("-", value)


def _not(_budget: Budget, value: object) -> bool:
    if isinstance(value, bool):
        return not value
    raise undefined("!", value)


def _in(budget: Budget, value: object, group: object) -> bool:
    if isinstance(group, list):
        for item in group:
            budget.spend(4)
            if equal(budget, value, item):
                return True
        return False
    if isinstance(group, dict) and type(plain(value)) in (str, int, bool):
        return value in group if isinstance(value, str) else False
    raise undefined("in", value, group)


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
