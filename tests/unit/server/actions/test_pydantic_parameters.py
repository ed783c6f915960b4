"""Parameters with pydantic's fields: they mean the same as with `validate_call`."""

from typing import Annotated

import pytest
from pydantic import AliasChoices, AliasPath, Field, validate_call

from stepwave_server.actions.call import Signature
from unit.server.actions.signatures import arguments_of, problem_of


def test_a_field_as_a_default_bounds_its_parameter() -> None:
    def action(limit: int = Field(default=10, ge=1), share: float = Field(ge=0, le=1)) -> None: ...

    assert arguments_of(action, {"share": 0.5}) == {"limit": 10, "share": 0.5}
    problem = problem_of(action, {"limit": 0})
    assert "limit: input should be greater than or equal to 1" in problem
    assert "share: field required" in problem


def test_a_default_factory_is_called_for_every_call() -> None:
    def action(found: list[int] = Field(default_factory=list)) -> None: ...  # noqa: B008 - what is tested

    first = arguments_of(action, {})
    assert isinstance(first["found"], list)
    first["found"].append(1)
    assert arguments_of(action, {}) == {"found": []}


def test_a_default_in_an_annotation_counts() -> None:
    def action(limit: Annotated[int, Field(default=3)]) -> None: ...

    assert arguments_of(action, {}) == {"limit": 3}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (Field(alias="from"), {"from": 1}),
        (Field(validation_alias="from"), {"from": 1}),
        (Field(validation_alias=AliasChoices("start", "from")), {"from": 1}),
        (Field(validation_alias=AliasPath("range", 0)), {"range": [1, 2]}),
        (Field(validation_alias=AliasChoices("start", AliasPath("range", "from"))), {"range": {"from": 1}}),
    ],
    ids=["alias", "validation alias", "choices", "path", "choices with a path"],
)
def test_an_alias_is_the_key_that_a_parameter_takes(field: int, value: object) -> None:
    def action(begin: int = field) -> None: ...

    assert arguments_of(action, value) == {"begin": 1}
    assert "field required" in problem_of(action, {"begin": 1})


def test_messages_and_the_schema_use_the_alias() -> None:
    def action(begin: int = Field(alias="from")) -> None: ...

    assert problem_of(action, [1]) == "the input must be an object (from), got a list"
    assert dict(Signature.of(action).schema)["required"] == ["from"]


def test_a_whole_input_may_have_bounds() -> None:
    def action(input: list[int] = Field(max_length=2)) -> None: ...  # noqa: B008 - what is tested

    assert arguments_of(action, [1, 2]) == {"input": [1, 2]}
    assert "at most 2 items" in problem_of(action, [1, 2, 3])


def test_keyword_arguments_are_checked() -> None:
    def action(query: str, **rest: int) -> None: ...

    assert arguments_of(action, {"query": "x", "other": "1"}) == {"query": "x", "other": 1}
    assert "other: input should be a valid integer" in problem_of(action, {"query": "x", "other": "many"})


def test_a_default_is_checked_only_if_the_field_says_so() -> None:
    def action(limit: int = "ten", more: int = Field(default="ten", validate_default=True)) -> None: ...  # type: ignore[assignment]  # what is tested

    assert "limit" not in problem_of(action, {})
    assert "more: input should be a valid integer" in problem_of(action, {})


def test_a_function_with_validate_call_is_read_like_others() -> None:
    @validate_call
    def action(limit: int = Field(ge=1)) -> int:
        return limit

    assert arguments_of(action, {"limit": 2}) == {"limit": 2}
    assert "greater than or equal" in problem_of(action, {"limit": 0})
