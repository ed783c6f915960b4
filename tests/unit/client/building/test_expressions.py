"""Operators on references make CEL text, which CEL evaluates to what Python would."""

import json
from collections.abc import Callable
from typing import Any, cast

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave import Blob, Cel, Expression, State, Workflow, size
from stepwave._building.cel import literal

FLOW = Workflow("briefing")
SEARCH = FLOW.step("search", "search")
OTHER = FLOW.step("other", "other")
hits = SEARCH.output["hits"]
VALUES: dict[str, object] = {
    "deps": {
        "search": {
            "output": {"hits": 4, "none": None, "half": 2.5, "urls": ["a", "b"], "text": "rain", "ok": True},
            "state": "FAILED",
        },
        "other": {"output": 2, "state": "SUCCEEDED"},
    },
    "input": {"city": "Oslo", "limit": 3},
    "item": {"url": "a", "n": 1},
}


def value_of(expression: Expression) -> object:
    return cel.compile(expression.text).execute(VALUES)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (hits > 3, 'deps["search"].output["hits"] > 3'),
        (SEARCH.output["a b"][0]["c"] == "x", 'deps["search"].output["a b"][0]["c"] == "x"'),
        (FLOW.input["city"] != "Oslo", 'input["city"] != "Oslo"'),
        (FLOW.item["n"] <= 1.5, 'item["n"] <= 1.5'),
        (FLOW.item >= FLOW.input, "item >= input"),
        (3 < hits, 'deps["search"].output["hits"] > 3'),  # noqa: SIM300 - what is tested
        (OTHER.output == None, 'deps["other"].output == null'),  # noqa: E711 - what is tested
        (OTHER.output == [True, {"k": hits}], 'deps["other"].output == [true, {"k": deps["search"].output["hits"]}]'),
        (SEARCH.state == "FAILED", 'deps["search"].state == "FAILED"'),
        (FLOW.input.in_([1, -2.0, "x"]), 'input in [1, -2.0, "x"]'),
        (FLOW.input.in_(OTHER.output), 'input in deps["other"].output'),
        (OTHER.output.has("a"), '"a" in deps["other"].output'),
        (OTHER.output.contains("a"), 'deps["other"].output.contains("a")'),
        ((FLOW.input + FLOW.item).contains("a"), '(input + item).contains("a")'),
        (size(OTHER.output) > 2, 'size(deps["other"].output) > 2'),
    ],
)
def test_an_operator_makes_the_text_of_its_operands(expression: Expression, text: str) -> None:
    assert expression.text == text


A, B, C = FLOW.input["a"], FLOW.input["b"], FLOW.input["c"]


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ((A > 1) & (B > 2) | (C > 3), "a > 1 && b > 2 || c > 3"),
        ((A > 1) & ((B > 2) | (C > 3)), "a > 1 && (b > 2 || c > 3)"),
        (A & (B & C), "a && b && c"),
        (A | (B | C), "a || b || c"),
        (~A & ~(B > 2), "!a && !(b > 2)"),
        (~(~A), "!(!a)"),
        ((A > 1) == (B > 2), "a > 1 == (b > 2)"),
        (A - (B - C), "a - (b - c)"),
        (A - B - C, "a - b - c"),
        ((A + B) * C, "(a + b) * c"),
        (A + B * C > 0, "a + b * c > 0"),
        (-(A + B), "-(a + b)"),
        (A - -1, "a - -1"),
        (-A - 1, "-a - 1"),
        (A & True, "a && true"),
        (False | A, "false || a"),
        (Cel("a ? b : c") & A, "(a ? b : c) && a"),
        (~Cel("a"), "!(a)"),
        (A + [B, 1], "a + [b, 1]"),  # noqa: RUF005 - what is tested
        ("x" + A + "y", '"x" + a + "y"'),
        (1 + A, "1 + a"),
        (A + 1.5, "double(a) + 1.5"),
        (A + B + 1.5, "double(a + b) + 1.5"),
        (A / 2, "double(a) / 2.0"),
        (A / 2 + 1, "double(a) / 2.0 + 1.0"),
        (A / B * C, "double(a) / double(b) * double(c)"),
        (1 / A, "1.0 / double(a)"),
        (2 - A / B, "2.0 - double(a) / double(b)"),
        (3 * A, "3 * a"),
        (-(A / 2) + 1, "-(double(a) / 2.0) + 1.0"),
        (-1 + A, "-1 + a"),
        (A * -1, "a * -1"),
    ],
)
def test_parentheses_are_where_they_are_needed_and_only_there(expression: Expression, text: str) -> None:
    shown = expression.text
    for name in "abc":
        shown = shown.replace(f'input["{name}"]', name)
    assert shown == text


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (hits > 3, True),
        (hits > 3.5, True),
        (hits == 4.0, True),
        (hits < 4, False),
        (SEARCH.output["half"] > 2, True),
        (SEARCH.output["half"] == 2.5, True),
        (SEARCH.output["none"] == None, True),  # noqa: E711 - what is tested
        (SEARCH.output["text"] == None, False),  # noqa: E711 - what is tested
        (hits.in_([4.0, 5]), True),
        (SEARCH.output["urls"].has("a"), True),
        (SEARCH.output.has("nobody"), False),
        (FLOW.item["url"].in_(SEARCH.output["urls"]), True),
        (SEARCH.output["text"].contains("ai"), True),
        (SEARCH.state == State.FAILED, True),
        (SEARCH.state != "failed", False),
        (SEARCH.state.in_([State.FAILED, "cancelled"]), True),
        ((hits > 3) & SEARCH.output["ok"] & ~(OTHER.state == "failed"), True),
        (size(SEARCH.output["urls"]) == 2, True),
        (hits + 1, 5),
        (hits + 1.5, 5.5),
        (SEARCH.output["half"] + 1.5, 4.0),
        (hits - OTHER.output, 2),
        (hits / 8, 0.5),
        (SEARCH.output["half"] / OTHER.output, 1.25),
        (hits * -1, -4),
        (-hits, -4),
        (10 - hits / 2, 8.0),
        (SEARCH.output["text"] + "y", "rainy"),
        (["z"] + SEARCH.output["urls"], ["z", "a", "b"]),
        (Cel("input.limit + 1") * 2, 8),
    ],
)
def test_cel_computes_what_is_written(expression: Expression, value: object) -> None:
    found = value_of(expression)
    assert found == value
    assert type(found) is type(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values)
def test_cel_reads_every_value_back(value: object) -> None:
    found = cel.compile(literal(value).text).execute({})
    assert json.dumps(found, sort_keys=True) == json.dumps(value, sort_keys=True)  # its objects have no order


@given(st.text())
def test_a_key_of_any_text_is_found(key: str) -> None:
    values = {"deps": {"search": {"output": {key: [1, 2]}}}}
    assert cel.compile(SEARCH.output[key][1].text).execute(values) == 2


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, float("nan"), float("inf"), "\ud800", {"\udfff": 1}])
def test_a_value_that_cel_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"cannot hold (a whole number beyond|the number|half of a surrogate)"):
        hits == value  # noqa: B015 - what is tested


def test_a_value_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="contains itself"):
        hits == circle  # noqa: B015 - what is tested


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: bool(hits > 3), "write &, | and ~ in place of `and`, `or` and `not`"),
        (lambda: hits > 3 and hits < 5, "neither true nor false"),
        (lambda: not hits, "neither true nor false"),
        (lambda: 3 < hits < 5, r"\(a < b\) & \(b < c\) in place of a < b < c"),
        (lambda: hits in [1, 2], r"in_\(\) in place of `in`"),
        (lambda: 3 in cast("Any", hits), r"write has\(\) in place of `in`"),
        (lambda: hits > 1 & cast("Any", OTHER.output > 2), r"put comparisons in parentheses: \(a > 1\) & \(b > 2\)"),
        (lambda: cast("Any", hits) | 3, r"\| combines conditions, got 3"),
        (lambda: cast("Any", hits) < None, "< compares numbers or texts, got None"),
        (lambda: hits >= True, ">= compares numbers or texts, got True"),
        (lambda: hits.in_("abc"), "in_ takes a list or an expression, got 'abc'"),
        (lambda: hits.contains(cast("Any", 3)), r"contains takes a text .* has\(\) is for lists"),
        (lambda: hits + True, r"\+ takes numbers, texts or lists, got True"),
        (lambda: cast("Any", hits) - "x", "- takes numbers, got 'x'"),
        (lambda: hits / 2 + "x", r"\+ takes numbers, got 'x'"),
        (lambda: hits == {1, 2}, "cannot hold {1, 2}"),
        (lambda: hits == {1: 2}, "keys must be strings, got 1"),
        (lambda: hits == Blob(b""), "cannot hold a blob"),
        (lambda: size(cast("Any", [1])), "size takes a reference or an expression"),
        (lambda: size(cast("Any", SEARCH)), r"<step 'search'> is a step; use its `\.output`"),
        (lambda: cast("Any", SEARCH) > 3, r"<step 'search'> is a step; use its `\.output`"),
        (lambda: cast("Any", SEARCH) == "x", r"<step 'search'> is a step; use its `\.output`"),
        (lambda: cast("Any", SEARCH)["hits"], r"<step 'search'> is a step; use its `\.output`"),
        (lambda: hits == SEARCH, r"<step 'search'> is a step; use its `\.output`"),
        (lambda: (hits > 3) & cast("Any", SEARCH), r"<step 'search'> is a step; use its `\.output`"),
        (lambda: cast("Any", hits.default(3)) == 3, r"search\.output\['hits'\]\.default\(…\) is for the input"),
        (lambda: f"{hits > 3}", "cannot be part of a text"),
        (lambda: Cel(cast("Any", 3)), "the text of an expression is a string, got 3"),
    ],
)
def test_a_pitfall_of_python_is_an_error_with_advice(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        wrong()


def test_a_state_that_no_step_ends_in_is_refused() -> None:
    with pytest.raises(ValueError, match="ends as one of succeeded, failed, cancelled, skipped, got 'fail'"):
        SEARCH.state == "fail"  # noqa: B015 - what is tested
    with pytest.raises(ValueError, match=r"got <State\.RUNNING"):
        SEARCH.state.in_([State.RUNNING])


def test_an_empty_text_is_no_expression() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        Cel(" ")


def test_an_expression_reads_as_its_text() -> None:
    assert repr(hits > 3) == '<expression deps["search"].output["hits"] > 3>'


def test_expressions_can_be_keys_each_of_its_own() -> None:
    first, second = hits > 3, hits > 3
    assert {first: 1, second: 2}[first] == 1
