"""Inputs in a file become a payload and bindings."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave._files import WorkflowFileError, parse_workflow
from stepwave.v1 import workflow_pb2


def read_step(text: str) -> workflow_pb2.Step:
    """Return the only step of a workflow, given its keys."""
    return parse_workflow(f"steps:\n- {text}\n", "f").message.steps[0]


def complaint(text: str) -> str:
    """Return the only problem of a step, without its place."""
    with pytest.raises(WorkflowFileError) as caught:
        read_step(text)
    (line,) = str(caught.value).splitlines()
    return line.split(": ", 1)[1]


plain_keys = st.text().filter(lambda key: not key.startswith("$"))  # such a key may be a reference


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_keys, inner, max_size=3),
        max_leaves=15,
    )
)
def test_an_input_without_references_is_the_payload(value: object) -> None:
    step = parse_workflow(json.dumps({"steps": [{"input": value}]}), "f.json").message.steps[0]
    assert json.loads(step.input.json) == value
    assert not step.bindings


@pytest.mark.parametrize(
    ("text", "source", "value"),
    [
        ("{$input: /city}", "input", "/city"),
        ('{$input: ""}', "input", ""),
        ("{$item: /id}", "item", "/id"),
        ("{$secret: API_KEY}", "secret", "API_KEY"),
        ('{$cel: "deps.a + 1"}', "expression", "deps.a + 1"),
    ],
)
def test_each_key_sets_its_source(text: str, source: str, value: str) -> None:
    (binding,) = read_step(f"input: {{x: {text}}}").bindings
    assert (binding.WhichOneof("source"), getattr(binding, source)) == (source, value)


@pytest.mark.parametrize(
    ("text", "step_id", "path"),
    [
        ("search", "search", ""),
        ("search/hits/0", "search", "/hits/0"),
        ("search/", "search", "/"),
        ("a/b~1c", "a", "/b~1c"),
    ],
)
def test_from_names_a_step_and_a_pointer_into_its_output(text: str, step_id: str, path: str) -> None:
    (binding,) = read_step(f"input: {{x: {{$from: {text}}}}}").bindings
    assert (binding.step.id, binding.step.path) == (step_id, path)


def test_bindings_are_found_at_any_depth_and_leave_null_behind() -> None:
    step = read_step("input: {facts: [{$from: a}, 1, {deep: {$from: b/x}}], 'a/b~': {$input: ''}}")
    assert step.input.json == '{"facts":[null,1,{"deep":null}],"a/b~":null}'
    assert [binding.target for binding in step.bindings] == ["/facts/0", "/facts/2/deep", "/a~1b~0"]


def test_a_binding_of_the_whole_input_leaves_no_input() -> None:
    step = read_step("input: {$from: search}")
    assert not step.HasField("input")
    assert [binding.target for binding in step.bindings] == [""]


def test_an_input_of_nothing_is_null_and_not_left_out() -> None:
    assert read_step("input:").input.json == "null"
    assert not read_step("id: a").HasField("input")


def test_a_default_is_beside_the_source() -> None:
    (binding,) = read_step("input: {x: {$from: a, default: {n: null}}}").bindings
    assert binding.default.json == '{"n":null}'


@pytest.mark.parametrize(
    "text",
    [
        "input: 1e400",
        "input: {x: [1, 1e400]}",
        "input: {x: {$literal: {y: [1e400]}}}",
        "input: {x: {$from: a, default: [1e400]}}",
        "fallback: {value: {x: 1e400}}",
    ],
)
def test_a_number_beyond_the_range_of_doubles_is_reported_at_its_place(text: str) -> None:
    with pytest.raises(WorkflowFileError) as refused:
        read_step(text)
    (problem,) = refused.value.problems
    assert problem.message == "holds the number 1e400, which is beyond the range of a double"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("input: {n: 1, n: 2}", "2:17"),
        ("input: {x: {$literal: {y: [{n: 1, n: 2}]}}}", "2:37"),
        ("input: {x: {$from: a, default: [{n: 1, n: 2}]}}", "2:42"),
        ("fallback: {value: {n: 1, n: 2}}", "2:28"),
    ],
)
def test_a_duplicate_key_is_reported_at_its_place(text: str, place: str) -> None:
    with pytest.raises(WorkflowFileError) as refused:
        read_step(text)
    assert [str(problem) for problem in refused.value.problems] == [f'{place}: duplicate key "n", first on line 2']


def test_a_literal_is_itself_whatever_keys_it_has() -> None:
    step = read_step("input: {x: {$literal: {$from: a, $literal: 1}}}")
    assert step.input.json == '{"x":{"$from":"a","$literal":1}}'
    assert not step.bindings


def test_other_keys_are_data_even_with_a_dollar() -> None:
    assert read_step("input: {$ref: a, $schema: b}").input.json == '{"$ref":"a","$schema":"b"}'


def test_a_misspelt_reference_is_reported_and_can_be_data_in_a_literal() -> None:
    with pytest.raises(WorkflowFileError) as refused:
        read_step("input: {x: {$form: a}}")
    (problem,) = refused.value.problems
    assert problem.message == 'did you mean $from? For "$form" as data, put $literal around it'
    assert read_step("input: {x: {$literal: {$form: a}}}").input.json == '{"x":{"$form":"a"}}'


def test_spelled_out_bindings_come_after_those_of_the_input() -> None:
    step = read_step("{bindings: [{target: /b, item: ''}], input: {a: {$from: x}, b: 0}}")
    assert [binding.target for binding in step.bindings] == ["/a", "/b"]


def test_a_fallbacks_value_is_data() -> None:
    assert read_step("fallback: {value: {$literal: {$from: a}}}").fallback.value.json == '{"$from":"a"}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input: {x: {$from: 5}}", "steps[0].input: $from: expected a string, got the number 5"),
        ("input: {x: {$from: /a}}", 'steps[0].input: $from: names no step; write "step" or "step/pointer"'),
        (
            "input: {x: {$from: a, y: 1}}",
            'steps[0].input: "y" cannot be beside $from (only "default" can); put $literal around what is data',
        ),
        (
            "input: {x: {$literal: a, default: 1}}",
            'steps[0].input: "default" cannot be beside $literal (nothing can); put $literal around what is data',
        ),
        (
            "fallback: {value: {$from: a}}",
            "steps[0].fallback.value: references are not allowed here; put $literal around what is data",
        ),
        (
            "input: {x: {$from: a, default: {$from: b}}}",
            "steps[0].input: references are not allowed here; put $literal around what is data",
        ),
    ],
)
def test_a_misused_reference_is_explained(text: str, message: str) -> None:
    assert complaint(text) == message
