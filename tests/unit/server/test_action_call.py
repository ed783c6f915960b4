"""How an action's parameters are filled from an input."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from stepwave import Blob, Context
from stepwave_server.actions.call import Signature, SignatureError
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob as CoreBlob
from stepwave_server.core.model import Reason

CONTEXT = Context(run_id="run", step_id="step")


def _arguments(function: Callable[..., object], given: object) -> dict[str, object]:
    return Signature.of(function).arguments(json.dumps(given), lambda: CONTEXT)


def _problem(function: Callable[..., object], given: object) -> str:
    """Return what is wrong with an input."""
    with pytest.raises(ActionFailed) as failed:
        _arguments(function, given)
    assert failed.value.reason is Reason.INVALID_INPUT
    return str(failed.value)


def test_parameters_are_filled_by_name() -> None:
    def action(query: str, limit: int = 10) -> None: ...

    assert _arguments(action, {"query": "x", "limit": 3}) == {"query": "x", "limit": 3}


def test_defaults_fill_what_is_not_given() -> None:
    def action(query: str, limit: int = 10) -> None: ...

    assert _arguments(action, {"query": "x"}) == {"query": "x", "limit": 10}


def test_a_mutable_default_is_not_shared() -> None:
    def action(found: list[int] = []) -> None: ...  # noqa: B006 - what authors of actions write

    first = _arguments(action, {})
    assert isinstance(first["found"], list)
    first["found"].append(1)
    assert _arguments(action, {}) == {"found": []}


def test_keys_that_no_parameter_takes_are_passed_over() -> None:
    def action(query: str) -> None: ...

    assert _arguments(action, {"query": "x", "other": 1}) == {"query": "x"}


def test_keyword_arguments_take_the_other_keys() -> None:
    def action(query: str, context: Context, **rest: object) -> None: ...

    given = {"query": "x", "other": 1, "context": "no"}
    assert _arguments(action, given) == {"query": "x", "context": CONTEXT, "other": 1}


def test_a_parameter_named_input_takes_the_whole() -> None:
    def action(input: list[int]) -> None: ...

    assert _arguments(action, [1, 2]) == {"input": [1, 2]}


def test_an_action_without_parameters_takes_any_input() -> None:
    def action() -> None: ...

    every: list[object] = [None, 1, "x", [], {}]
    for given in every:
        assert _arguments(action, given) == {}


def test_no_input_fills_parameters_that_have_defaults() -> None:
    def action(limit: int = 10) -> None: ...

    assert _arguments(action, None) == {"limit": 10}


@pytest.mark.parametrize("name", ["context", "ctx", "c"])
def test_a_context_is_given_by_its_annotation(name: str) -> None:
    scope: dict[str, Callable[..., object]] = {}
    exec(f"def action({name}: Context): ...", {"Context": Context}, scope)
    assert _arguments(scope["action"], {}) == {name: CONTEXT}


def test_an_optional_context_is_given_too() -> None:
    def action(query: str, context: Context | None = None) -> None: ...

    assert _arguments(action, {"query": "x"}) == {"query": "x", "context": CONTEXT}


def test_an_annotated_context_is_given_too() -> None:
    def action(context: Annotated[Context, "mine"]) -> None: ...

    assert _arguments(action, {}) == {"context": CONTEXT}


def test_annotations_may_be_text() -> None:
    def action(query: "str", context: "Context") -> None: ...

    assert _arguments(action, {"query": "x"}) == {"query": "x", "context": CONTEXT}


def test_parameters_without_annotations_take_anything() -> None:
    def action(thing) -> None: ...  # type: ignore[no-untyped-def]  # what is tested

    assert _arguments(action, {"thing": [1, {}]}) == {"thing": [1, {}]}


def test_models_and_dataclasses_are_made() -> None:
    class City(BaseModel):
        name: str

    @dataclass
    class Day:
        number: int

    def action(city: City, day: Day) -> None: ...

    assert _arguments(action, {"city": {"name": "Paris"}, "day": {"number": 3}}) == {
        "city": City(name="Paris"),
        "day": Day(3),
    }


def test_a_blob_is_handed_over_whole() -> None:
    def action(input: Blob) -> None: ...

    arguments = Signature.of(action).arguments(CoreBlob("image/png", b"x"), lambda: CONTEXT)
    assert arguments == {"input": Blob(b"x", "image/png")}


def test_methods_leave_self_out() -> None:
    class Search:
        async def invoke(self, query: str) -> None: ...

    assert _arguments(Search().invoke, {"query": "x"}) == {"query": "x"}


def test_an_input_that_is_no_object_says_what_is_wanted() -> None:
    def action(query: str, limit: int = 10) -> None: ...

    assert _problem(action, [1]) == "the input must be an object (query, limit), got a list"
    assert _problem(action, "x") == "the input must be an object (query, limit), got a string"
    assert _problem(action, 1.5) == "the input must be an object (query, limit), got a number"
    assert _problem(action, True) == "the input must be an object (query, limit), got a boolean"


def test_a_blob_for_parameters_by_name_says_what_is_wanted() -> None:
    def action(query: str) -> None: ...

    with pytest.raises(ActionFailed, match="got a blob"):
        Signature.of(action).arguments(CoreBlob("image/png", b"x"), lambda: CONTEXT)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    def action(query: str, limit: int, mode: Literal["fast", "good"] = "fast") -> None: ...

    problem = _problem(action, {"limit": "many", "mode": "best"})
    assert problem.startswith("query: field required; limit: input should be a valid integer")
    assert "mode: input should be 'fast' or 'good'" in problem


def test_a_problem_inside_is_named_by_its_path() -> None:
    def action(rows: list[dict[str, int]]) -> None: ...

    assert _problem(action, {"rows": [{"a": 1}, {"a": "x"}]}).startswith("rows.1.a: ")


def test_many_problems_are_counted() -> None:
    def action(rows: list[int]) -> None: ...

    assert _problem(action, {"rows": ["x"] * 50}).endswith("; and 40 more")


def test_bounds_of_annotations_are_checked() -> None:
    def action(share: Annotated[float, Field(ge=0, le=1)]) -> None: ...

    assert "less than or equal to 1" in _problem(action, {"share": 2})


def test_the_schema_says_what_is_taken() -> None:
    def action(
        query: str, context: Context, limit: Annotated[int, Field(ge=1, description="How many.")] = 10
    ) -> None: ...

    schema = dict(Signature.of(action).schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["query"]
    properties = schema["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == {"query", "limit"}
    assert properties["limit"]["description"] == "How many."


def test_the_schema_of_a_whole_input_is_that_inputs() -> None:
    class City(BaseModel):
        name: str

    def action(input: list[City]) -> None: ...

    schema = dict(Signature.of(action).schema)
    jsonschema.validate([{"name": "Paris"}], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"nam": "Paris"}], schema)


def test_an_action_without_parameters_has_an_empty_schema() -> None:
    def action() -> None: ...

    assert Signature.of(action).schema == {}


def test_positional_parameters_cannot_be_filled() -> None:
    def only(query: str, /) -> None: ...

    def several(*queries: str) -> None: ...

    for action, name in ((only, "query"), (several, "queries")):
        with pytest.raises(SignatureError, match=f"parameter '{name}' cannot be filled by name"):
            Signature.of(action)


def test_a_whole_input_leaves_nothing_for_others() -> None:
    def action(input: object, limit: int) -> None: ...

    with pytest.raises(SignatureError, match="a parameter named `input` takes the whole input"):
        Signature.of(action)


def test_annotations_that_cannot_be_read_are_named() -> None:
    def action(query: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    with pytest.raises(SignatureError, match="its type hints cannot be read: name 'Nowhere'"):
        Signature.of(action)
