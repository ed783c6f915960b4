"""Conditions, lists and nested workflows in a file, with the places of their problems."""

import json

import pytest

from stepwave import Violation
from stepwave._files import LoadedWorkflow, WorkflowFileError, parse_workflow
from stepwave.v1 import workflow_pb2

PAGES = """\
name: pages
input_schema:
  type: object
  properties: {urls: {type: array, $ref: "#/$defs/urls"}}
steps:
- id: search
  action: search
- id: pages
  when: deps["search"].output.hits > 3
  depends_on: [search]
  for_each:
    over: {$from: search/urls}
    max_parallelism: 8
  workflow:
    name: page
    steps:
    - {id: fetch, action: fetch, input: {url: {$item: /url}, n: {$cel: input.n + 1, default: 0}}}
    - {id: clean, action: clean, input: {$from: fetch}}
"""


def loaded(text: str) -> LoadedWorkflow:
    return parse_workflow(text, "flow.yaml")


def for_each(over: str) -> workflow_pb2.ForEach:
    return loaded(f"steps:\n- {{id: a, action: x, for_each: {{over: {over}}}}}\n").message.steps[0].for_each


def problems(text: str) -> list[str]:
    with pytest.raises(WorkflowFileError) as caught:
        loaded(text)
    return [line.removeprefix("flow.yaml:") for line in str(caught.value).splitlines()]


def test_a_file_may_have_conditions_lists_and_nested_workflows() -> None:
    flow = loaded(PAGES).message
    pages = flow.steps[1]
    assert json.loads(flow.input_schema)["properties"] == {"urls": {"type": "array", "$ref": "#/$defs/urls"}}
    assert pages.when == 'deps["search"].output.hits > 3'
    assert pages.for_each == workflow_pb2.ForEach(
        step=workflow_pb2.StepOutput(id="search", path="/urls"), max_parallelism=8
    )
    fetch, clean = pages.workflow.steps
    assert [(it.target, it.item, it.expression, it.default.json) for it in fetch.bindings] == [
        ("/url", "/url", "", ""),
        ("/n", "", "input.n + 1", "0"),
    ]
    assert clean.bindings[0].step.id == "fetch"


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("{$input: /urls}", workflow_pb2.ForEach(input="/urls")),
        ('{$input: ""}', workflow_pb2.ForEach(input="")),
        ("{$cel: 'input.a + input.b'}", workflow_pb2.ForEach(expression="input.a + input.b")),
        ("{$from: search}", workflow_pb2.ForEach(step=workflow_pb2.StepOutput(id="search"))),
    ],
)
def test_a_list_may_come_from_every_source(over: str, expected: workflow_pb2.ForEach) -> None:
    assert for_each(over) == expected


@pytest.mark.parametrize(
    ("over", "text"),
    [("[a, 1.10, {b: []}]", '["a",1.10,{"b":[]}]'), ("[]", "[]"), ("{$literal: [{$from: a}]}", '[{"$from":"a"}]')],
)
def test_a_list_may_be_fixed(over: str, text: str) -> None:
    assert for_each(over).items.json == text


@pytest.mark.parametrize(
    ("field", "place"),
    [
        ("workflow.steps[1].when", (9, 9)),
        ("workflow.steps[1].for_each.step", (12, 11)),
        ("workflow.steps[1].for_each.step.path", (12, 11)),
        ("workflow.steps[1].for_each.max_parallelism", (13, 22)),
        ("workflow.steps[1].workflow.steps[0].bindings[1].expression", (17, 72)),
        ("workflow.steps[1].workflow.steps[1].bindings[0]", (18, 49)),
        ("workflow.input_schema", (2, 1)),
    ],
)
def test_what_a_server_refuses_has_its_place(field: str, place: tuple[int, int]) -> None:
    error = loaded(PAGES).locate([Violation(field, "no", "")])
    assert error.problems[0].place == place


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (
            "for_each: {over: x}",
            '3:20: {}over: expected a list, or a reference such as {$from: step}, got the string "x"',
        ),
        (
            "for_each: {over: {a: {$from: b}}}",
            "3:20: {}over: expected a list, or a reference such as {$from: step}, got a mapping",
        ),
        (
            "for_each: {over: {$form: a}}",
            '3:21: {}over: did you mean $from? For "$form" as data, put $literal around it',
        ),
        ("for_each: {over: {$from: 5}}", "3:28: {}over: $from: expected a string, got the number 5"),
        ("for_each: {over: {$from: /a}}", '3:28: {}over: $from: names no step; write "step" or "step/pointer"'),
        ("for_each: {over: {$item: /a}}", '3:28: {}over: a list cannot come from $item; write {$cel: "…"}'),
        ("for_each: {over: {$secret: a}}", '3:30: {}over: a list cannot come from $secret; write {$cel: "…"}'),
        ("for_each: {over: {$from: a, default: []}}", '3:28: {}over: a list has no "default"'),
        (
            "for_each: {over: [1, {$from: a}]}",
            '3:32: {}over: a fixed list has no references; write it in CEL, such as {$cel: "[deps.a.output, input.x]"}',
        ),
        ("for_each: {ovr: []}", '3:14: unknown key "ovr"; did you mean "over"?'),
        ("for_each: {over: [], input: /a}", '3:24: "input" and "over" exclude each other'),
    ],
)
def test_a_wrong_list_is_reported_at_its_place(step: str, expected: str) -> None:
    assert problems(f"steps:\n- id: a\n  {step}\n") == [expected.replace("{}", "steps[0].for_each.")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("when: [a]", "3:9: steps[0].when: expected a string, got a list"),
        ("whne: a", '3:3: unknown key "whne"; did you mean "when"?'),
        ("{action: x, workflow: {name: b}}", '3:15: "workflow" and "action" exclude each other'),
        ("workflow: b", '3:13: steps[0].workflow: expected a mapping, got the string "b"'),
        (
            "workflow: {steps: [{id: b, depends_on: c}]}",
            '3:42: steps[0].workflow.steps[0].depends_on: expected a list of strings, got the string "c"',
        ),
        ("workflow: {x-notes: 1}", '3:14: unknown key "x-notes"; known: '),
    ],
)
def test_a_wrong_condition_or_workflow_is_reported_at_its_place(text: str, expected: str) -> None:
    step = f"- {text}" if text.startswith("{") else f"- id: a\n  {text}"
    (found,) = problems(f"steps:\n{step}\n" if not text.startswith("{") else f"steps:\n\n{step}\n")
    assert found.startswith(expected)


def test_a_schema_of_the_input_is_a_mapping_or_its_text() -> None:
    assert loaded('input_schema: \'{"type": "object"}\'\n').message.input_schema == '{"type": "object"}'
    assert problems("input_schema: 5\n") == [
        "1:15: input_schema: expected a mapping, or its JSON text, got the number 5"
    ]
    assert problems("input_schema: '[1]'\n") == ["1:15: input_schema: the text is JSON, but no object"]
    assert problems("input_schema: '{'\n")[0].startswith("1:15: input_schema: the text is not JSON: ")
    assert problems("input_schema: {maximum: 1e999}\n") == [
        "1:25: input_schema: holds the number 1e999, which is beyond the range of a double"
    ]
