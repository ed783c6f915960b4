"""JSON Schemas of the outputs of actions."""

import datetime
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import jsonschema
import pytest

from stepwave import JSON, Answer, Blob, action
from stepwave_server.actions.output_schema import output_schema
from stepwave_server.actions.registry import Registry
from stepwave_server.actions.values import dump


@dataclass
class Page:
    """What an action answers."""

    title: str
    read: datetime.date
    rank: int = 1


class Unknown:
    """A type that JSON Schema cannot describe."""


def answering(hint: object) -> Callable[..., object]:
    """Return a function with this return type."""

    def function() -> None: ...

    function.__annotations__["return"] = hint
    return function


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (None, {"type": "null"}),
        (list[int], {"items": {"type": "integer"}, "type": "array"}),
        (AsyncIterator[str], {"type": "string"}),
        (AsyncIterator[int], {"items": {"type": "integer"}, "type": "array"}),
        (str | Blob, {"type": "string"}),
    ],
)
def test_a_schema_describes_the_declared_answer(hint: object, schema: object) -> None:
    assert json.loads(output_schema(answering(hint))) == schema


def test_an_answer_of_a_class_matches_its_schema() -> None:
    schema = json.loads(output_schema(answering(Page)))
    answer = dump(Page("Lakes", datetime.date(2026, 5, 1)), 1_000)
    assert isinstance(answer, str)
    jsonschema.validate(json.loads(answer), schema, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"title": "Lakes"}, schema)


@pytest.mark.parametrize("hint", [Any, object, JSON, Blob, Unknown, "Missing", AsyncIterator[str | Answer]])
def test_an_answer_that_no_schema_describes_has_none(hint: object) -> None:
    assert output_schema(answering(hint)) == ""


def test_a_type_that_is_declared_apart_replaces_the_return_type() -> None:
    assert json.loads(output_schema(answering(AsyncIterator[str | Answer]), int)) == {"type": "integer"}


@pytest.mark.parametrize("name", ["chat.complete", "http.request"])
def test_actions_that_call_services_describe_their_outputs(name: str) -> None:
    found = Registry(entry_points=False).get(name)
    assert found is not None
    assert json.loads(found.output_schema)["required"]


def test_the_output_of_an_action_that_answers_with_its_input_is_not_known() -> None:
    found = Registry(entry_points=False).get("core.echo")
    assert found is not None
    assert found.output_schema == ""


def test_an_action_is_idempotent_if_its_author_says_so() -> None:
    @action("put", idempotent=True)
    async def put() -> None: ...

    @action(idempotent=True)
    async def get() -> None: ...

    @action
    async def post() -> None: ...

    found = {it.name: it.idempotent for it in Registry([put, get, post], entry_points=False)}
    assert (found["put"], found["get"], found["post"]) == (True, True, False)
    assert (found["core.echo"], found["http.request"]) == (True, False)
