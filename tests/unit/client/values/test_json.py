"""The JSON that Stepwave accepts can be read by the SDK, the terminal, and other languages."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwave._values.json import MAX_DEPTH, MAX_NUMBER, json_problem, parse_json_text, written_problem
from stepwave._values.payload import dump_json, load_json
from stepwave.v1 import payload_pb2
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.values import dump
from stepwave_server.core.inputs import Values
from stepwave_server.core.model import Binding, FromInput
from stepwave_server.core.model import Step as CoreStep
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator
from stepwave_server.wire.workflows.parsing import Parsed, parse_payload

MOST = 1 << 20

DIGITS = st.sampled_from(["0", "1", "9" * 20, "9" * 308, "9" * 309, "1" * 4_299, "1" * 4_301])
NUMBERS = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    st.sampled_from(["", "-"]),
    DIGITS,
    st.one_of(st.just(""), DIGITS.map(lambda digits: f".{digits}")),
    st.one_of(st.just(""), st.integers(-5_000, 5_000).map(lambda power: f"e{power}"), st.just("E+99999999999")),
)
STRINGS = st.text(st.characters()).map(json.dumps) | st.sampled_from(['"\\ud800"', '"[[[[{{{{"', '"\\"["'])
WORDS = st.sampled_from(["null", "true", "false", "NaN", "-Infinity", "01", "1.", "nul", "'a'", ""])


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
    maps = st.lists(st.tuples(STRINGS, inner), max_size=3).map(
        lambda parts: "{" + ",".join(f"{key}:{value}" for key, value in parts) + "}"
    )
    deep = st.tuples(st.integers(90, 110) | st.integers(900, 1_100), inner).map(
        lambda pair: "[" * pair[0] + pair[1] + "]" * pair[0]
    )
    return lists | maps | deep


TEXTS = st.recursive(NUMBERS | STRINGS | WORDS, _nested, max_leaves=8)


def _depth(value: object) -> int:
    """Return the nesting depth of lists and objects."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, (list, dict)):
            deepest = max(deepest, depth)
            waiting += [(inner, depth + 1) for inner in (one.values() if isinstance(one, dict) else one)]
    return deepest


def _refuse(name: str) -> None:
    raise ValueError(name)


def _all_values(pairs: list[tuple[str, object]]) -> dict[int, object]:
    """Return all values, with those of duplicate keys."""
    return {place: value for place, (_, value) in enumerate(pairs)}


def _has_duplicates(text: str) -> bool:
    """Return whether an object has a key twice."""
    found: list[list[str]] = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append([key for key, _ in pairs]), parse_int=str)
    return any(len(set(keys)) < len(keys) for keys in found)


def _numbers(text: str) -> list[str]:
    found: list[str] = []

    def take(digits: str) -> str:
        found.append(digits)
        return digits

    json.loads(text, parse_float=take, parse_int=take)
    return found


@settings(deadline=None)
@given(TEXTS)
def test_every_accepted_text_is_read_by_all_parsers(text: str) -> None:
    """Every accepted text is within RFC 8259, the depth limit and the range of doubles, and its keys are distinct."""
    if json_problem(text):
        return
    value = load_json(text)
    assert _depth(value) <= MAX_DEPTH
    assert not _has_duplicates(text)
    assert all(math.isfinite(float(digits)) and len(digits) <= MAX_NUMBER for digits in _numbers(text))
    shown = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    assert load_json(shown.encode("utf-8", "backslashreplace").decode()) == value
    bound = CoreStep("s", "a", bindings=(Binding("/x", FromInput("")),))
    assert json.loads(str(JsonEvaluator(2 * MOST).input_of(bound, Values(text, {}, {})))) == {"x": value}


@settings(deadline=None)
@given(TEXTS)
def test_every_refused_text_is_no_json_or_beyond_a_bound_or_has_duplicate_keys(text: str) -> None:
    if not json_problem(text):
        return
    try:
        value = json.loads(text, parse_constant=_refuse, parse_int=str, object_pairs_hook=_all_values)
    except (ValueError, RecursionError):
        return
    beyond = [digits for digits in _numbers(text) if len(digits) > MAX_NUMBER or math.isinf(float(digits))]
    assert beyond or _depth(value) > MAX_DEPTH or _has_duplicates(text)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 2).map(lambda place: (1 << 1_020, 1 << 1_025, 10 ** (4_400))[place])
    | st.floats()
    | st.text(st.characters()),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters()), inner, max_size=3)
        | inner.map(lambda value: _wrapped(value, 99))
        | inner.map(lambda value: _wrapped(value, 700))
    ),
    max_leaves=6,
)


def _wrapped(value: object, depth: int) -> object:
    for _ in range(depth):
        value = [value]
    return value


@settings(deadline=None)
@given(VALUES)
def test_an_answer_is_refused_or_accepted_by_the_same_rules(value: object) -> None:
    try:
        text = dump(value, MOST)
    except ActionFailed:
        return
    assert isinstance(text, str)
    assert json_problem(text) == ""
    assert load_json(text) == value


@pytest.mark.parametrize("before", range(0, 400, 7))
def test_an_integer_that_is_too_long_is_found_wherever_it_begins(before: int) -> None:
    assert "beyond the range" in written_problem(f'["{"x" * before}",{"9" * 309}]')
    assert written_problem(f'["{"x" * before}",{"9" * 308},"{"9" * 400}"]') == ""


@settings(deadline=None)
@given(VALUES)
def test_the_sdk_writes_only_json_that_a_server_accepts(value: object) -> None:
    try:
        text = dump_json(value)
    except ValueError:
        return
    parsed = Parsed()
    parse_payload(payload_pb2.Payload(json=text), "input", parsed)
    assert parsed.invalid == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1e400", "holds the number 1e400, which is beyond the range of a double"),
        ("[-1E+999]", 'holds the number -1E+999, which is beyond the range of a double, at "/0"'),
        ('{"a/b":[0,1e400]}', 'holds the number 1e400, which is beyond the range of a double, at "/a~1b/1"'),
        ('{"a":1,"a":2}', 'holds the key "a" twice'),
        ('{"a":1,"\\u0061":2}', 'holds the key "a" twice'),
        ('{"x":[{},{"~":{"é":1,"b":2,"é":3}}]}', 'holds the key "é" twice, in the object at "/x/1/~0"'),
        ('{"\\n\\ud800":1,"\\n\\ud800":1}', 'holds the key "\\n\\ud800" twice'),
        (f'{{"{"k" * 300}":[{{"a":1,"a":2}}]}}', f'holds the key "a" twice, in the object at "/{"k" * 198}…"'),
        ('{"a":1,"a":2}}', "not JSON: Extra data: line 1 column 14 (char 13)"),
        ("9" * 309, "holds the number 99999999999999999…, which is beyond the range of a double"),
        ("0." + "1" * 4_300, "holds a number of 4,302 characters, and 4,300 are allowed"),
        ("[" * 101 + "]" * 101, "nested too deeply: at most 100 lists and objects within each other"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested too deeply: at most 100 lists and objects within each other"),
        ("NaN", "not JSON: NaN is not allowed"),
    ],
    ids=lambda text: text[:12],
)
def test_a_value_beyond_a_bound_is_named(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_json_text(text)
    assert str(refused.value) == problem


def test_the_place_of_a_problem_takes_no_time_for_the_values_before_it() -> None:
    text = f'{{"{"k" * 500_000}":[{"0," * 250_000}1e400]}}'  # a pointer for each would take minutes
    assert json_problem(text).startswith("holds the number 1e400")


@pytest.mark.parametrize("text", ["1e-400", "9007199254740993", "0." + "1" * 4_000, "[" * 100 + "]" * 100, '"[[[["'])
def test_a_value_at_a_bound_is_taken(text: str) -> None:
    assert json_problem(text) == ""
