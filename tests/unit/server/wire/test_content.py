"""Comparison of two submissions, and digests of workflows."""

import re

import pytest

from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import Blob, Payload
from stepwave_server.wire.workflows.content import digest, same_content


def _flow(own: str = "null") -> bytes:
    step = workflow_pb2.Step(id="a", action="noop", bindings=[workflow_pb2.Binding(input="/x")])
    step.input.json = own
    step.bindings[0].default.json = own
    return workflow_pb2.Workflow(name="flow", steps=[step], labels={"a": "1"}).SerializeToString(deterministic=True)


def _with_fallback(own: str, *, fixed: bool) -> bytes:
    step = workflow_pb2.Step(id="a", action="noop")
    if fixed:
        step.fallback.value.json = own
    else:
        step.fallback.action.input.json = own
        step.fallback.action.bindings.add(input="/x").default.json = own
    return workflow_pb2.Workflow(name="flow", steps=[step]).SerializeToString(deterministic=True)


@pytest.mark.parametrize("fixed", [False, True])
def test_the_form_of_a_fallback_does_not_matter_and_its_content_does(fixed: bool) -> None:
    one, same, other = (_with_fallback(text, fixed=fixed) for text in ('{"a":1,"b":2}', '{"b":2, "a":1}', '{"a":1}'))
    assert same_content(one, "1", same, "1")
    assert not same_content(one, "1", other, "1")


def _same(given: Payload, other: Payload) -> bool:
    return same_content(_flow(), given, _flow(), other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', ' { "b" : 2, "a" : 1 } '),
        ('[{"x":{"b":1,"a":2}}]', '[{"x":{"a":2,"b":1}}]'),
        ('"caf\\u00e9"', '"café"'),
        ('"\\/"', '"/"'),
        ("1.50", "1.50 "),
        ("9007199254740993", " 9007199254740993"),
        ("null", " null\n"),
    ],
)
def test_form_does_not_matter(one: str, other: str) -> None:
    assert _same(one, other)
    assert same_content(_flow(one), "1", _flow(other), "1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "2"),
        ("1", "1.0"),
        ("1.5", "1.50"),
        ("9007199254740993", "9007199254740992"),
        ("1e400", "1e401"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ("1", '"1"'),
        ("[1,2]", "[2,1]"),
        ("null", "false"),
        ("null", "{}"),
        ('{"a":1}', '{"a":1,"b":null}'),
    ],
)
def test_content_matters(one: str, other: str) -> None:
    assert not _same(one, other)
    assert not same_content(_flow(one), "1", _flow(other), "1")


def test_blobs_are_equal_by_bytes_and_type() -> None:
    assert _same(Blob("image/png", b"x"), Blob("image/png", b"x"))
    assert not _same(Blob("image/png", b"x"), Blob("image/png", b"y"))
    assert not _same(Blob("image/png", b"x"), Blob("image/gif", b"x"))
    assert not _same(Blob("image/png", b"1"), "1")


def test_another_workflow_is_not_the_same_content() -> None:
    assert not same_content(_flow(), "1", workflow_pb2.Workflow(name="other").SerializeToString(), "1")


def _around(own: str, schema: str) -> bytes:
    """Return a workflow with a nested one, which runs a step over a list."""
    step = workflow_pb2.Step(id="a", action="noop")
    step.for_each.items.json = own
    inner = workflow_pb2.Workflow(name="inner", steps=[step], input_schema=schema)
    outer = workflow_pb2.Workflow(name="outer", steps=[workflow_pb2.Step(id="s", workflow=inner)])
    return outer.SerializeToString(deterministic=True)


def test_the_form_of_a_nested_workflow_does_not_matter_and_its_content_does() -> None:
    one = _around('[{"a":1,"b":2}]', '{"type":"object","title":"x"}')
    assert same_content(one, "1", _around('[{"b":2, "a":1}]', '{"title":"x", "type":"object"}'), "1")
    assert not same_content(one, "1", _around('[{"b":2, "a":2}]', '{"type":"object","title":"x"}'), "1")
    assert not same_content(one, "1", _around('[{"a":1,"b":2}]', '{"type":"object"}'), "1")


def test_equal_workflows_have_equal_digests_and_others_do_not() -> None:
    spaced, plain, other = _flow('{"b": 1, "a": 2}'), _flow('{"a":2,"b":1}'), _flow('{"a":2,"b":1.0}')
    assert digest(spaced) == digest(plain)
    assert digest(other) != digest(plain)
    assert re.fullmatch("[0-9a-f]{64}", digest(plain))


def test_the_form_of_an_input_schema_does_not_matter() -> None:
    schemas = '{"type": "object", "required": []}', '{"required":[],"type":"object"}', "true"
    one, same, other = (digest(workflow_pb2.Workflow(input_schema=it).SerializeToString()) for it in schemas)
    assert one == same != other
