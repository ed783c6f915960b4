"""The checks of inputs by the description of an action agree with those of the action itself."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from stepwave import Context
from stepwave_server.actions import Action
from stepwave_server.actions.described import DescribedAction
from stepwave_server.core.model import Blob as CoreBlob
from stepwave_server.core.model import Payload


class Query(BaseModel):
    text: str
    limit: int = 3


def several(
    count: int,
    name: str = "x",
    *,
    rows: list[int] | None = None,
    kind: Literal["u", "v", "w"] = "u",
    query: Query | None = None,
    share: Annotated[float, Field(ge=0, lt=2)] = 1.0,
    on: bool = False,
    unique: set[int] | None = None,
    wait: timedelta | None = None,
) -> None: ...


def whole(input: dict[str, int]) -> None: ...


def others(count: int, **rest: object) -> None: ...


def nothing(context: Context) -> None: ...


BLOB = CoreBlob("text/plain", b"x")

INPUTS: Sequence[Payload] = [
    "null",
    "{}",
    "5",
    '"5"',
    "[1]",
    '{"count": 1}',
    '{"count": "1"}',
    '{"count": 1.0}',
    '{"count": 1.5}',
    '{"count": "x", "cuont": 1, "z": 2}',
    '{"count": 1, "name": 2}',
    '{"count": 1, "rows": [1, "2", "x"]}',
    '{"count": 1, "rows": null}',
    '{"count": 1, "rows": {}}',
    '{"count": 1, "kind": "q"}',
    '{"count": 1, "query": {"text": "a", "limit": "4"}}',
    '{"count": 1, "query": {"limit": "z"}}',
    '{"count": 1, "share": -1}',
    '{"count": 1, "share": 2}',
    '{"count": 1, "share": "0.5"}',
    '{"count": 1, "on": "yes"}',
    '{"count": 1, "on": 3}',
    '{"count": 1, "unique": [1, 1]}',
    '{"count": 1, "wait": 5}',
    BLOB,
]


@pytest.mark.parametrize("function", [several, whole, others, nothing])
@pytest.mark.parametrize("payload", INPUTS)
@pytest.mark.parametrize("targets", [[], ["/count"], ["/rows/1"], [""], ["/other"]])
def test_the_description_finds_the_problems_that_the_action_finds(
    function: Callable[..., object], payload: Payload, targets: Sequence[str]
) -> None:
    if function is whole and payload is BLOB:
        pytest.skip("no schema describes blobs, so the action alone checks them")
    action = Action.of(function, name="act")
    described = DescribedAction.of(action)
    assert set(described.problems(payload, targets)) == set(action.problems(payload, targets))


def test_an_action_that_is_not_described_takes_any_input() -> None:
    assert DescribedAction("act").problems('{"any": "thing"}', []) == []


def test_a_schema_that_cannot_be_checked_in_bounded_time_is_not_checked() -> None:
    described = DescribedAction("act", input_schema='{"unevaluatedProperties": false}')
    assert described.problems('{"any": "thing"}', []) == []
