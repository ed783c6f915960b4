"""Schemas of inputs: which are accepted, and how an input is checked against one."""

import json
import time

import pytest

from stepwave_server.core.model import Blob
from stepwave_server.wire.workflows.input_schema import MAX_SCHEMA_BYTES, input_problems, schema_problem


def _problems(schema: object, value: object) -> list[str]:
    text = json.dumps(schema)
    assert schema_problem(text) == ""
    found = input_problems(text, json.dumps(value))
    assert {problem.field for problem in found} <= {"input"}
    return [problem.description for problem in found]


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "object", "properties": {"$ref": {"type": "string"}, "$schema": {}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema"},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"$id": "https://x.test/a", "$ref": "a#/$defs/q", "$defs": {"q": {}}},
    ],
)
def test_a_schema_is_accepted(schema: object) -> None:
    assert schema_problem(json.dumps(schema)) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "is not JSON"),
        ("5", "is no JSON Schema: 5 is not of type"),
        ('{"type":"text"}', 'is no JSON Schema: at "/type"'),
        ('{"a":1,"a":2}', 'holds the key "a" twice'),
        ('{"$schema":"http://json-schema.org/draft-07/schema#"}', '"$schema" must be'),
        ('{"not":{"$schema":"https://json-schema.org/draft/2020-12/schema"}}', '"$schema" must stand at the root'),
        ('{"$ref":"https://x.test/schema"}', 'nothing is at "https://x.test/schema"'),
        ('{"not":{"$ref":"file:///etc/passwd"}}', 'nothing is at "file:///etc/passwd"'),
        ('{"$ref":"#/$defs/a"}', 'nothing is at "#/$defs/a"'),
        ('{"pattern":"(?=a)"}', 'the regular expression "(?=a)" cannot be used'),
        ('{"title":"' + "x" * MAX_SCHEMA_BYTES + '"}', "are more than the 65,536 allowed"),
        ('{"not":' * 200 + "{}" + "}" * 200, "is nested too deeply"),
    ],
)
def test_another_text_is_refused(text: str, problem: str) -> None:
    assert problem in schema_problem(text)


def test_an_input_that_matches_has_no_problem() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    assert _problems(schema, {"n": 1}) == []


def test_every_problem_has_its_place() -> None:
    schema = {
        "properties": {"list": {"items": {"type": "integer"}}, "a/b": {"pattern": "^x+$"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    assert sorted(_problems(schema, {"list": [1, "x"], "a/b": "y", "more": 1})) == [
        "'n' is a required property",
        "at \"/a~1b\": 'y' does not match '^x+$'",
        "at \"/list/1\": 'x' is not of type 'integer'",
        "the key 'more' is not expected",
    ]


def test_without_a_schema_any_input_matches() -> None:
    assert input_problems("", Blob("image/png", b"")) == []


def test_a_blob_matches_no_schema() -> None:
    assert [problem.field for problem in input_problems("true", Blob("image/png", b""))] == ["input"]


@pytest.mark.parametrize(
    ("items", "problems"),
    [([1, 1.0], 1), ([True, 1], 0), ([{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], 1), (["1", 1], 0), ([1e300, 1.5], 0)],
)
def test_items_are_compared_by_value(items: list[object], problems: int) -> None:
    assert len(_problems({"uniqueItems": True}, items)) == problems


def test_keys_that_match_a_pattern_are_not_additional() -> None:
    schema = {"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": False}
    assert _problems(schema, {"x-a": "b"}) == []
    assert _problems(schema, {"x-a": 1}) == ["at \"/x-a\": 1 is not of type 'string'"]


DOUBLING = {
    "$defs": {"d40": {}, **{f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}},
    "$ref": "#/$defs/d0",
}
# The reference to the root leads to a schema with a dialect, for which the library has a class of its own.
DIALECT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": DOUBLING["$defs"],
    "properties": {"a": {"$ref": "#"}},
    "if": {"type": "integer"},
    "then": {"$ref": "#/$defs/d0"},
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (DOUBLING, 1),
        (DIALECT, {"a": 1}),
        ({"$ref": "#"}, 1),
        ({"items": {"allOf": [True] * 6_000}}, [1] * 10_000),
    ],
    ids=["doubling", "doubling with a dialect", "endless", "many alternatives"],
)
def test_a_check_that_takes_too_long_is_given_up(schema: object, value: object) -> None:
    start = time.monotonic()
    (problem,) = _problems(schema, value)
    assert problem.startswith("cannot be checked against `input_schema`")
    assert time.monotonic() - start < 30


def test_a_regular_expression_takes_linear_time() -> None:
    start = time.monotonic()
    assert len(_problems({"pattern": "^(a+)+$"}, "a" * 10_000 + "b")) == 1
    assert time.monotonic() - start < 10


def test_many_problems_are_cut() -> None:
    assert len(_problems({"items": {"type": "string"}}, [1] * 1_000)) == 20


def test_a_long_problem_is_cut() -> None:
    (problem,) = _problems({"type": "integer"}, "x" * 10_000)
    assert len(problem) == 300


def test_items_are_compared_in_linear_time() -> None:
    start = time.monotonic()
    assert _problems({"uniqueItems": True}, [{"a": index} for index in range(10_000)]) == []
    assert time.monotonic() - start < 20
