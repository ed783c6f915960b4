"""Conversion between payloads and values, and the answers of streams."""

import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import BaseModel

from stepwave import Answer, Blob
from stepwave_server.actions.answers import Chunks
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.values import dump, load
from stepwave_server.core.model import Blob as CoreBlob
from stepwave_server.core.model import Reason

MAX_BYTES = 1_000


class Colour(Enum):
    RED = "red"


class Point(BaseModel):
    x: int


@dataclass
class Pair:
    left: int
    right: Point


@pytest.mark.parametrize("value", [None, True, 0, -5, 1.5, "", "text", [], [1, [2]], {}, {"a": {"b": None}}, 1 << 60])
def test_json_values_round_trip(value: object) -> None:
    assert load(dump(value, MAX_BYTES)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Pair(1, Point(x=2)), '{"left":1,"right":{"x":2}}'),
        (date(2026, 11, 24), '"2026-11-24"'),
        (Colour.RED, '"red"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Path("/a"), '"/a"'),
        ({"when": [date(2026, 1, 1)]}, '{"when":["2026-01-01"]}'),
        ((1, 2), "[1,2]"),
        ({1: "a"}, '{"1":"a"}'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_types_are_converted_to_json(value: object, text: str) -> None:
    assert dump(value, MAX_BYTES) == text


def test_text_is_not_escaped() -> None:
    assert dump("café 🙂", MAX_BYTES) == '"café 🙂"'


def test_a_lone_surrogate_becomes_an_escape() -> None:
    assert dump(["\ud800"], MAX_BYTES) == '["\\ud800"]'


@pytest.mark.parametrize("value", [object(), float("nan"), float("-inf"), {(1, 2): 3}, lambda: 1, [{1, 2}, object()]])
def test_a_value_that_json_cannot_hold_is_rejected(value: object) -> None:
    with pytest.raises(ActionFailed, match="it answered what JSON cannot hold") as failed:
        dump(value, MAX_BYTES)
    assert failed.value.reason is Reason.ACTION_ERROR


@pytest.mark.parametrize("value", ["x" * 2_000, "é" * 600, Blob(b"x" * 2_000)], ids=["letters", "bytes", "blob"])
def test_a_value_that_is_too_large_is_rejected(value: object) -> None:
    with pytest.raises(ActionFailed, match=r"more than the 1,000 allowed") as failed:
        dump(value, MAX_BYTES)
    assert failed.value.reason is Reason.RESOURCE_EXHAUSTED


def test_blobs_round_trip() -> None:
    payload = dump(Blob(b"\x00", "image/png"), MAX_BYTES)
    assert payload == CoreBlob("image/png", b"\x00")
    assert load(payload) == Blob(b"\x00", "image/png")


def _chunks_of(*items: object) -> Chunks:
    chunks = Chunks(MAX_BYTES)
    for item in items:
        chunks.add(item)
    return chunks


@pytest.mark.parametrize(
    ("items", "result"),
    [
        (("a", "b"), "ab"),
        (("",), ""),
        ((), []),
        (("a", 1), ["a", 1]),
        ((None,), [None]),
        (([1], [2]), [[1], [2]]),
        (("draft", Answer({"n": 1})), {"n": 1}),
        (("draft", Answer(None)), None),
        ((Answer("only"),), "only"),
    ],
    ids=str,
)
def test_the_answer_is_the_explicit_one_else_the_chunks(items: tuple[object, ...], result: object) -> None:
    assert load(_chunks_of(*items).result()) == result


def test_a_chunk_is_emitted_as_json_but_an_answer_is_not() -> None:
    chunks = Chunks(MAX_BYTES)
    assert chunks.add({"a": 1}) == '{"a":1}'
    assert chunks.add(Answer(2)) is None


def test_a_chunk_after_the_answer_is_rejected() -> None:
    with pytest.raises(ActionFailed, match="it went on after its answer"):
        _chunks_of(Answer(1), "more")


def test_chunks_are_bounded_together() -> None:
    with pytest.raises(ActionFailed, match="its chunks exceed the 1,000 bytes allowed"):
        _chunks_of(*["x" * 300] * 4)


def test_many_small_chunks_are_joined_to_an_answer_within_the_bound() -> None:
    chunks = _chunks_of(*["x"] * 300)
    assert json.loads(str(chunks.result())) == "x" * 300
