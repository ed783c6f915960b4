"""How an action's parameters are filled from an input."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple, NotRequired, Required, TypedDict

import jsonschema
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, field_validator, validate_call

from stepwave import Blob, Context
from stepwave_server.actions.call import Signature, SignatureError
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Blob as CoreBlob
from stepwave_server.core.model import Reason

CONTEXT = Context(run_id="run", step_id="step")


class City(TypedDict):
    """Where people live."""

    name: str
    people: NotRequired[int]


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


def _unknown(function: Callable[..., object], given: object) -> str:
    """Return what is wrong with an input that was written for a function."""
    with pytest.raises(ActionFailed) as failed:
        Signature.of(function).arguments(json.dumps(given), lambda: CONTEXT, strict=True)
    assert failed.value.reason is Reason.INVALID_INPUT
    return str(failed.value)


def test_a_key_that_was_written_and_is_not_known_is_refused_with_the_nearest_known_one() -> None:
    def action(query: str, limit: int = 10, context: Context | None = None) -> None: ...

    assert (
        _unknown(action, {"query": "x", "limt": 1}) == 'the action does not know the key "limt"; did you mean "limit"?'
    )
    assert _unknown(action, {"query": 5, "zz": 1}) == (
        'query: input should be a valid string; the action does not know the key "zz"; it takes limit, query'
    )
    assert "context" in _unknown(action, {"query": "x", "context": 1})


def test_a_key_for_an_action_that_takes_nothing_is_refused() -> None:
    def action() -> None: ...

    assert _unknown(action, {"zz": 1}) == 'the action does not know the key "zz", and takes no input'


def test_a_whole_input_and_keyword_arguments_take_every_key() -> None:
    def whole(input: object) -> None: ...

    def others(query: str, **rest: object) -> None: ...

    for action in (whole, others):
        Signature.of(action).arguments('{"query": "x", "zz": 1}', lambda: CONTEXT, strict=True)


@pytest.mark.parametrize(
    ("given", "targets", "problems"),
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
def test_a_written_input_is_checked_as_far_as_no_binding_touches_it(
    given: object, targets: list[str], problems: list[str]
) -> None:
    def action(city: City, count: int = Field(ge=1)) -> None: ...

    found = Signature.of(action).problems(json.dumps(given), targets)
    assert len(found) == len(problems)
    assert all(problem in text for problem, text in zip(problems, found, strict=True))


def test_a_validator_that_breaks_is_left_to_the_attempt() -> None:
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


# What pydantic's own `validate_call` understands.


def test_a_field_as_a_default_bounds_its_parameter() -> None:
    def action(limit: int = Field(default=10, ge=1), share: float = Field(ge=0, le=1)) -> None: ...

    assert _arguments(action, {"share": 0.5}) == {"limit": 10, "share": 0.5}
    problem = _problem(action, {"limit": 0})
    assert "limit: input should be greater than or equal to 1" in problem
    assert "share: field required" in problem


def test_a_field_makes_a_default_anew() -> None:
    def action(found: list[int] = Field(default_factory=list)) -> None: ...  # noqa: B008 - what is tested

    first = _arguments(action, {})
    assert isinstance(first["found"], list)
    first["found"].append(1)
    assert _arguments(action, {}) == {"found": []}


def test_a_default_within_an_annotation_is_one() -> None:
    def action(limit: Annotated[int, Field(default=3)]) -> None: ...

    assert _arguments(action, {}) == {"limit": 3}


@pytest.mark.parametrize(
    ("field", "given"),
    [
        (Field(alias="from"), {"from": 1}),
        (Field(validation_alias="from"), {"from": 1}),
        (Field(validation_alias=AliasChoices("start", "from")), {"from": 1}),
        (Field(validation_alias=AliasPath("range", 0)), {"range": [1, 2]}),
        (Field(validation_alias=AliasChoices("start", AliasPath("range", "from"))), {"range": {"from": 1}}),
    ],
    ids=["alias", "validation alias", "choices", "path", "choices with a path"],
)
def test_a_field_says_which_key_a_parameter_takes(field: int, given: object) -> None:
    def action(begin: int = field) -> None: ...

    assert _arguments(action, given) == {"begin": 1}
    assert "field required" in _problem(action, {"begin": 1})


def test_the_keys_that_are_wanted_are_named_as_the_input_has_them() -> None:
    def action(begin: int = Field(alias="from")) -> None: ...

    assert _problem(action, [1]) == "the input must be an object (from), got a list"
    assert dict(Signature.of(action).schema)["required"] == ["from"]


def test_a_whole_input_may_have_bounds() -> None:
    def action(input: list[int] = Field(max_length=2)) -> None: ...  # noqa: B008 - what is tested

    assert _arguments(action, [1, 2]) == {"input": [1, 2]}
    assert "at most 2 items" in _problem(action, [1, 2, 3])


def test_keyword_arguments_are_checked_too() -> None:
    def action(query: str, **rest: int) -> None: ...

    assert _arguments(action, {"query": "x", "other": "1"}) == {"query": "x", "other": 1}
    assert "other: input should be a valid integer" in _problem(action, {"query": "x", "other": "many"})


def test_a_default_is_not_checked_unless_it_says_so() -> None:
    def action(limit: int = "ten", more: int = Field(default="ten", validate_default=True)) -> None: ...  # type: ignore[assignment]  # what is tested

    assert "limit" not in _problem(action, {})
    assert "more: input should be a valid integer" in _problem(action, {})


def test_a_function_that_is_checked_already_is_read_as_before() -> None:
    @validate_call
    def action(limit: int = Field(ge=1)) -> int:
        return limit

    assert _arguments(action, {"limit": 2}) == {"limit": 2}
    assert "greater than or equal" in _problem(action, {"limit": 0})


# Hints of all kinds.


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

    given = {"city": {"name": "Oslo"}, "more": {"a": [{"name": "Rome", "people": 3}], "b": None}}
    assert _arguments(action, given) == given
    problem = _problem(action, {"city": {"people": "many"}, "more": {"a": [{}]}})
    assert "city.name: field required" in problem
    assert "city.people: input should be a valid integer" in problem
    assert "more.a.0.name: field required" in problem


def test_a_typed_dictionary_may_hold_itself() -> None:
    def action(input: Tree) -> None: ...

    given = {"children": [{"children": [], "city": {"name": "Oslo"}}]}
    assert _arguments(action, given) == {"input": given}
    assert "children.0.children: field required" in _problem(action, {"children": [{}]})


def test_a_typed_dictionary_is_found_within_other_types() -> None:
    def action(trip: Trip, pair: Annotated[Pair, "both"]) -> None: ...

    arguments = _arguments(action, {"trip": {"cities": [{"name": "Oslo"}]}, "pair": [{"name": "Rome"}, 3]})
    assert arguments == {"trip": Trip([{"name": "Oslo"}]), "pair": Pair({"name": "Rome"}, 3)}


def test_the_schema_of_a_typed_dictionary_says_what_is_required() -> None:
    def action(city: City) -> None: ...

    schema = dict(Signature.of(action).schema)
    jsonschema.validate({"city": {"name": "Oslo"}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"city": {"people": 3}}, schema)


def test_a_return_type_that_exists_for_type_checkers_alone_is_not_read() -> None:
    def action(query: str) -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821 - what is tested

    assert _arguments(action, {"query": "x"}) == {"query": "x"}


def test_every_parameter_that_cannot_be_checked_is_named() -> None:
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *_: object) -> None:
            raise RuntimeError("not for checking")

    def action(one: Odd, two: int, three: list[Odd]) -> None: ...

    with pytest.raises(SignatureError) as refused:
        Signature.of(action)
    assert str(refused.value) == (
        "parameter 'one' cannot be checked: not for checking; parameter 'three' cannot be checked: not for checking"
    )


def test_a_model_that_is_not_whole_is_refused_when_it_is_loaded() -> None:
    class Part(BaseModel):
        other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - what is tested

    def action(part: Part) -> None: ...

    with pytest.raises(SignatureError, match=r"'part' cannot be checked: .*Nowhere"):
        Signature.of(action)


def test_a_bound_that_json_cannot_hold_is_no_part_of_the_schema() -> None:
    def action(share: Annotated[float, Field(lt=float("inf"))] = float("inf"), thing: object = object()) -> None: ...

    assert _arguments(action, {}).keys() == {"share", "thing"}
    json.dumps(dict(Signature.of(action).schema), allow_nan=False)


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
