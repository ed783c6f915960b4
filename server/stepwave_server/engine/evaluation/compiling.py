"""Functions of the nodes of an expression: what an evaluation calls."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from stepwave_server.core.inputs import Values
from stepwave_server.core.model import Blob, Payload
from stepwave_server.core.validate import did_you_mean

from .functions import FUNCTIONS
from .operations import OPERATORS, Budget, Problem, field_of, item_at, named
from .syntax import (
    MACROS,
    Call,
    Choice,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    Macro,
    MapOf,
    Name,
    Node,
    Operation,
    Select,
    SyntaxProblem,
)

__all__ = ["Compiler", "Parse", "Run", "Scope"]

MAX_DEPTH = 128
"""Operations that are applied one to the result of the other."""

MAX_WORK = 3_000_000
"""Units of work of one evaluation: at most about a second."""

MAX_SHOWN = 100
"""Characters of a key that a failure shows."""

VARIABLES = ("deps", "input", "item")

Parse: TypeAlias = Callable[[str], object]


class Scope:
    """What one evaluation reads: the values, those that it has parsed, its own variables, and its budget."""

    __slots__ = ("_parse", "_parsed", "_values", "budget", "variables")

    def __init__(self, values: Values, parse: Parse, slots: int) -> None:
        self._values = values
        self._parse = parse
        self._parsed: dict[str, object] = {}
        self.variables: list[object] = [None] * slots
        self.budget = Budget(MAX_WORK)

    def input(self) -> object:
        """Return the input of the run, or of the nested workflow."""
        return self._load("input", self._values.input, "the input")

    def item(self) -> object:
        """Return the item."""
        if self._values.item is None:
            raise Problem("there is no item here")
        return self._load("item", self._values.item, "the item")

    def output(self, step_id: str) -> object:
        """Return the output of a dependency; `None` unless it succeeded."""
        if step_id not in self._values.outputs:
            raise Problem(f'"{step_id}" is no dependency of the step')
        output = self._values.outputs[step_id]
        return None if output is None else self._load(f"output {step_id}", output, f'the output of "{step_id}"')

    def state(self, step_id: str) -> str:
        """Return the name of the state of a dependency."""
        if step_id not in self._values.states:
            raise Problem(f'"{step_id}" is no dependency of the step')
        return self._values.states[step_id].name

    def _load(self, key: str, payload: Payload, what: str) -> object:
        if key not in self._parsed:
            if isinstance(payload, Blob):
                raise Problem(f"{what} is a blob, and expressions read JSON")
            try:
                self._parsed[key] = self._parse(payload)
            except RecursionError:
                raise Problem(f"{what} is nested too deeply") from None
        return self._parsed[key]


Run: TypeAlias = Callable[[Scope], object]


class Compiler:
    """Makes functions of the nodes of one expression, and notes what it names."""

    def __init__(self) -> None:
        self.outputs: dict[str, None] = {}
        self.steps: dict[str, None] = {}
        self.uses_item = False
        self.slots = 0
        self._nodes = 0
        self._scopes: list[str] = []

    def compile(self, node: Node, depth: int) -> Run:
        """Return the function of a node, which is in `depth` others."""
        if depth > MAX_DEPTH:
            raise SyntaxProblem(f"it is nested too deeply: more than {MAX_DEPTH} operations in a row")
        self._nodes += 1
        return self._compile(node, depth + 1)

    def _compile(self, node: Node, depth: int) -> Run:  # noqa: C901 - one case for each kind of node
        match node:
            case Literal(value):
                return lambda _scope: value
            case Name(name):
                return self._variable(name)
            case Select() if (of_step := self._of_step(node)) is not None:
                return of_step
            case Select(operand, field):
                run = self.compile(operand, depth)
                return lambda scope: field_of(run(scope), field)
            case Index(operand, at):
                run, index = self.compile(operand, depth), self.compile(at, depth)
                return lambda scope: item_at(run(scope), index(scope))
            case Has(operand, field):
                return _has(self.compile(operand, depth), field)
            case ListOf(items):
                runs = self._each(items, depth)
                return lambda scope: [run(scope) for run in runs]
            case MapOf(entries):
                return _map_of([(self.compile(key, depth), self.compile(value, depth)) for key, value in entries])
            case Operation(operator, operands):
                return _applied(OPERATORS[operator, len(operands)], self._each(operands, depth))
            case Logic(operator, parts):
                return _logic(operator, self._each(parts, depth))
            case Choice(condition, then, otherwise):
                return _choice(*self._each((condition, then, otherwise), depth))
            case Call():
                return self._call(node, depth)
            case Macro():
                return self._macro(node, depth)

    def _each(self, nodes: tuple[Node, ...], depth: int) -> list[Run]:
        return [self.compile(node, depth) for node in nodes]

    def _variable(self, name: str) -> Run:
        for slot in range(len(self._scopes) - 1, -1, -1):
            if self._scopes[slot] == name:
                return lambda scope: scope.variables[slot]
        if name == "input":
            return Scope.input
        if name == "item":
            self.uses_item = True
            return Scope.item
        if name == "deps":
            raise SyntaxProblem('`deps` is used as deps["id"].output or deps["id"].state')
        known = (*VARIABLES, *self._scopes)
        raise SyntaxProblem(f"unknown variable `{name}`{did_you_mean(name, known)}")

    def _of_step(self, node: Select) -> Run | None:
        """Return the function of `deps["id"].output` and `deps["id"].state`; `None`: the node is something else."""
        match node:
            case Select(Index(Name("deps"), Literal(str() as step_id)), part):
                pass
            case Select(Select(Name("deps"), step_id), part):
                pass
            case _:
                return None
        if "deps" in self._scopes:
            return None
        self.steps[step_id] = None
        if part == "state":
            return lambda scope: scope.state(step_id)
        if part != "output":
            raise SyntaxProblem(f'deps["{step_id}"] has `output` and `state`, and not `{part}`')
        self.outputs[step_id] = None
        return lambda scope: scope.output(step_id)

    def _call(self, node: Call, depth: int) -> Run:
        function = FUNCTIONS.get((node.function, node.method, len(node.arguments)))
        if function is None:
            names = [name for name, method, _ in FUNCTIONS if method is node.method]
            if node.function in names:
                raise SyntaxProblem(f"{node.function}() has another number of arguments")
            known = [*names, *MACROS] if node.method else [*names, "has"]
            raise SyntaxProblem(f"unknown function `{node.function}`{did_you_mean(node.function, known)}")
        return _applied(function, self._each(node.arguments, depth))

    def _macro(self, node: Macro, depth: int) -> Run:
        over = self.compile(node.range, depth)
        slot = len(self._scopes)
        self._scopes.append(node.variable)
        self.slots = max(self.slots, len(self._scopes))
        before = self._nodes
        parts = self._each(node.arguments, depth)
        self._scopes.pop()
        loop = _Loop(node.name, slot, over, parts, self._nodes - before + 2)
        runs: dict[str, Run] = {"map": loop.map, "filter": loop.filter, "exists_one": loop.exists_one}
        return runs.get(node.name, loop.find)


def _applied(function: Callable[..., object], runs: list[Run]) -> Run:
    if len(runs) == 1:
        (run,) = runs
        return lambda scope: function(scope.budget, run(scope))
    if len(runs) == 2:
        one, other = runs
        return lambda scope: function(scope.budget, one(scope), other(scope))
    return lambda scope: function(scope.budget, *[run(scope) for run in runs])


def _has(run: Run, field: str) -> Run:
    def has(scope: Scope) -> bool:
        value = run(scope)
        if isinstance(value, dict):
            return field in value
        if value is None:  # so that the output of a step that did not succeed can be asked
            return False
        raise Problem(f"{named(value)} has no fields")

    return has


def _map_of(entries: list[tuple[Run, Run]]) -> Run:
    def make(scope: Scope) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in entries:
            name = key(scope)
            if not isinstance(name, str):
                raise Problem(f"a key of a map is a string, and not {named(name)}")
            if name in found:
                raise Problem(f'a map has the key "{name[:MAX_SHOWN]}" twice')
            found[name] = value(scope)
        return found

    return make


def _bool(value: object, what: str) -> bool:
    if isinstance(value, bool):
        return value
    raise Problem(f"{what} is {named(value)}, and must be a bool")


def _logic(operator: str, parts: list[Run]) -> Run:
    """Return the function of `&&` or `||`. A part that decides hides problems of the others, as in CEL."""
    decides = operator == "||"

    def decide(scope: Scope) -> bool:
        problem: Problem | None = None
        for part in parts:
            try:
                if _bool(part(scope), f"a part of `{operator}`") is decides:
                    return decides
            except Problem as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return not decides

    return decide


def _choice(condition: Run, then: Run, otherwise: Run) -> Run:
    return lambda scope: (then if _bool(condition(scope), "the condition of `?`") else otherwise)(scope)


@dataclass(frozen=True, slots=True)
class _Loop:
    """A macro: what it does for the items of a list, or the keys of a map.

    `weight` is the number of nodes that are evaluated for each item: what the item costs.
    """

    name: str
    slot: int
    over: Run
    parts: list[Run]
    weight: int

    def find(self, scope: Scope) -> bool:
        """Search an item that decides `all` or `exists`. It hides problems of others, as in CEL."""
        decides = self.name == "exists"
        problem: Problem | None = None
        for item in self._items(scope):
            try:
                if self._test(scope, item) is decides:
                    return decides
            except Problem as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return not decides

    def exists_one(self, scope: Scope) -> bool:
        """Say whether one item alone meets the condition."""
        return sum([self._test(scope, item) for item in self._items(scope)]) == 1

    def filter(self, scope: Scope) -> list[object]:
        """Return the items that meet the condition."""
        return [item for item in self._items(scope) if self._test(scope, item)]

    def map(self, scope: Scope) -> list[object]:
        """Return a value for each item; with two expressions, for each that meets the first."""
        change = self.parts[-1]
        found = []
        for item in self._items(scope):
            if len(self.parts) == 1:
                self._enter(scope, item)
            elif not self._test(scope, item):
                continue
            found.append(change(scope))
        return found

    def _items(self, scope: Scope) -> list[object]:
        value = self.over(scope)
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            return [*value]
        raise Problem(f"{self.name}() needs a list or a map, and got {named(value)}")

    def _enter(self, scope: Scope, item: object) -> None:
        scope.variables[self.slot] = item
        scope.budget.spend(self.weight)

    def _test(self, scope: Scope, item: object) -> bool:
        self._enter(scope, item)
        return _bool(self.parts[0](scope), f"the condition of {self.name}()")
