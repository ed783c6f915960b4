"""Input schemas: which are accepted, and what they say of inputs."""

import json
import socket

import pytest

from stepwave_server.core.model import Blob
from stepwave_server.wire.workflows.input_schema import (
    TookTooLong,
    input_problems,
    nested_input_problems,
    schema_problem,
)

SEARCH = json.dumps(
    {
        "type": "object",
        "properties": {"query": {"type": "string", "pattern": "^[a-z ]+$"}, "tags": {"items": {"type": "string"}}},
        "required": ["query"],
        "additionalProperties": False,
    }
)


def _problems(schema: object, value: object) -> list[str]:
    text = json.dumps(schema)
    assert schema_problem(text) == ""
    return input_problems(text, json.dumps(value))


@pytest.mark.parametrize(
    "schema", ["", "true", "{}", SEARCH, '{"$schema": "https://json-schema.org/draft/2020-12/schema"}']
)
def test_schemas_of_the_draft_are_accepted(schema: str) -> None:
    assert schema_problem(schema) == ""


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ("{", "is not JSON"),
        ("3", "is no JSON Schema: 3 is not of type 'object', 'boolean'"),
        ('{"properties": {"a": {"type": "strin"}}}', "is no JSON Schema: /properties/a/type: 'strin' is not valid"),
        ('{"$schema": "http://json-schema.org/draft-07/schema#"}', "must be of draft 2020-12"),
        ('{"$ref": "#/$defs/missing"}', "the reference '#/$defs/missing' leads nowhere in this schema"),
        ('{"items": {"$dynamicRef": "other.json"}}', "the reference 'other.json' leads nowhere in this schema"),
        ('{"pattern": "("}', "the pattern '(' is not supported"),
        ('{"patternProperties": {"(?=a)": true}}', "the pattern '(?=a)' is not supported"),
        ('{"unevaluatedProperties": false}', "`unevaluatedProperties` is not supported"),
        ('{"const": "' + "x" * 70_000 + '"}', "70,013 bytes are more than the 65,536 allowed"),
        ('{"not": ' * 101 + "{}" + "}" * 101, "is nested too deeply"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(schema: str, problem: str) -> None:
    assert problem in schema_problem(schema)


def test_without_a_schema_any_input_matches() -> None:
    assert input_problems("", Blob("image/png", b"\x89")) == []


def test_an_input_that_matches_has_no_problems() -> None:
    assert input_problems(SEARCH, '{"query": "red pandas", "tags": ["a"]}') == []


def test_every_problem_of_an_input_has_its_place() -> None:
    assert input_problems(SEARCH, '{"tags": ["a", 3], "quer/y": 1}') == [
        "input/tags/1: 3 is not of type 'string'",
        "input: 'query' is a required property",
        "input: the key 'quer/y' is not allowed",
    ]


def test_a_blob_matches_no_schema() -> None:
    assert input_problems("true", Blob("image/png", b"")) == ["input: must be JSON: the workflow has an input schema"]


def test_the_list_of_problems_and_each_of_them_are_bounded() -> None:
    found = _problems({"items": {"type": "integer"}}, ["x" * 10_000] * 1_000)
    assert len(found) == 21
    assert found[-1] == "input: there are more problems"
    assert all(len(problem) < 500 for problem in found)


def test_references_within_the_schema_are_followed() -> None:
    tree = {
        "$defs": {"tree": {"type": "object", "additionalProperties": {"$ref": "#/$defs/tree"}}},
        "$ref": "#/$defs/tree",
    }
    assert _problems(tree, {"a": {"b": {}}}) == []
    assert _problems(tree, {"a": {"b": 1}}) == ["input/a/b: 1 is not of type 'object'"]


def test_a_reference_to_another_schema_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("a schema was fetched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    assert "no other is fetched" in schema_problem('{"$ref": "http://192.0.2.1/schema.json"}')


def test_a_reference_to_itself_ends() -> None:
    assert _problems({"$ref": "#"}, 1) == [
        "input: is nested too deeply for the workflow's input schema, or the schema's references never end"
    ]


def test_a_schema_that_doubles_its_work_at_each_reference_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwave_server.wire.workflows.input_schema.MAX_TIME", 0.1)
    doubling = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
    schema = {"$ref": "#/$defs/a0", "$defs": {**doubling, "a40": {"type": "string"}}}
    assert _problems(schema, "x") == ["input: the check against the workflow's input schema took longer than 0.1 s"]


def test_a_pattern_takes_linear_time() -> None:
    assert _problems({"pattern": "^(a+)+$"}, "a" * 10_000 + "b")[0].startswith("input: 'aaa")


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"uniqueItems": True}, [1, [2], 1.0], "input: the items 0 and 2 are equal"),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2, "a": 1}], "input: the items 0 and 1 are equal"),
        ({"patternProperties": {"^n_": {"type": "number"}}}, {"n_a": "x"}, "input/n_a: 'x' is not of type 'number'"),
        (
            {"properties": {"a": {}}, "patternProperties": {"^n_": {}}, "additionalProperties": {"type": "string"}},
            {"a": 1, "n_a": 1, "other": 1},
            "input/other: 1 is not of type 'string'",
        ),
        ({"pattern": "^a$"}, "\ud800", r"input: '\ud800' does not match '^a$'"),
    ],
)
def test_the_keywords_of_this_server_find_what_they_should(schema: object, value: object, problem: str) -> None:
    assert _problems(schema, value) == [problem]


@pytest.mark.parametrize("value", [[1, True, "1", [1], 0, False], [], "text"])
def test_items_that_differ_are_unique(value: object) -> None:
    assert _problems({"uniqueItems": True}, value) == []


def test_the_check_of_a_nested_input_does_the_same_work_at_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwave_server.wire.workflows.input_schema.MAX_TIME", 0.0)
    schema = '{"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}}'
    assert nested_input_problems(schema, json.dumps([{"a": 1}] * 5_000)) == []
    with pytest.raises(TookTooLong):
        nested_input_problems(schema, json.dumps([{"a": 1}] * 50_000))


@pytest.mark.parametrize(
    "keyword", [{"uniqueItems": True}, {"items": {}}, {"enum": [list(range(9_000))]}, {"additionalProperties": {}}]
)
def test_keywords_that_read_all_of_an_input_count_for_more(keyword: object) -> None:
    schema = json.dumps({"anyOf": [*([{"allOf": [keyword, {"type": "string"}]}] * 1_000), {}]})
    value = {str(i): i for i in range(10_000)} if "additionalProperties" in str(keyword) else list(range(10_000))
    with pytest.raises(TookTooLong):
        nested_input_problems(schema, json.dumps(value))
