"""Expressions: values that the server computes during the run, written with Python's operators.

`search.output["hits"] > 3` has no value yet. It is the CEL text `deps["search"].output["hits"] > 3`, for a step's
condition, list or input.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from stepwave._values.payload import JSON, Blob, to_payload
from stepwave.v1 import payload_pb2, workflow_pb2

from .cel import HasTerm, Level, NoTerm, Source, Term, arithmetic, binary, double, literal, member, unary

__all__ = ["Cel", "Expression", "Operand", "StepState", "WithDefault", "expression_of", "size"]

# What an operator takes: an expression, or a value that JSON can hold, with expressions at any depth.
Operand: TypeAlias = "Expression | bool | int | float | str | Sequence[Operand] | Mapping[str, Operand] | None"
Number: TypeAlias = "Expression | float"
Addend: TypeAlias = "Expression | float | str | Sequence[Operand]"

_STATES = ("SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED")


class Expression(HasTerm):
    """A value that only the run will have. Operators make other expressions of it; nothing is computed before the run.

    - Comparisons: `==`, `!=`, `<`, `<=`, `>`, `>=`, and `in_([…])`.
    - Conditions: `&`, `|` and `~` in place of `and`, `or` and `not`, with comparisons in parentheses:
      `(a.output > 1) & ~(b.state == "failed")`.
    - Arithmetic: `+`, `-` and `*` on two whole numbers or two with fractions, `/`, whose result always has a fraction,
      and `+` on two texts or two lists. Beside a number with a fraction in the workflow's code, the other operand may
      be of any kind.
    - `size(…)` is the length of a list, a text or an object. `has(…)` is whether a list or an object contains
      something, `contains(…)` whether a text does.

    A step fails with `invalid_input` if its expression cannot be evaluated: an object lacks a key, for example, or a
    text is added to a number.
    """

    __slots__ = ()

    __hash__ = object.__hash__  # by identity, because `==` makes an expression

    # Without it, `Reference.__getitem__` would make iteration endless.
    __iter__ = None

    @property
    def text(self) -> str:
        """Its CEL text."""
        return self.term.text

    @property
    def sources(self) -> tuple[Source, ...]:
        """The outputs, states, inputs and items that it uses."""
        return self.term.sources

    def to_binding(self, target: str) -> workflow_pb2.Binding:
        """Return the binding that puts the value at a JSON Pointer."""
        return workflow_pb2.Binding(target=target, expression=self.text)

    def default(self, value: JSON | Blob) -> "WithDefault":
        """Return it with a value in its place, for the input of a step.

        The value is used if it refers to a key or an item that does not exist, or to the output of a step that did not
        succeed, if the join allows that.

        Raises:
            ValueError: JSON cannot hold the value.
        """
        return WithDefault(self, to_payload(value))

    def __eq__(self, other: object) -> "Expression":  # type: ignore[override]  # it has no value before the run
        return self._relation("==", other)

    def __ne__(self, other: object) -> "Expression":  # type: ignore[override]  # it has no value before the run
        return self._relation("!=", other)

    def __lt__(self, other: Operand) -> "Expression":
        return self._order("<", other)

    def __le__(self, other: Operand) -> "Expression":
        return self._order("<=", other)

    def __gt__(self, other: Operand) -> "Expression":
        return self._order(">", other)

    def __ge__(self, other: Operand) -> "Expression":
        return self._order(">=", other)

    def in_(self, items: Operand) -> "Expression":
        """Return whether it is one of the items of a list, or a key of an object: `city.in_(["Oslo", "Rome"])`.

        Raises:
            TypeError: `items` is neither a list nor an expression.
        """
        if not isinstance(items, HasTerm | NoTerm | list | tuple):
            raise TypeError(f"in_ takes a list or an expression, got {items!r}")
        return self._relation("in", items)

    def has(self, item: Operand) -> "Expression":
        """Return whether it is a list that has an item, or an object that has a key."""
        return _Composed(binary(literal(item), "in", self.term, Level.RELATION))

    def contains(self, text: "Expression | str") -> "Expression":
        """Return whether it is a text that contains another text.

        Raises:
            TypeError: `text` is neither a string nor an expression.
        """
        if not isinstance(text, HasTerm | NoTerm | str):
            raise TypeError(f"contains takes a text or an expression, got {text!r}; has() is for lists and objects")
        return _Composed(member(self.term, "contains", literal(text)))

    def __and__(self, other: "Expression | bool") -> "Expression":
        return _Composed(binary(self.term, "&&", _condition("&", other), Level.AND))

    def __rand__(self, other: "Expression | bool") -> "Expression":
        return _Composed(binary(_condition("&", other), "&&", self.term, Level.AND))

    def __or__(self, other: "Expression | bool") -> "Expression":
        return _Composed(binary(self.term, "||", _condition("|", other), Level.OR))

    def __ror__(self, other: "Expression | bool") -> "Expression":
        return _Composed(binary(_condition("|", other), "||", self.term, Level.OR))

    def __invert__(self) -> "Expression":
        return _Composed(unary("!", self.term))

    def __neg__(self) -> "Expression":
        return _Composed(unary("-", self.term))

    def __add__(self, other: Addend) -> "Expression":
        return _Composed(arithmetic(self.term, "+", _addend(other, self), Level.SUM))

    def __radd__(self, other: Addend) -> "Expression":
        return _Composed(arithmetic(_addend(other, self), "+", self.term, Level.SUM))

    def __sub__(self, other: Number) -> "Expression":
        return _Composed(arithmetic(self.term, "-", _number("-", other), Level.SUM))

    def __rsub__(self, other: Number) -> "Expression":
        return _Composed(arithmetic(_number("-", other), "-", self.term, Level.SUM))

    def __mul__(self, other: Number) -> "Expression":
        return _Composed(arithmetic(self.term, "*", _number("*", other), Level.PRODUCT))

    def __rmul__(self, other: Number) -> "Expression":
        return _Composed(arithmetic(_number("*", other), "*", self.term, Level.PRODUCT))

    def __truediv__(self, other: Number) -> "Expression":
        return _Composed(arithmetic(double(self.term), "/", _number("/", other), Level.PRODUCT))

    def __rtruediv__(self, other: Number) -> "Expression":
        return _Composed(arithmetic(_number("/", other), "/", double(self.term), Level.PRODUCT))

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} has no value before the run: it is neither true nor false; write &, | and ~ in place of "
            "`and`, `or` and `not`, (a < b) & (b < c) in place of a < b < c, and in_() in place of `in`"
        )

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError(
            f"{self!r} has no value before the run: it cannot be part of a text; pass it as a value of its own"
        )

    def __repr__(self) -> str:
        return f"<expression {self.text}>"

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __contains__(self, item: object) -> NoReturn:
            raise TypeError(f"{self!r} has no value before the run; write has() in place of `in`")

    def _operand(self, value: object) -> Term:
        """Return a value that this expression is compared with as a term."""
        return literal(value)

    def _relation(self, operator: str, other: object) -> "Expression":
        return _Composed(binary(self.term, operator, self._operand(other), Level.RELATION))

    def _order(self, operator: str, other: Operand) -> "Expression":
        if isinstance(other, bool) or not isinstance(other, HasTerm | NoTerm | int | float | str):
            raise TypeError(f"{operator} compares numbers or texts, got {other!r}")
        return self._relation(operator, other)


class WithDefault(NoTerm):
    """An expression in the input of a step, and the value to use if it has none.

    Args:
        expression: The expression.
        value: The value.
    """

    __slots__ = ("_expression", "_value")

    def __init__(self, expression: Expression, value: payload_pb2.Payload) -> None:
        self._expression = expression
        self._value = value

    @property
    def sources(self) -> tuple[Source, ...]:
        """The references that the expression uses."""
        return self._expression.sources

    def refusal(self) -> TypeError:
        """Return the error for its use within an expression."""
        return TypeError(f"{self!r} is for the input of a step, and not for an expression")

    def to_binding(self, target: str) -> workflow_pb2.Binding:
        """Return the binding that puts the value at a JSON Pointer."""
        binding = self._expression.to_binding(target)
        binding.default.CopyFrom(self._value)
        return binding

    def __repr__(self) -> str:
        return f"{self._expression!r}.default(…)"


class _Composed(Expression):
    """An expression that an operator or a function made."""

    __slots__ = ("_term",)

    def __init__(self, term: Term) -> None:
        self._term = term

    @property
    def term(self) -> Term:
        """Its CEL text, and what the text uses."""
        return self._term


class Cel(Expression):
    """An expression in CEL, for what Python's operators cannot write: `Cel('deps["a"].output.all(x, x > 0)')`.

    It may use `deps["id"].output` and `deps["id"].state` of dependencies, `input`, and the `item` of a list. The steps
    that it names must be dependencies: see `depends_on` of `Workflow.step`.

    Raises:
        TypeError: The text is not a string.
        ValueError: The text is empty.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"the text of an expression is a string, got {text!r}")
        if not text.strip():
            raise ValueError("the text of an expression must not be empty")
        self._text = text

    @property
    def term(self) -> Term:
        """Its text. What the text uses is not known, and within other expressions it is in parentheses."""
        return Term(self._text, level=Level.ANY)


class StepState(Expression):
    """The end state of a step, to compare with `State.FAILED` or `"failed"`."""

    __slots__ = ("_owner", "_step_id")

    def __init__(self, owner: object, step_id: str) -> None:
        self._owner = owner
        self._step_id = step_id

    @property
    def term(self) -> Term:
        """Its CEL text, and the step."""
        return Term(f"deps[{literal(self._step_id).text}].state", (Source(self._owner, self._step_id, self),))

    def __repr__(self) -> str:
        return f"{self._step_id}.state"

    def _operand(self, value: object) -> Term:
        """Return a state, in upper case as in CEL."""
        if isinstance(value, HasTerm | NoTerm):
            return literal(value)
        if isinstance(value, list | tuple):
            return literal([_state_name(item) for item in value])
        return literal(_state_name(value))


def size(value: Expression) -> Expression:
    """Return the length of a list, a text or an object that only the run will have: `size(search.output) > 3`.

    Raises:
        TypeError: `value` is no expression.
    """
    if isinstance(value, NoTerm):
        raise value.refusal()
    if not isinstance(value, Expression):
        raise TypeError(f"size takes a reference or an expression, got {value!r}")
    return _Composed(Term(f"size({value.text})", value.sources))


def expression_of(value: object) -> Expression:
    """Return a value with expressions in it as one expression. The errors are those of `literal`."""
    return _Composed(literal(value))


def _state_name(value: object) -> str:
    if not isinstance(value, str) or value.upper() not in _STATES:
        raise ValueError(f"a step ends as one of {', '.join(_STATES).lower()}, got {value!r}")
    return value.upper()


def _condition(operator: str, value: object) -> Term:
    if not isinstance(value, HasTerm | NoTerm | bool):
        raise TypeError(
            f"{operator} combines conditions, got {value!r}; put comparisons in parentheses: (a > 1) {operator} (b > 2)"
        )
    return literal(value)


def _addend(value: object, other: Expression) -> Term:
    if other.term.is_double:
        return _number("+", value)
    if isinstance(value, bool) or not isinstance(value, HasTerm | NoTerm | int | float | str | list | tuple):
        raise TypeError(f"+ takes numbers, texts or lists, got {value!r}")
    return literal(value)


def _number(operator: str, value: object) -> Term:
    if isinstance(value, bool) or not isinstance(value, HasTerm | NoTerm | int | float):
        raise TypeError(f"{operator} takes numbers, got {value!r}")
    return literal(value)
