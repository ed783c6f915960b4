"""Tests of the evaluator: bindings, defaults, conditions, lists, and numbers that keep their digits."""

import json
import math

import pytest

from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.model import (
    Binding,
    Blob,
    ForEach,
    FromExpression,
    FromInput,
    FromItem,
    FromSecret,
    FromStep,
    Payload,
    Reason,
    State,
    Step,
)
from stepwave_server.engine.evaluation.json_evaluator import JsonEvaluator, with_texts

IMAGE = Blob("image/png", b"\x89")


def _input(
    *bindings: Binding, own: Payload | None = None, given: Payload = "null", **outputs: Payload | None
) -> Payload:
    """Return the input of a step with these bindings, the run's input, and the outputs of its dependencies."""
    step = Step("s", "noop", tuple(outputs), own, bindings)
    return JsonEvaluator(1 << 20).input_of(step, Values(given, outputs, {}))


def _value(
    *bindings: Binding, own: Payload | None = None, given: Payload = "null", **outputs: Payload | None
) -> object:
    payload = _input(*bindings, own=own, given=given, **outputs)
    assert isinstance(payload, str)
    return json.loads(payload)


def _from(step_id: str, path: str = "", *, to: str = "", default: Payload | None = None) -> Binding:
    return Binding(to, FromStep(step_id, path), default)


def _given(path: str = "", *, to: str = "", default: Payload | None = None) -> Binding:
    return Binding(to, FromInput(path), default)


def test_without_input_and_bindings_the_input_is_the_dependencies_outputs_by_id() -> None:
    assert _value(a='{"x":1}', b="[2]", c=None) == {"a": {"x": 1}, "b": [2], "c": None}


def test_an_input_has_the_name_of_a_secret_in_its_place() -> None:
    bindings = (Binding("/a", FromStep("up")), Binding("/a/key", FromSecret("KEY")))
    assert _input(*bindings, up='{"n": 1.10}') == '{"a": {"n": 1.10, "key": "[secret KEY]"}}'
    assert _input(Binding("", FromSecret("KEY"))) == '"[secret KEY]"'


def test_texts_are_put_in_place_of_values_and_numbers_keep_their_digits() -> None:
    given = '{"a": {"n": 1.10, "key": "x"}, "b/c": [0, 1e2]}'
    assert with_texts(given, {"/a/key": 'v"é', "/b~1c/0": "w"}) == (
        '{"a": {"n": 1.10, "key": "v\\"é"}, "b/c": ["w", 1e2]}'
    )
    assert with_texts('"x"', {"": "v"}) == '"v"'


def test_outputs_are_in_the_order_of_the_dependencies() -> None:
    assert _input(b="1", a="2") == '{"b":1,"a":2}'


def test_an_input_of_its_own_is_passed_on_unchanged() -> None:
    assert _input(own='{"n": 1.10 }', a="2") == '{"n": 1.10 }'


def test_a_whole_output_can_be_the_whole_input() -> None:
    assert _input(_from("a"), a='{"n": 1.10 }') == '{"n": 1.10 }'


def test_a_whole_blob_can_be_the_whole_input() -> None:
    assert _input(_from("a"), a=IMAGE) is IMAGE


def test_a_part_of_an_output_can_be_bound() -> None:
    assert _value(_from("a", "/x/1"), a='{"x":[1,{"y":2}]}') == {"y": 2}


def test_a_part_of_the_runs_input_can_be_bound() -> None:
    assert _value(_given("/city", to="/where"), given='{"city":"Paris"}') == {"where": "Paris"}


def test_escapes_in_pointers_are_read() -> None:
    assert _value(_given("/a~1b/c~0d/", to="/x~1y"), given='{"a/b":{"c~d":{"":7}}}') == {"x/y": 7}


def test_bindings_without_an_input_make_an_object() -> None:
    assert _value(_from("a", to="/x"), _from("b", to="/y"), a="1", b="2") == {"x": 1, "y": 2}


def test_bindings_fill_places_in_an_input() -> None:
    own = '{"list":[0,{"deep":null}],"kept":true}'
    assert _value(_from("a", to="/list/1/deep"), _from("b", to="/list/0"), own=own, a='"x"', b="9") == {
        "list": [9, {"deep": "x"}],
        "kept": True,
    }


def test_a_binding_can_append_to_a_list() -> None:
    assert _value(_from("a", to="/list/-"), own='{"list":[1]}', a="2") == {"list": [1, 2]}


def test_later_bindings_win() -> None:
    assert _value(_from("a", to="/x"), _from("b", to="/x"), a="1", b="2") == {"x": 2}
    assert _value(_from("a", to="/x"), _from("b"), a="1", b='{"y":2}') == {"y": 2}


def test_a_later_binding_can_fill_a_place_of_a_whole_one() -> None:
    assert _value(_from("a"), _given("/n", to="/x"), given='{"n":5}', a='{"y":1}') == {"y": 1, "x": 5}


def test_a_later_binding_can_fill_a_place_of_an_earlier_one() -> None:
    assert _value(_from("a", to="/x"), _given("/n", to="/x/z"), given='{"n":5}', a='{"y":1}') == {"x": {"y": 1, "z": 5}}


@pytest.mark.parametrize(
    "digits", ["9007199254740993", "1.10", "1E400", "2e-7", "-0", "-0.0", f"1e{'9' * 30}", "0.1" * 1]
)
def test_numbers_keep_their_digits(digits: str) -> None:
    assert _input(_from("a", "/n"), a=f'{{"n":{digits}}}') == digits
    assert (
        _input(_from("a", to="/x"), own=f'{{"n":{digits}}}', a=f"[{digits}]") == f'{{"n": {digits}, "x": [{digits}]}}'
    )


def test_text_keeps_its_characters() -> None:
    assert _input(_from("a", "/t"), a='{"t":"caf\\u00e9 \\ud83d\\ude42 ☃"}') == '"café 🙂 ☃"'


def test_a_step_that_did_not_succeed_gives_null() -> None:
    assert _value(_from("a", to="/x"), a=None) == {"x": None}
    assert _value(_from("a", "/deep", to="/x"), a=None) == {"x": None}


def test_a_step_that_did_not_succeed_gives_the_default_if_there_is_one() -> None:
    assert _value(_from("a", to="/x", default="[1.50]"), a=None) == {"x": [1.5]}
    assert _input(_from("a", default="[1.50]"), a=None) == "[1.50]"


def test_a_null_output_is_a_value() -> None:
    assert _value(_from("a", to="/x", default="1"), a="null") == {"x": None}


def test_a_path_without_a_value_gives_the_default() -> None:
    assert _value(_from("a", "/no", to="/x", default="1"), a="{}") == {"x": 1}


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ("{}", "/no"),
        ("[1]", "/1"),
        ("[1]", "/x"),
        ("[1]", "/-"),
        ("[1]", "/-1"),
        ("[1]", "/01"),
        ("1", "/a"),
        ('"ab"', "/0"),
    ],
)
def test_a_path_without_a_value_fails_and_is_named(output: str, path: str) -> None:
    with pytest.raises(EvaluationFailed) as failed:
        _input(_from("a", path, to="/x"), a=output)
    assert f'the output of step "a" has no "{path}"' in str(failed.value)


def test_a_path_without_a_value_in_the_runs_input_fails_and_is_named() -> None:
    with pytest.raises(EvaluationFailed, match='the run\'s input has no "/city"'):
        _input(_given("/city"), given="{}")


@pytest.mark.parametrize(
    ("own", "target"), [('{"a":1}', "/b/c"), ("[1]", "/5"), ("[1]", "/x"), ("5", "/a"), ('"ab"', "/0")]
)
def test_a_target_whose_parent_does_not_exist_fails_and_is_named(own: str, target: str) -> None:
    with pytest.raises(EvaluationFailed) as failed:
        _input(_from("a", to=target), own=own, a="1")
    assert f'nothing can be put at "{target}" of the input' in str(failed.value)


def test_a_blob_has_no_parts() -> None:
    with pytest.raises(EvaluationFailed, match='the output of step "a" is a blob: it has no "/x"'):
        _input(_from("a", "/x"), a=IMAGE)


def test_a_blob_cannot_be_put_into_json() -> None:
    for bindings in ((_from("a", to="/x"),), ()):
        with pytest.raises(EvaluationFailed, match="is a blob: bind it whole"):
            _input(*bindings, a=IMAGE)


def test_nothing_can_be_put_into_a_blob() -> None:
    with pytest.raises(EvaluationFailed, match="a blob has no places to bind to"):
        _input(_from("a", to="/x"), own=IMAGE, a="1")


def test_equal_arguments_give_equal_inputs() -> None:
    bindings = (_from("a", "/x", to="/p"), _from("a", "/x/0", to="/p2"))
    first = _input(*bindings, own='{"q":1}', a='{"x":[1]}')
    assert _input(*bindings, own='{"q":1}', a='{"x":[1]}') == first


@pytest.mark.parametrize("depth", [10, 500, 2_000, 100_000])
def test_a_deep_value_is_inserted_or_refused(depth: int) -> None:
    deep = f'{{"n":{"[" * depth}{"]" * depth}}}'
    try:
        answer = _input(_from("a", "/n", to="/x"), a=deep)
    except EvaluationFailed as failed:
        assert "nested too deeply" in str(failed)  # noqa: PT017 - either is right
    else:
        assert isinstance(answer, str)
        assert math.isclose(len(answer), 2 * depth, abs_tol=20)


def test_an_input_that_would_be_too_large_is_refused() -> None:
    evaluator = JsonEvaluator(100)
    large = f'"{"x" * 60}"'
    of_outputs = Step("s", "noop", ("a", "b"))
    of_bindings = Step("s", "noop", ("a", "b"), None, (_from("a", to="/a"), _from("b", to="/b")))
    for step in (of_outputs, of_bindings):
        with pytest.raises(EvaluationFailed, match="and 100 are allowed") as failed:
            evaluator.input_of(step, Values("null", {"a": large, "b": large}, {}))
        assert failed.value.reason is Reason.RESOURCE_EXHAUSTED


def test_the_bound_of_a_run_overrides_that_of_the_evaluator() -> None:
    evaluator, step, outputs = JsonEvaluator(30), Step("s", "noop", ("a",)), {"a": f'"{"x" * 40}"'}
    assert evaluator.input_of(step, Values("null", outputs, {}), 50) == f'{{"a":"{"x" * 40}"}}'
    with pytest.raises(EvaluationFailed, match="and 20 are allowed"):
        evaluator.input_of(step, Values("null", outputs, {}), 20)
    with pytest.raises(EvaluationFailed, match="and 30 are allowed"):
        evaluator.input_of(step, Values("null", outputs, {}))


@pytest.mark.parametrize(
    ("given", "pointer", "key"),
    [
        ('{"a":"x"}', "/a", '"x"'),
        ('{"a":1}', "/a", "1"),
        ('{"a":1.0}', "/a", "1.0"),
        ('{"a":{"c":1,"b":[2]}}', "/a", '{"b": [2], "c": 1}'),
        ('"whole"', "", '"whole"'),
        ('{"a":null}', "/a", ""),
        ('{"a":1}', "/b", ""),
        ('{"a":[1]}', "/a/-", ""),
        ('{"a":[1]}', "/a/x", ""),
        ('"text"', "/a", ""),
        (IMAGE, "", ""),
    ],
)
def test_the_key_of_a_value(given: Payload, pointer: str, key: str) -> None:
    assert JsonEvaluator(1 << 20).key_of(given, pointer) == key


def test_a_long_key_is_replaced_by_its_hash() -> None:
    evaluator = JsonEvaluator(1 << 20)
    keys = {evaluator.key_of(json.dumps("x" * size), "") for size in (1_000, 1_001, 1_001)}
    assert {len(key) for key in keys} == {64}
    assert len(keys) == 2


# Items, conditions, lists.


def _bound(path: str, item: Payload | None, default: Payload | None = None) -> Payload:
    step = Step("s", "noop", bindings=(Binding("", FromItem(path), default),))
    return JsonEvaluator(1 << 20).input_of(step, Values("null", {}, {}, item))


def test_the_item_or_a_part_of_it_can_be_bound() -> None:
    assert _bound("", '{"n": 1.10 }') == '{"n": 1.10 }'
    assert _bound("/n", '{"n": 1.10 }') == "1.10"
    assert _bound("", IMAGE) is IMAGE


def test_a_path_without_a_value_in_the_item_gives_the_default_or_fails() -> None:
    assert _bound("/no", "{}", "7") == "7"
    with pytest.raises(EvaluationFailed, match='the item has no "/no"'):
        _bound("/no", "{}")


def test_where_there_is_no_item_none_can_be_bound() -> None:
    with pytest.raises(EvaluationFailed, match="there is no item here"):
        _bound("", None)


def test_an_expression_can_be_put_into_an_input() -> None:
    step = Step("s", "noop", input='{"list":[0]}', bindings=(Binding("/list/0", FromExpression("input.n + 1")),))
    assert JsonEvaluator(1 << 20).input_of(step, Values('{"n":1}', {}, {})) == '{"list": [2]}'


def _condition(text: str, given: Payload = '{"n":5}') -> bool:
    return JsonEvaluator(1 << 20).condition(text, Values(given, {"a": "1"}, {"a": State.SUCCEEDED}))


def test_a_condition_is_true_or_false() -> None:
    assert _condition('input.n > 1 && deps["a"].state == "SUCCEEDED"')
    assert not _condition('deps["a"].output > 1')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("input.n", "the condition `input.n` is an int, and must be a bool"),
        ("null", "the condition `null` is null, and must be a bool"),
        ("input.no", 'the expression `input.no` cannot be evaluated: there is no field "no"'),
        ("1 +", "the expression cannot be evaluated: the end at character 4 is not expected"),
    ],
)
def test_a_condition_that_is_no_bool_fails(text: str, problem: str) -> None:
    with pytest.raises(EvaluationFailed) as failed:
        _condition(text)
    assert str(failed.value) == problem
    assert failed.value.reason is Reason.INVALID_INPUT


def _items(source: FromStep | FromInput | FromExpression | Payload, **outputs: Payload | None) -> list[Payload]:
    values = Values('{"list":[1.10, {"a": [2]}, "é", null]}', outputs, {})
    return JsonEvaluator(1 << 20).items(ForEach(source), values)


def test_the_items_of_a_list_keep_their_digits() -> None:
    expected = ["1.10", '{"a": [2]}', '"é"', "null"]
    assert _items(FromInput("/list")) == expected
    assert _items(FromStep("a"), a='[1.10,{"a":[2]},"\\u00e9",null]') == expected
    assert _items(FromExpression("input.list + [12]")) == [*expected, "12"]
    assert _items("[12345678901234567890]") == ["12345678901234567890"]
    assert _items("[ ]") == []


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (FromInput(), "the run's input is a map, and must be a list"),
        (FromInput("/list/0"), "the run's input is a double, and must be a list"),
        (FromInput("/no"), 'the run\'s input has no "/no"'),
        (FromStep("a"), 'the output of step "a" is a string, and must be a list'),
        (FromStep("b"), 'the output of step "b" is no list: the step did not succeed'),
        (FromStep("c"), 'the output of step "c" is a blob, and must be a list'),
        (FromExpression("1"), "the expression is an int, and must be a list"),
        ("[" + "1," * 100_000 + "1]", "a list of 100,001 items, and 100,000 are allowed"),
    ],
)
def test_what_is_no_list_has_no_items(source: FromStep | FromInput | FromExpression | Payload, problem: str) -> None:
    with pytest.raises(EvaluationFailed) as failed:
        _items(source, a='"[]"', b=None, c=IMAGE)
    assert str(failed.value) == problem


def test_a_list_may_have_many_items() -> None:
    assert len(_items("[" + "1," * 99_999 + "1]")) == 100_000


def test_the_value_of_an_expression_is_bounded_as_an_input_and_as_a_list() -> None:
    evaluator, values = JsonEvaluator(100), Values(f'"{"x" * 60}"', {}, {})
    step = Step("s", "noop", bindings=(Binding("", FromExpression("[input, input]")),))
    with pytest.raises(EvaluationFailed, match="and 100 are allowed") as of_input:
        evaluator.input_of(step, values)
    with pytest.raises(EvaluationFailed, match="its list would have 124 bytes or more, and 100 are allowed") as of_list:
        evaluator.items(ForEach(FromExpression("[input, input]")), values)
    assert of_input.value.reason is of_list.value.reason is Reason.RESOURCE_EXHAUSTED
