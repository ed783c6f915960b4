"""Makes CEL text (https://cel.dev): values, and operations with parentheses where the grammar needs them.

CEL compares numbers of any kind, as Python does, but computes only with numbers of one kind. So beside a number that
certainly has a fraction, a `double` of CEL, the other operand is made one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import isfinite
from typing import TYPE_CHECKING, NoReturn

from stepwave._values.payload import Blob, dump_json

__all__ = [
    "HasTerm",
    "Level",
    "NoTerm",
    "Source",
    "Term",
    "arithmetic",
    "binary",
    "double",
    "literal",
    "member",
    "unary",
]

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


class Level(IntEnum):
    """The precedence of the outermost operator of a text, the lowest first."""

    ANY = 0
    OR = 1
    AND = 2
    RELATION = 3
    SUM = 4
    PRODUCT = 5
    UNARY = 6
    MEMBER = 7


@dataclass(frozen=True, slots=True)
class Source:
    """A value of the run that a term uses.

    Attributes:
        owner: The workflow that it belongs to.
        step_id: The step whose output or state it is; empty: it is an input or an item.
        value: It.
    """

    owner: object
    step_id: str
    value: object


@dataclass(frozen=True, slots=True)
class Term:
    """A CEL text.

    Attributes:
        text: The text.
        sources: The values of the run that it uses.
        level: The precedence of its outermost operator.
        is_double: Whether it is certainly a number with a fraction.
        is_fixed_int: Whether it is a whole number that is known before the run.
    """

    text: str
    sources: tuple[Source, ...] = ()
    level: Level = Level.MEMBER
    is_double: bool = False
    is_fixed_int: bool = False


class HasTerm:  # no abstract base class, for which `isinstance` takes ten times as long
    """Base class of what stands for a value of the run."""

    __slots__ = ()

    @property
    def term(self) -> Term:
        """Its CEL text, and what the text uses."""
        raise NotImplementedError


class NoTerm:
    """Base class of what is easily confused with a value: operators on it raise `TypeError` with advice."""

    __slots__ = ()

    def refusal(self) -> TypeError:
        """Return the error, with advice."""
        raise NotImplementedError

    if not TYPE_CHECKING:  # type checkers refuse these operators by themselves

        def __lt__(self, other: object) -> NoReturn:
            raise self.refusal()

        __le__ = __gt__ = __ge__ = __getitem__ = __lt__

        def __eq__(self, other: object) -> bool:
            if isinstance(other, HasTerm | NoTerm | bool | int | float | str | list | tuple | dict):
                raise self.refusal()
            return NotImplemented

        __hash__ = object.__hash__


def literal(value: object) -> Term:
    """Return a value as a term: one that JSON can hold, with expressions at any depth.

    Raises:
        TypeError: CEL has no such value, or a step is given in place of its output.
        ValueError: A number or a text is beyond what CEL can hold, or the value contains itself.
    """
    try:
        return _literal(value)
    except RecursionError as error:
        raise ValueError("the value is nested too deeply, or contains itself") from error


def binary(left: Term, operator: str, right: Term, level: Level) -> Term:
    """Return an operation. CEL's operators group to the left; of `&&` and `||`, the grouping makes no difference."""
    least = level if level in (Level.AND, Level.OR) else Level(level + 1)
    text = f"{_enclosed(left, level)} {operator} {_enclosed(right, least)}"
    return Term(text, (*left.sources, *right.sources), level)


def arithmetic(left: Term, operator: str, right: Term, level: Level) -> Term:
    """Return an operation on two numbers, which are made one kind if the kind of one is certain, or on other values."""
    if not (left.is_double or right.is_double):
        return binary(left, operator, right, level)
    made = binary(double(left), operator, double(right), level)
    return Term(made.text, made.sources, level, is_double=True)


def double(term: Term) -> Term:
    """Return a number as one with a fraction."""
    if term.is_double:
        return term
    if term.is_fixed_int:
        return _fraction(float(term.text))
    return Term(f"double({term.text})", term.sources, is_double=True)


def unary(operator: str, operand: Term) -> Term:
    """Return an operation on one operand."""
    text = operator + _enclosed(operand, Level.MEMBER)
    return Term(text, operand.sources, Level.UNARY, is_double=operand.is_double)


def member(target: Term, function: str, argument: Term) -> Term:
    """Return the call of a member function."""
    text = f"{_enclosed(target, Level.MEMBER)}.{function}({argument.text})"
    return Term(text, (*target.sources, *argument.sources))


def _enclosed(term: Term, least: Level) -> str:
    return term.text if term.level >= least else f"({term.text})"


def _literal(value: object) -> Term:
    match value:
        case HasTerm():
            return value.term
        case NoTerm():
            raise value.refusal()
        case None:
            return Term("null")
        case bool():
            return Term("true" if value else "false")
        case int():
            return _integer(value)
        case float():
            return _fraction(value)
        case str():
            return Term(_quoted(value))
        case list() | tuple():
            return _list([_literal(item) for item in value])
        case Mapping():
            return _object({_key(key): _literal(item) for key, item in value.items()})
        case Blob():
            raise TypeError("an expression cannot hold a blob")
        case _:
            raise TypeError(f"an expression cannot hold {value!r}")


def _integer(value: int) -> Term:
    if not _MIN_INT <= value <= _MAX_INT:
        raise ValueError("an expression cannot hold a whole number beyond 64 bits")
    return Term(int.__repr__(value), level=Level.UNARY if value < 0 else Level.MEMBER, is_fixed_int=True)


def _fraction(value: float) -> Term:
    if not isfinite(value):
        raise ValueError(f"an expression cannot hold the number {value}")
    text = float.__repr__(value)
    return Term(text, level=Level.UNARY if text.startswith("-") else Level.MEMBER, is_double=True)


def _list(items: Sequence[Term]) -> Term:
    text = ", ".join(item.text for item in items)
    return Term(f"[{text}]", tuple(source for item in items for source in item.sources))


def _object(items: Mapping[str, Term]) -> Term:
    text = ", ".join(f"{_quoted(key)}: {item.text}" for key, item in items.items())
    return Term(f"{{{text}}}", tuple(source for item in items.values() for source in item.sources))


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys must be strings, got {key!r}")
    return key


def _quoted(text: str) -> str:
    """Return a text as a string of CEL, which has all the escapes of JSON but those of halves of surrogate pairs."""
    quoted = dump_json(text)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"an expression cannot hold half of a surrogate pair: {quoted}") from None
    return quoted
