"""Signatures: types of parameters, JSON schemas, and signatures that are rejected."""

import json
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Required, TypedDict

import jsonschema
import pytest
from pydantic import BaseModel, Field

from stepwave import Context
from stepwave_server.actions.call import Signature, SignatureError
from unit.server.actions.signatures import City, arguments_of, problem_of


class Tree(TypedDict, total=False):
    children: Required["list[Tree]"]
    city: City


@dataclass
class Trip:
    cities: list[City]


class Pair(NamedTuple):
    left: City
    right: int


def test_typed_dictionaries_of_the_standard_library_are_checked() -> None:
    def action(city: City, more: dict[str, list[City] | None]) -> None: ...

    value = {"city": {"name": "Oslo"}, "more": {"a": [{"name": "Rome", "people": 3}], "b": None}}
    assert arguments_of(action, value) == value
    problem = problem_of(action, {"city": {"people": "many"}, "more": {"a": [{}]}})
    assert "city.name: field required" in problem
    assert "city.people: input should be a valid integer" in problem
    assert "more.a.0.name: field required" in problem


def test_a_typed_dictionary_may_refer_to_itself() -> None:
    def action(input: Tree) -> None: ...

    value = {"children": [{"children": [], "city": {"name": "Oslo"}}]}
    assert arguments_of(action, value) == {"input": value}
    assert "children.0.children: field required" in problem_of(action, {"children": [{}]})


def test_a_typed_dictionary_is_found_within_other_types() -> None:
    def action(trip: Trip, pair: Annotated[Pair, "both"]) -> None: ...

    arguments = arguments_of(action, {"trip": {"cities": [{"name": "Oslo"}]}, "pair": [{"name": "Rome"}, 3]})
    assert arguments == {"trip": Trip([{"name": "Oslo"}]), "pair": Pair({"name": "Rome"}, 3)}


def test_the_schema_of_a_typed_dictionary_has_the_required_keys() -> None:
    def action(city: City) -> None: ...

    schema = dict(Signature.of(action).schema)
    jsonschema.validate({"city": {"name": "Oslo"}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"city": {"people": 3}}, schema)


def test_an_unknown_return_type_is_ignored() -> None:
    def action(query: str) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    assert arguments_of(action, {"query": "x"}) == {"query": "x"}


def test_every_parameter_that_cannot_be_checked_is_reported() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: object) -> None:
            raise RuntimeError("not for checking")

    def action(one: Odd, two: int, three: list[Odd]) -> None: ...

    with pytest.raises(SignatureError) as caught:
        Signature.of(action)
    assert str(caught.value) == (
        "parameter 'one' cannot be checked: not for checking; parameter 'three' cannot be checked: not for checking"
    )


def test_an_incomplete_model_is_rejected_when_the_action_is_loaded() -> None:
    class Part(BaseModel):
        other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - what is tested

    def action(part: Part) -> None: ...

    with pytest.raises(SignatureError, match=r"'part' cannot be checked: .*Nowhere"):
        Signature.of(action)


def test_a_bound_that_json_cannot_hold_is_left_out_of_the_schema() -> None:
    def action(share: Annotated[float, Field(lt=float("inf"))] = float("inf"), thing: object = object()) -> None: ...

    assert arguments_of(action, {}).keys() == {"share", "thing"}
    json.dumps(dict(Signature.of(action).schema), allow_nan=False)


def test_the_schema_has_the_parameters() -> None:
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


def test_the_schema_of_a_whole_input_is_the_schema_of_its_type() -> None:
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


def test_positional_parameters_are_rejected() -> None:
    def only(query: str, /) -> None: ...

    def several(*queries: str) -> None: ...

    for action, name in ((only, "query"), (several, "queries")):
        with pytest.raises(SignatureError, match=f"parameter '{name}' cannot be filled by name"):
            Signature.of(action)


def test_a_whole_input_allows_no_other_parameter() -> None:
    def action(input: object, limit: int) -> None: ...

    with pytest.raises(SignatureError, match="a parameter named `input` takes the whole input"):
        Signature.of(action)


def test_an_unreadable_annotation_is_reported() -> None:
    def action(query: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    with pytest.raises(SignatureError, match="its type hints cannot be read: name 'Nowhere'"):
        Signature.of(action)
