"""The evaluator and the CEL library give the same values for the same expressions."""

import json
import math
import operator
from collections.abc import Callable

import cel
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.model import Binding, FromExpression, State, Step
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator

INPUT: dict[str, object] = {
    "n": 5,
    "neg": -3,
    "x": 1.5,
    "whole": 2.0,
    "s": "abc",
    "yes": True,
    "none": None,
    "list": [3, 1, 2],
    "mixed": [1, 1.0, "1", None, True, [1], {"a": 1}],
    "map": {"a": 1},
    "rows": [{"ok": True}, {"ok": False}, {"id": 3}],  # of one key each: the library orders keys at random
}
NOTHING = "no value"

names = st.sampled_from([f"input.{name}" for name in INPUT] + ["input.absent", "input.map.a", "input.rows[2].id"])
# The library counts the bytes of a string, and CEL its characters: all strings are ASCII here.
literals = st.sampled_from(
    [
        *(
            "0",
            "1",
            "2",
            "-1",
            "9223372036854775807",
            "-9223372036854775808",
            "0x1F",
            "1.0",
            "2.5",
            "-0.5",
            "1e3",
            ".5",
        ),
        *('"abc"', "'b'", 'r"\\d"', '"\\u0041\\n\\x41\\101"', "'''it's'''", '""', "true", "false", "null", "[]", "{}"),
    ]
)
operators = st.sampled_from(["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    methods = st.sampled_from(["contains", "startsWith", "endsWith"])
    functions = st.sampled_from(["size", "int", "double", "!"])  # the library negates bools and the least integer
    maps = st.sampled_from(["input.map", "input.rows[0]", "input.s", "[1]", '{"a": 1}'])  # it refuses has(null.a)
    tests = st.sampled_from(["all", "exists", "exists_one", "filter"])
    test = inner | st.sampled_from(["v > 1", "v == 1", "v.ok"])
    return st.one_of(
        st.builds("({} {} {})".format, inner, operators, inner),
        st.builds("{} {} {} {} {}".format, literals, operators, inner, operators, literals),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("{}({})".format, functions, inner),
        st.builds("({}).{}({})".format, inner, methods, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds('{{"a": {}}}'.format, inner),
        st.builds("({})[{}]".format, inner, inner),
        st.builds("({}).a".format, inner),
        st.builds("has({}.a)".format, maps),
        st.builds("({}).{}(v, {})".format, inner, tests, test),
        st.builds("({}).map(v, {})".format, inner, inner | st.just("v")),
        st.builds("({}).map(v, {}, v)".format, inner, test),
    )


expressions = st.recursive(names | literals, _larger, max_leaves=6)


def _own(text: str) -> object:
    step = Step("s", "noop", bindings=(Binding("", FromExpression(text)),))
    try:
        payload = JsonEvaluator(1 << 20).input_of(step, Values(json.dumps(INPUT), {}, {}))
    except EvaluationFailed:
        return NOTHING
    assert isinstance(payload, str)
    return _typed(json.loads(payload))


def _of_library(text: str) -> object:
    try:
        return _typed(cel.compile(text).execute({"input": INPUT}))
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError):
        return NOTHING


def _typed(value: object) -> object:
    """Return a value in which 1, 1.0 and true differ. What JSON cannot hold is no value."""
    match value:
        case float() if not math.isfinite(value):
            return NOTHING
        case list():
            items = [_typed(item) for item in value]
            return NOTHING if NOTHING in items else items
        case dict():
            fields = {key: _typed(item) for key, item in value.items()}
            return NOTHING if NOTHING in fields.values() else fields
    return type(value), value


@settings(max_examples=1_000, deadline=None, derandomize=True)  # the library adds a map to a list: a rare case
@given(expressions)
@example("-7 / 2 + -7 % 3")
@example("input.absent || true")
@example("9223372036854775807 + 1")
def test_an_expression_has_the_value_that_the_library_gives_it(text: str) -> None:
    assert _own(text) == _of_library(text)


COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
numbers = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, numbers, st.sampled_from(sorted(COMPARISONS)))
def test_a_condition_compares_numbers_as_python_does(one: float, other: float, sign: str) -> None:
    values = Values(json.dumps({"n": one}), {"a": json.dumps(other)}, {"a": State.SUCCEEDED})
    found = JsonEvaluator(1 << 20).condition(f'input.n {sign} deps["a"].output', values)
    assert found is COMPARISONS[sign](one, other)


json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values, st.from_regex("[a-z é]{1,9}", fullmatch=True))
def test_an_expression_passes_a_value_on_as_it_is(value: object, key: str) -> None:
    step = Step("s", "noop", bindings=(Binding("", FromExpression(f"[input[{json.dumps(key)}], item][0]")),))
    values = Values(json.dumps({key: value}), {}, {}, "1")
    assert json.loads(str(JsonEvaluator(1 << 20).input_of(step, values))) == value
