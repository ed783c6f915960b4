"""Expressions: compiled once, then evaluated for the values of a step.

The values that an expression does not name are not read. An evaluation is pure: maps are read in the order of their
keys, numbers that are passed on keep their digits, and there is no clock. Its time and memory are bounded by a budget,
its depth by the compiler.

The CEL library parses each text, too, so that all of them are CEL. It does not evaluate them: its `map` and `filter`
take quadratic time, it orders the keys of maps at random, and it cannot be stopped.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

import cel

from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.model import Reason
from stepwave_server.wire.workflows.parsing import MAX_EXPRESSION

from .compiling import Compiler, Parse, Run, Scope
from .operations import Budget, Exhausted, Missing, Problem, named
from .syntax import (
    Call,
    Choice,
    Index,
    ListOf,
    Literal,
    Macro,
    MapOf,
    Name,
    Node,
    Operation,
    Select,
    SyntaxProblem,
    parse,
)

__all__ = ["Expression", "SyntaxProblem", "ValueMissing", "compile_expression"]

MAX_CACHED = 500_000
"""Characters of the expressions whose compiled forms are cached: as many as one request may have, so that what its
check has compiled, the steps find compiled. They take up to 60 MB."""

MAX_SHOWN = 100
"""Characters of an expression that a failure shows."""


class ValueMissing(EvaluationFailed):
    """Raised when an expression reads a field or an item that does not exist."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled expression.

    Attributes:
        text: Its text.
        outputs: The ids of the steps whose outputs it reads, in order.
        steps: The ids of all steps that it names, in order.
        uses_item: Whether it reads the item.
        never_bool: Whether its value is plainly no bool.
    """

    text: str
    outputs: tuple[str, ...]
    steps: tuple[str, ...]
    uses_item: bool
    never_bool: bool
    _run: Run
    _slots: int

    def evaluate(self, values: Values, parse: Parse) -> object:
        """Return its value: JSON, with numbers that were not computed as `RawJSON`.

        Args:
            values: What it may use.
            parse: Parses JSON, with numbers as `RawJSON`. The results are not modified.

        Raises:
            EvaluationFailed: It has no value, or takes too long.
            ValueMissing: It reads a field or an item that does not exist.
        """
        scope = Scope(values, parse, self._slots)
        try:
            value = self._run(scope)
            _check_json(value, scope.budget)
        except Missing as problem:
            raise ValueMissing(self._failure(str(problem))) from None
        except Problem as problem:
            raise EvaluationFailed(self._failure(str(problem))) from None
        except Exhausted:
            reason = "it takes too long, or its value is too large"
            raise EvaluationFailed(self._failure(reason), Reason.RESOURCE_EXHAUSTED) from None
        except RecursionError:
            raise EvaluationFailed(self._failure("the values are nested too deeply")) from None
        return value

    def _failure(self, reason: str) -> str:
        shown = self.text if len(self.text) <= MAX_SHOWN else f"{self.text[: MAX_SHOWN - 1]}…"
        return f"the expression `{shown}` cannot be evaluated: {reason}"


class _Compiled:
    """The compiled forms of the expressions that were used last. Threads may share it."""

    def __init__(self) -> None:
        self._forms: OrderedDict[str, Expression] = OrderedDict()
        self._characters = 0
        self._lock = Lock()

    def get(self, text: str) -> Expression | None:
        with self._lock:
            found = self._forms.get(text)
            if found is not None:
                self._forms.move_to_end(text)
            return found

    def add(self, expression: Expression) -> None:
        with self._lock:
            if expression.text not in self._forms:
                self._characters += len(expression.text)
            self._forms[expression.text] = expression
            while self._characters > MAX_CACHED:
                text, _ = self._forms.popitem(last=False)
                self._characters -= len(text)


_compiled = _Compiled()


def compile_expression(text: str) -> Expression:
    """Return the compiled form of a text.

    Raises:
        SyntaxProblem: It is no expression, or names what does not exist. The message says what is wrong.
    """
    found = _compiled.get(text)
    if found is None:
        found = _compile(text)
        _compiled.add(found)
    return found


def _compile(text: str) -> Expression:
    if len(text) > MAX_EXPRESSION:
        raise SyntaxProblem(f"{len(text):,} characters are more than the {MAX_EXPRESSION:,} allowed")
    compiler = Compiler()
    try:
        node = parse(text)
        run = compiler.compile(node, 0)
        cel.compile(text)
    except RecursionError:
        raise SyntaxProblem("it is nested too deeply") from None
    except ValueError as error:
        reason = str(error).partition("ERROR: <input>:")[2].partition("\n")[0]
        raise SyntaxProblem(f"it is no expression: {reason}" if reason else "it is no expression") from None
    return Expression(
        text=text,
        outputs=tuple(compiler.outputs),
        steps=tuple(compiler.steps),
        uses_item=compiler.uses_item,
        never_bool=_never_bool(node),
        _run=run,
        _slots=compiler.slots,
    )


def _check_json(value: object, budget: Budget) -> None:
    """Check that a value is JSON, and not too large. A value that stands in it many times counts as often."""
    budget.spend(3)
    if isinstance(value, str):
        budget.spend(len(value) >> 4)
    elif isinstance(value, list):
        for item in value:
            _check_json(item, budget)
    elif isinstance(value, dict):
        for key, item in value.items():
            budget.spend(len(key) >> 4)
            _check_json(item, budget)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Problem(f"its value holds {value}, which JSON cannot hold")
    elif isinstance(value, datetime | timedelta):
        raise Problem(f"its value holds {named(value)}, which JSON cannot hold: convert it with string()")


def _never_bool(node: Node) -> bool:
    """Say whether the value of a node is plainly no bool."""
    match node:
        case Literal(value):
            return not isinstance(value, bool)
        case ListOf() | MapOf():
            return True
        case Operation(operator, _):
            return operator in ("+", "-", "*", "/", "%", "neg")
        case Call(function, _, _):
            return function in ("size", "int", "double", "string", "timestamp", "duration") or function[:3] == "get"
        case Macro(name, _, _, _):
            return name in ("map", "filter")
        case Choice(_, then, otherwise):
            return _never_bool(then) and _never_bool(otherwise)
        case Select(Index(Name("deps"), _) | Select(Name("deps"), _), "state"):
            return True
    return False
