"""The published schema is valid, described, and agrees with the reader of files."""

import json

import pytest
from jsonschema import Draft202012Validator

from stepwave._files import WorkflowFileError, parse_workflow
from stepwave._files._contract import reachable
from stepwave._files.schema import DESCRIPTIONS, workflow_schema

VALIDATOR = Draft202012Validator(workflow_schema())


def workflow(**step: object) -> dict[str, object]:
    return {"name": "a", "steps": [{"id": "s", "action": "x", **step}]}


def nested(body: object, **step: object) -> dict[str, object]:
    return {"name": "a", "steps": [{"id": "s", "workflow": body, **step}]}


GOOD = [
    workflow(timeout=5),
    workflow(timeout="1h30m"),
    workflow(fallback={"action": "search"}),
    workflow(fallback={"action": {"action": "search", "input": 1}}),
    {**workflow(), "x-note": [1, {"a": None}]},
    workflow(),
    workflow(input={"a": [1, {"$from": "b/x", "default": None}], "$ref": 1}),
    workflow(input={"$input": ""}),
    workflow(input={"$literal": {"$from": 1, "other": 2}}),
    workflow(input=None, timeout="1.5s", join="all_done", retry={"jitter": 0.5, "retryable_reasons": ["timeout"]}),
    workflow(for_each={"step": {"id": "b"}, "max_parallelism": 3}, fallback={"value": [1]}),
    workflow(bindings=[{"target": "/a", "step": {"id": "b", "path": "/c"}, "default": 5}]),
    workflow(when="deps.b.output > 3", for_each={"over": {"$from": "b/hits"}, "max_parallelism": 3}),
    workflow(for_each={"over": {"$input": ""}}, input={"a": {"$item": "/x"}, "b": {"$cel": "1 + 1", "default": 0}}),
    workflow(for_each={"over": {"$cel": "input.a + ['b']"}}),
    workflow(for_each={"over": ["a", {"b": [1, {"$literal": {"$from": 1}}]}]}),
    workflow(for_each={"over": {"$literal": [{"$from": 1}]}}),
    workflow(for_each={"over": []}),
    nested({"name": "b", "steps": [{"id": "s", "workflow": {"name": "c", "steps": [{"id": "s", "action": "x"}]}}]}),
    {**workflow(), "input_schema": {"type": "object", "$defs": {"$from": {"const": 1}}}},
    {**workflow(), "input_schema": '{"type": "object"}'},
    {**workflow(), "labels": {"a": "b"}, "outputs": ["s"], "scheduling": "wave", "timeout": "2m"},
]
BAD = [
    [],
    workflow(depend_on=["b"]),
    workflow(depends_on="b"),
    workflow(timeout=-5),
    workflow(timeout="5 s"),
    workflow(**{"x-note": 1}),
    workflow(join="al"),
    workflow(allow_failure="yes"),
    workflow(retry={"max_attempts": -1}),
    workflow(input={"a": {"$from": 5}}),
    workflow(input={"a": {"$from": "b", "c": 1}}),
    workflow(input=[{"$literal": 1, "c": 1}]),
    workflow(input={"$secret": "A", "default": {"$from": "b"}}),
    workflow(fallback={"value": {"$from": "b"}}),
    workflow(fallback={"action": 5}),
    workflow(fallback="search"),
    workflow(for_each={"input": "/a", "expression": "b"}),
    workflow(for_each={"input": "/a", "over": []}),
    workflow(for_each={"over": "b"}),
    workflow(for_each={"over": {"a": 1}}),
    workflow(for_each={"over": {"$from": 1}}),
    workflow(for_each={"over": {"$from": "b", "default": []}}),
    workflow(for_each={"over": {"$item": "/a"}}),
    workflow(for_each={"over": {"$secret": "A"}}),
    workflow(for_each={"over": {"$literal": 1}}),
    workflow(for_each={"over": [{"$from": "b"}]}),
    workflow(for_each={"over": [], "maxparallelism": 1}),
    workflow(when=True),
    workflow(workflow={"name": "b", "steps": []}),
    nested({"name": "b", "steps": []}, retry={"max_attempts": 2}),
    nested({"name": "b", "steps": [], "x-note": 1}),
    nested("b"),
    {**workflow(), "input_schema": [1]},
    {**workflow(), "input_schema": True},
    {**workflow(), "labels": {"a": 1}},
    {**workflow(), "colour": "red"},
]


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(workflow_schema())


def test_every_key_of_a_workflow_file_is_described() -> None:
    keys = {f"{descriptor.name}.{field.name}" for descriptor in reachable() for field in descriptor.fields}
    assert set(DESCRIPTIONS) == keys


@pytest.mark.parametrize("document", GOOD)
def test_schema_and_reader_accept_the_same(document: object) -> None:
    VALIDATOR.validate(document)
    parse_workflow(json.dumps(document), "flow.json")


@pytest.mark.parametrize("document", BAD)
def test_schema_and_reader_refuse_the_same(document: object) -> None:
    assert not VALIDATOR.is_valid(document)
    with pytest.raises(WorkflowFileError):
        parse_workflow(json.dumps(document), "flow.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1, "a": 2}', "1e999"])
def test_an_input_schema_that_is_no_text_of_an_object_is_refused_by_the_reader(text: str) -> None:
    with pytest.raises(WorkflowFileError, match="input_schema: the text is"):
        parse_workflow(json.dumps({**workflow(), "input_schema": text}), "flow.json")


def test_the_schema_asks_for_an_action_or_a_workflow() -> None:
    assert not VALIDATOR.is_valid({"name": "a", "steps": [{"id": "s"}]})


@pytest.mark.parametrize("missing", ["name", "steps"])
def test_the_schema_asks_for_what_the_contract_requires(missing: str) -> None:
    document = workflow()
    del document[missing]
    assert not VALIDATOR.is_valid(document)
