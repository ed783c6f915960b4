"""Numbers that an action passes on unchanged keep their digits; all others are Python's floats."""

import contextvars
import copy
import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from stepwave import JSON, Answer, action
from stepwave._values.json import json_problem
from stepwave_server.actions import Action
from stepwave_server.actions.values import dump, keep_numbers, load
from stepwave_server.core.model import Payload

from .signatures import CONTEXT

MOST = 1 << 20
DIGITS = ["1.10", "0.1234567890123456789", "1E2", "-0", "1e-7", "-0.0", "1.0", "0.1", "9" * 30, "1e308", "1e-9999"]

SIGNS, WHOLE = st.sampled_from(["", "-"]), st.sampled_from(["0", "7", "10", "12345678901234567890"])
NUMBERS = st.builds(
    lambda sign, whole, fraction, exponent: sign + whole + fraction + exponent,
    SIGNS,
    WHOLE,
    st.just("") | st.text("0123456789", min_size=1, max_size=25).map(lambda digits: f".{digits}"),
    st.just("") | st.integers(-400, 250).map(lambda power: f"e{power}") | st.just("E+05"),
)
KEYS = st.sampled_from(['"a"', '"-0"', '"1.10"', '"{}"'])
TEXTS = st.recursive(
    NUMBERS | st.sampled_from(['"1.10"', '"-0"', "null", "true", '"2026-01-01"', '"\\ud800"']),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda parts: "{" + ",".join(f"{key}:{value}" for key, value in parts.items()) + "}"
        )
    ),
    max_leaves=10,
)


def _passed_on(text: str, change: Callable[[Any], object] = lambda value: value) -> Payload:
    """Return the answer of an action that gets a text."""

    def attempt() -> Payload:
        keep_numbers()
        return dump(change(load(text)), MOST)

    return contextvars.copy_context().run(attempt)


@given(TEXTS.filter(lambda text: not json_problem(text)))
def test_every_value_that_is_passed_on_has_the_very_text(text: str) -> None:
    assert str(_passed_on(text)).replace(", ", ",").replace(": ", ":") == text


@pytest.mark.parametrize("digits", DIGITS, ids=lambda digits: digits[:12])
def test_a_number_is_passed_on_beside_other_values(digits: str) -> None:
    answer = _passed_on(f'{{"n":{digits},"m":2}}', lambda value: {"é": [value["n"], 0.5, {"m": value["m"] + 1}], 1: ()})
    assert answer == f'{{"é":[{digits},0.5,{{"m":3}}],"1":[]}}'


@pytest.mark.parametrize("digits", ["1.10", "0.1234567890123456789", "1E2", "1e-7"])
def test_an_action_sees_pythons_own_floats(digits: str) -> None:
    def check(value: list[float]) -> object:
        assert type(value[0]) is float
        assert (value[0], hash(value[0]), f"{value[0]}") == (float(digits), hash(float(digits)), str(float(digits)))
        assert json.dumps(value) == pickle.loads(pickle.dumps(json.dumps(copy.deepcopy(value))))
        return value

    assert _passed_on(f"[{digits}]", check) == f"[{digits}]"


def test_a_zero_with_a_sign_is_the_float_that_has_it() -> None:
    assert _passed_on('[-0,"-0"]', lambda value: [str(value[0]), value[1]]) == '["-0.0","-0"]'


def test_a_result_of_arithmetic_is_pythons_float() -> None:
    assert _passed_on("[1.10,1E2]", lambda value: [value[0] + 0, value[1] * 1, value[0]]) == "[1.1,100.0,1.10]"


def test_a_copy_by_another_encoder_is_pythons_float() -> None:
    assert _passed_on("[1.10]", lambda value: json.loads(json.dumps(value))) == "[1.1]"


def test_a_value_of_another_attempt_is_pythons_float() -> None:
    seen: list[float] = []
    _passed_on("[1.10]", seen.extend)
    assert _passed_on("[2.20]", lambda value: seen + value) == "[1.1,2.20]"


@dataclass
class Offer:
    price: float
    more: object


class Order(BaseModel):
    price: float
    more: Any


@pytest.mark.parametrize("kind", [Offer, Order])
def test_dataclasses_and_models_pass_numbers_on(kind: Callable[..., object]) -> None:
    answer = _passed_on("[1.10]", lambda value: [kind(price=value[0], more={"p": value})])
    assert answer == '[{"price":1.10,"more":{"p":[1.10]}}]'


def test_an_iterator_in_an_answer_is_read_once() -> None:
    assert _passed_on("[1.10]", lambda value: {"all": iter(value), "more": 1}) == '{"all":[1.10],"more":1}'


def test_a_value_that_contains_itself_is_refused_beside_kept_numbers() -> None:
    def knot(value: list[object]) -> object:
        value.append(value)
        return value

    with pytest.raises(Exception, match="JSON cannot hold"):
        _passed_on("[1.10]", knot)


@action
def untouched(x):  # type: ignore[no-untyped-def]  # it is about such functions
    return x


@action
async def hinted(x: JSON) -> JSON:
    return x


@action
async def contained(x: dict[str, list[JSON]]) -> object:
    return x


@action
def as_float(x: dict[str, list[float]]) -> object:
    return x


@action
def taken_out(**keys: Any) -> object:
    return keys["x"]


@action
def answered(x: dict[str, Any]) -> Iterator[object]:
    yield "draft"
    yield Answer(x)


@pytest.mark.parametrize("function", [untouched, hinted, contained, as_float, taken_out, answered])
async def test_every_kind_of_action_passes_numbers_on(function: Callable[..., object]) -> None:
    given = '{"n":[1.10,1E2,0.1234567890123456789,-0.50]}'
    answer = await Action.of(function).run(f'{{"x":{given}}}', lambda: CONTEXT, lambda _: None, MOST)
    assert answer == given


async def test_the_chunks_of_a_stream_pass_numbers_on() -> None:
    @action
    def parts(x: list[Any]) -> Iterator[object]:
        yield from x

    chunks: list[Payload] = []
    answer = await Action.of(parts).run('{"x":[1.10,1E2]}', lambda: CONTEXT, chunks.append, MOST)
    assert (chunks, answer) == (["1.10", "1E2"], "[1.10,1E2]")
