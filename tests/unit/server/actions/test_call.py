"""Arguments of an action's function, by name from the input, and the problems of an input."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from stepwave import Blob, Context
from stepwave_server.actions.call import Signature
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob as CoreBlob
from stepwave_server.core.model import Reason
from unit.server.actions.signatures import CONTEXT, City, arguments_of, problem_of


def test_parameters_are_filled_by_name() -> None:
    def action(query: str, limit: int = 10) -> None: ...

    assert arguments_of(action, {"query": "x", "limit": 3}) == {"query": "x", "limit": 3}


def test_defaults_fill_missing_keys() -> None:
    def action(query: str, limit: int = 10) -> None: ...

    assert arguments_of(action, {"query": "x"}) == {"query": "x", "limit": 10}


def test_a_mutable_default_is_not_shared() -> None:
    def action(found: list[int] = []) -> None: ...  # noqa: B006 - what authors of actions write

    first = arguments_of(action, {})
    assert isinstance(first["found"], list)
    first["found"].append(1)
    assert arguments_of(action, {}) == {"found": []}


def test_unknown_keys_are_ignored() -> None:
    def action(query: str) -> None: ...

    assert arguments_of(action, {"query": "x", "other": 1}) == {"query": "x"}


def _strict_problem_of(function: Callable[..., object], value: object) -> str:
    """Return the problems of an input whose unknown keys are an error."""
    with pytest.raises(ActionFailed) as failed:
        Signature.of(function).arguments(json.dumps(value), lambda: CONTEXT, strict=True)
    assert failed.value.reason is Reason.INVALID_INPUT
    return str(failed.value)


def test_a_strict_check_rejects_an_unknown_key_with_a_hint() -> None:
    def action(query: str, limit: int = 10, context: Context | None = None) -> None: ...

    assert (
        _strict_problem_of(action, {"query": "x", "limt": 1})
        == 'the action does not know the key "limt"; did you mean "limit"?'
    )
    assert _strict_problem_of(action, {"query": 5, "zz": 1}) == (
        'query: input should be a valid string; the action does not know the key "zz"; it takes limit, query'
    )
    assert "context" in _strict_problem_of(action, {"query": "x", "context": 1})


def test_a_strict_check_rejects_a_key_of_an_action_without_input() -> None:
    def action() -> None: ...

    assert _strict_problem_of(action, {"zz": 1}) == 'the action does not know the key "zz", and takes no input'


def test_a_whole_input_and_keyword_arguments_take_every_key() -> None:
    def whole(input: object) -> None: ...

    def others(query: str, **rest: object) -> None: ...

    for action in (whole, others):
        Signature.of(action).arguments('{"query": "x", "zz": 1}', lambda: CONTEXT, strict=True)


@pytest.mark.parametrize(
    ("value", "targets", "problems"),
    [
        ({"city": {"name": "Oslo"}, "count": 1}, [], []),
        ({"city": {"name": "Oslo"}, "count": 0}, [], ["count: input should be greater than or equal to 1"]),
        ({"city": {}, "count": 0}, ["/count"], ["city.name: field required"]),
        ({"city": {}, "count": 1}, ["/city"], []),
        ({"city": {"people": "many"}, "count": 1}, ["/city/name"], ["city.people: input should be a valid integer"]),
        ({"count": 1}, ["/city/name"], []),
        (None, ["/city", "/count"], []),
        (None, ["/city"], ["count: field required"]),
        ({"city": {"name": "a"}, "count": 1, "zz": 1}, [], ["does not know the key"]),
        ({"city": {"name": "a"}, "count": 1}, ["/zz/0"], ["does not know the key"]),
        ({"city": 5}, [""], []),
        ([1], [], ["the input must be an object (city, count), got a list"]),
    ],
    ids=str,
)
def test_an_input_is_checked_apart_from_the_values_of_its_bindings(
    value: object, targets: list[str], problems: list[str]
) -> None:
    def action(city: City, count: int = Field(ge=1)) -> None: ...

    found = Signature.of(action).problems(json.dumps(value), targets)
    assert len(found) == len(problems)
    assert all(problem in text for problem, text in zip(problems, found, strict=True))


def test_a_validator_that_raises_is_reported_by_the_attempt_only() -> None:
    class Odd(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def check(cls, name: str) -> str:
            raise KeyError(name)

    def action(odd: Odd) -> None: ...

    assert Signature.of(action).problems('{"odd": {"name": "x"}}', []) == []


def test_keyword_arguments_take_the_other_keys() -> None:
    def action(query: str, context: Context, **rest: object) -> None: ...

    value = {"query": "x", "other": 1, "context": "no"}
    assert arguments_of(action, value) == {"query": "x", "context": CONTEXT, "other": 1}


def test_a_parameter_named_input_takes_the_whole_input() -> None:
    def action(input: list[int]) -> None: ...

    assert arguments_of(action, [1, 2]) == {"input": [1, 2]}


def test_an_action_without_parameters_takes_any_input() -> None:
    def action() -> None: ...

    every: list[object] = [None, 1, "x", [], {}]
    for value in every:
        assert arguments_of(action, value) == {}


def test_without_an_input_parameters_have_their_defaults() -> None:
    def action(limit: int = 10) -> None: ...

    assert arguments_of(action, None) == {"limit": 10}


@pytest.mark.parametrize("name", ["context", "ctx", "c"])
def test_a_context_is_passed_by_its_annotation(name: str) -> None:
    scope: dict[str, Callable[..., object]] = {}
    exec(f"def action({name}: Context): ...", {"Context": Context}, scope)
    assert arguments_of(scope["action"], {}) == {name: CONTEXT}


def test_an_optional_context_is_passed() -> None:
    def action(query: str, context: Context | None = None) -> None: ...

    assert arguments_of(action, {"query": "x"}) == {"query": "x", "context": CONTEXT}


def test_an_annotated_context_is_passed() -> None:
    def action(context: Annotated[Context, "mine"]) -> None: ...

    assert arguments_of(action, {}) == {"context": CONTEXT}


def test_annotations_may_be_text() -> None:
    def action(query: "str", context: "Context") -> None: ...

    assert arguments_of(action, {"query": "x"}) == {"query": "x", "context": CONTEXT}


def test_parameters_without_annotations_take_anything() -> None:
    def action(thing) -> None: ...  # type: ignore[no-untyped-def]  # what is tested

    assert arguments_of(action, {"thing": [1, {}]}) == {"thing": [1, {}]}


def test_models_and_dataclasses_are_created() -> None:
    class City(BaseModel):
        name: str

    @dataclass
    class Day:
        number: int

    def action(city: City, day: Day) -> None: ...

    assert arguments_of(action, {"city": {"name": "Paris"}, "day": {"number": 3}}) == {
        "city": City(name="Paris"),
        "day": Day(3),
    }


def test_a_blob_is_passed_as_it_is() -> None:
    def action(input: Blob) -> None: ...

    arguments = Signature.of(action).arguments(CoreBlob("image/png", b"x"), lambda: CONTEXT)
    assert arguments == {"input": Blob(b"x", "image/png")}


def test_self_is_not_a_parameter() -> None:
    class Search:
        async def invoke(self, query: str) -> None: ...

    assert arguments_of(Search().invoke, {"query": "x"}) == {"query": "x"}


def test_an_input_that_is_no_object_is_rejected_with_the_parameters() -> None:
    def action(query: str, limit: int = 10) -> None: ...

    assert problem_of(action, [1]) == "the input must be an object (query, limit), got a list"
    assert problem_of(action, "x") == "the input must be an object (query, limit), got a string"
    assert problem_of(action, 1.5) == "the input must be an object (query, limit), got a number"
    assert problem_of(action, True) == "the input must be an object (query, limit), got a boolean"


def test_a_blob_for_parameters_by_name_is_rejected() -> None:
    def action(query: str) -> None: ...

    with pytest.raises(ActionFailed, match="got a blob"):
        Signature.of(action).arguments(CoreBlob("image/png", b"x"), lambda: CONTEXT)


def test_all_problems_are_reported_together() -> None:
    def action(query: str, limit: int, mode: Literal["fast", "good"] = "fast") -> None: ...

    problem = problem_of(action, {"limit": "many", "mode": "best"})
    assert problem.startswith("query: field required; limit: input should be a valid integer")
    assert "mode: input should be 'fast' or 'good'" in problem


def test_a_nested_problem_has_its_path() -> None:
    def action(rows: list[dict[str, int]]) -> None: ...

    assert problem_of(action, {"rows": [{"a": 1}, {"a": "x"}]}).startswith("rows.1.a: ")


def test_many_problems_are_counted() -> None:
    def action(rows: list[int]) -> None: ...

    assert problem_of(action, {"rows": ["x"] * 50}).endswith("; and 40 more")


def test_bounds_of_annotations_are_checked() -> None:
    def action(share: Annotated[float, Field(ge=0, le=1)]) -> None: ...

    assert "less than or equal to 1" in problem_of(action, {"share": 2})
