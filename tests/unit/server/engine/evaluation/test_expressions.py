"""Expressions: what they give, what they refuse, and their bounds."""

import json
import threading
import time
from collections.abc import Mapping

import pytest

from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.model import Binding, Blob, FromExpression, Payload, Reason, State, Step
from stepwave_server.engine.evaluation.expressions import SyntaxProblem, compile_expression
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator

EVALUATOR = JsonEvaluator(1 << 20)
SUCCEEDED = {"a": State.SUCCEEDED, "b": State.FAILED}
OUTPUTS = {"a": '{"id":12345678901234567890,"price":1.10,"list":[3,1,2]}', "b": None}
INPUT = '{"n":5,"big":12345678901234567890,"price":1.10,"s":"caf\\u00e9","none":null,"z":{"y":1,"b":2}}'


def _value(
    text: str,
    *,
    given: Payload = INPUT,
    outputs: Mapping[str, Payload | None] = OUTPUTS,
    item: Payload | None = None,
    default: Payload | None = None,
) -> Payload:
    step = Step("s", "noop", bindings=(Binding("", FromExpression(text), default),))
    return EVALUATOR.input_of(step, Values(given, outputs, SUCCEEDED, item))


def _problem(text: str, **values: Payload) -> str:
    with pytest.raises(EvaluationFailed) as failed:
        _value(text, **values)  # type: ignore[arg-type]  # values by name
    assert failed.value.reason is Reason.INVALID_INPUT
    return str(failed.value).partition(" cannot be evaluated: ")[2]


# Values.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('deps["a"].output.id', "12345678901234567890"),
        ("deps.a.output.price", "1.10"),
        ("[input.price, input.big]", "[1.10, 12345678901234567890]"),
        ("input.price * 2.0", "2.2"),
        ("input.n * 2", "10"),
        ("1e3", "1000.0"),
        ('deps["b"].output', "null"),
        ('[deps["a"].state, deps.b.state]', '["SUCCEEDED", "FAILED"]'),
        ("input.s", '"café"'),
        ("string(input.big)", '"12345678901234567890"'),
        ("string(2.0) + string(1.5) + string(true)", '"21.5true"'),
        ("input.z.map(k, k)", '["y", "b"]'),
        ("input.z", '{"y": 1, "b": 2}'),
        ('{"b": 1, "a": 2}', '{"b": 1, "a": 2}'),
        ("[1, 2, 3].map(x, [10, 20].map(y, x * y))", "[[10, 20], [20, 40], [30, 60]]"),
        ("[1, 2].map(x, [3].map(x, x) + [x])", "[[3, 1], [3, 2]]"),
        ("[1].map(input, input)", "[1]"),
        ("size(input.s) + size(input.z) + size([1])", "7"),
        ('size("é😀")', "2"),
        ('"abc".matches("^a.c$")', "true"),
        ('timestamp("2020-01-01T00:00:00Z") + duration("36h") > timestamp("2020-01-02T00:00:00Z")', "true"),
        ('string(timestamp("2020-01-01T00:00:00Z") + duration("36h"))', '"2020-01-02T12:00:00+00:00"'),
        ('timestamp("2020-01-01T00:00:00Z").getFullYear()', "2020"),
        ('duration("90m").getMinutes()', "90"),
        ("1 // one", "1"),
    ],
)
def test_an_expression_gives_json(text: str, value: str) -> None:
    assert _value(text) == value


def test_the_item_can_be_read() -> None:
    assert _value("item.k + 1", item='{"k":1}') == "2"


def test_has_asks_for_a_field_of_a_map() -> None:
    text = "[has(input.n), has(input.no), has(input.none), has(deps.b.output.x), has(input.none.x)]"
    assert _value(text) == "[true, false, true, false, false]"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "an integer has more than 64 bits"),
        ("-(-9223372036854775808)", "an integer has more than 64 bits"),
        ("input.big + 1", "an integer has more than 64 bits"),
        ("1.0 / 0.0", "its value holds inf, which JSON cannot hold"),
        ("[0.0 / 0.0]", "its value holds nan, which JSON cannot hold"),
        ('duration("1h")', "its value holds a duration, which JSON cannot hold: convert it with string()"),
        ("1 + 1.0", "`+` is not defined for an int and a double: convert with int() or double()"),
        ('1 < "a"', "`<` is not defined for an int and a string"),
        ("input.n ? 1 : 2", "the condition of `?` is an int, and must be a bool"),
        ("true && input.n", "a part of `&&` is an int, and must be a bool"),
        ("[1].filter(x, x)", "the condition of filter() is an int, and must be a bool"),
        ("input.n.map(x, x)", "map() needs a list or a map, and got an int"),
        ("input.no", 'there is no field "no"'),
        ("deps.b.output.x", 'null has no field "x"'),
        ("[1][1]", "there is no item 1 in a list of 1"),
        ("[1][-1]", "there is no item -1 in a list of 1"),
        ("{1: 2}", "a key of a map is a string, and not an int"),
        ('{"a": 1, "a": 2}', 'a map has the key "a" twice'),
        ('deps["c"].output', '"c" is no dependency of the step'),
        ("item", "there is no item here"),
        ('int("1.5")', '"1.5" is no integer'),
        ('"a".matches("(")', "Function 'matches' error: '(' not a valid regex"),
    ],
)
def test_an_expression_without_a_value_fails_and_says_why(text: str, problem: str) -> None:
    assert _problem(text) == problem


def test_a_failure_quotes_the_beginning_of_a_long_expression() -> None:
    with pytest.raises(EvaluationFailed, match=r"^the expression `input.no \+ 0\+0.{80,}…` cannot be evaluated: "):
        _value("input.no + 0" + "+0" * 60)


def test_a_blob_cannot_be_read() -> None:
    assert _problem("input", given=Blob("image/png", b"x")) == "the input is a blob, and expressions read JSON"


def test_a_problem_is_hidden_by_a_part_that_decides() -> None:
    assert _value("input.no || true") == "true"
    assert _value("1 / 0 > 0 && false") == "false"
    assert _value("[0, 1].exists(x, 1 / x == 1)") == "true"
    assert _value("[0, 2].all(x, 1 / x == 1)") == "false"
    assert _problem("[0, 1].all(x, 1 / x == 1)") == "division by zero"


def test_a_default_replaces_a_value_that_does_not_exist() -> None:
    for text in ("input.no", "[1][1]", 'deps["b"].output.x', "input.z.no + 1"):
        assert _value(text, default="[1.50]") == "[1.50]"


def test_a_default_replaces_no_other_problem() -> None:
    with pytest.raises(EvaluationFailed, match="division by zero"):
        _value("1 / 0", default="1")


def test_a_value_that_is_not_named_is_not_parsed() -> None:
    assert _value('input.n + size(deps["a"].state)', outputs={"a": "{", "b": "{"}, item="{") == "14"


def test_a_key_that_is_no_text_of_utf8_stays_escaped() -> None:
    assert _value("input", given='{"\\ud800":1}') == '{"\\ud800": 1}'


# Texts that are no expressions.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 +", "the end at character 4 is not expected"),
        ("((1)", "the end at character 5 is not expected"),
        ("1 2", "'2' at character 3 is not expected"),
        ('"abc', "'\"' at character 1 is not expected"),
        ("in", "'in' at character 1 is not expected"),
        ("input.if", "'if' at character 7 is not expected"),
        ("!-1", "'-' at character 2 is not expected"),
        ("é", "'é' at character 1 is not expected"),
        ("1u", "the number 1u is not supported"),
        ('"\\q"', "the escape sequence '\\\\q' is unknown"),
        ('"\\ud800"', "the escape sequence \\ud800 is no character"),
        ("9223372036854775808", "the integer 9223372036854775808 has more than 64 bits"),
        ("1e400", "it is no expression: 1:1: invalid double literal"),
        ("inptu.x", 'unknown variable `inptu`; did you mean "input"?'),
        ("[1].map(x, y)", "unknown variable `y`"),
        ("[1].map(x, x) == x", "unknown variable `x`"),
        ("siez(input)", 'unknown function `siez`; did you mean "size"?'),
        ("input.mpa(x, x)", 'unknown function `mpa`; did you mean "map"?'),
        ("size()", "size() has another number of arguments"),
        ("[1].map(1, 2)", "map() at character 9 needs a variable and an expression"),
        ("has(input)", "has() needs one field, as in has(input.name)"),
        ("deps", '`deps` is used as deps["id"].output or deps["id"].state'),
        ("deps[input.s].output", '`deps` is used as deps["id"].output or deps["id"].state'),
        ("deps.a", '`deps` is used as deps["id"].output or deps["id"].state'),
        ("deps.a.result", 'deps["a"] has `output` and `state`, and not `result`'),
        ("x" * 4_097, "4,097 characters are more than the 4,096 allowed"),
    ],
)
def test_a_text_that_is_no_expression_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SyntaxProblem) as refused:
        compile_expression(text)
    assert str(refused.value) == problem


def test_an_expression_names_the_steps_that_it_reads() -> None:
    found = compile_expression('deps["a"].output > 1 && deps.b.state == "FAILED" && [1].all(deps, deps.c.output == 1)')
    assert (found.outputs, found.steps) == (("a",), ("a", "b"))
    assert not found.uses_item
    assert compile_expression("[1].map(x, item)").uses_item
    assert not compile_expression("[1].map(item, item)").uses_item


# Bounds.


@pytest.mark.parametrize(
    "text",
    [
        "(" * 2_000 + "1" + ")" * 2_000,
        "[" * 2_000 + "]" * 2_000,
        "(" * 4_000,
        '{"a":' * 500 + "1" + "}" * 500,
        "size(" * 500 + "1" + ")" * 500,
        "true?1:" * 500 + "1",
        "[1].map(x," * 300 + "1" + ")" * 300,
        "[0][" * 800 + "0" + "]" * 800,
        "+".join(["1"] * 2_000),
        "input" + ".a" * 2_000,
        "[1]" + ".map(x,x)" * 400,
        "<".join(["1"] * 2_000),
    ],
    ids=lambda text: text[:12],
)
def test_a_text_that_is_nested_too_deeply_is_refused(text: str) -> None:
    with pytest.raises(SyntaxProblem, match="it is nested too deeply"):
        compile_expression(text)


def test_an_expression_at_the_bounds_runs_on_a_small_stack() -> None:
    texts = ["(" * 31 + "1" + ")" * 31, "+".join(["1"] * 128), "[1].map(x," * 31 + "1" + ")" * 31, "!" * 4_000 + "true"]
    texts += ["&&".join(["true"] * 680), "[0][" * 31 + "0" + "]" * 31, "[" + ",".join(["1"] * 2_000) + "]"]
    found: list[Payload] = []

    def evaluate() -> None:
        found.extend(_value(text) for text in texts)

    before = threading.stack_size(512 << 10)
    try:
        thread = threading.Thread(target=evaluate)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert len(found) == len(texts)


BIG = json.dumps(list(range(100_000)))
LONG = json.dumps("x" * 500_000)


@pytest.mark.parametrize(
    "text",
    [
        "input.all(x, input.all(y, input.all(z, true)))",
        "input.all(x, x in input)",
        "input.all(x, input == input)",
        "input.map(x, deps.a.output)",
        "[1]" + ".map(x, [x, x])" * 60,
        "[1]" + ".map(x, [x, x])" * 60 + " == [1]" + ".map(x, [x, x])" * 60,
        '[1].map(x, "abcdefgh")' + ".map(x, x + x)" * 60,
        "[input]" + ".map(x, x + x)" * 60,
        "+".join(["deps.a.output"] * 128),
        "input.all(x, !deps.a.output.contains('y'))",
        "input.all(x, 'a'.matches('a'))",
    ],
    ids=lambda text: text[:30],
)
def test_an_evaluation_that_takes_too_long_is_given_up(text: str) -> None:
    start = time.monotonic()
    with pytest.raises(EvaluationFailed, match="it takes too long, or its value is too large") as failed:
        _value(text, given=BIG, outputs={"a": LONG})
    assert failed.value.reason is Reason.RESOURCE_EXHAUSTED
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    "text",
    ["input.map(x, x * 2)", "input.filter(x, x % 2 == 0)", 'size(input.map(x, {"n": x}))', "input.exists(x, x < 0)"],
)
def test_the_longest_list_is_read(text: str) -> None:
    _value(text, given=BIG)


def test_a_regular_expression_takes_linear_time() -> None:
    start = time.monotonic()
    assert _value('deps["a"].output.matches("^(x+x+)+y")', outputs={"a": LONG}) == "false"
    assert time.monotonic() - start < 10
