"""Page sizes and page tokens."""

import pytest

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.rpc.pages import page_size, parse_token, to_token
from stepwave_server.wire.workflows.workflow import Parsed

REQUEST = pb.ListRunsRequest(workflow_name="briefing", labels={"team": "red", "city": "oslo"}, page_size=10)


def requesting(token: str, **fields: object) -> pb.ListRunsRequest:
    """Return the request for the page of a token, with other fields."""
    request = pb.ListRunsRequest()
    request.CopyFrom(REQUEST)
    request.MergeFrom(pb.ListRunsRequest(page_token=token, **fields))  # type: ignore[arg-type]  # by name
    return request


@pytest.mark.parametrize("values", [(5,), (1, "run"), ("é",), (1 << 62, "x" * 128)])
def test_a_page_token_round_trips_its_values(values: tuple[int | str, ...]) -> None:
    parsed = Parsed()
    token = to_token(REQUEST, *values)
    assert parse_token(requesting(token), parsed, *map(type, values)) == values
    assert parsed == Parsed()


def test_an_empty_token_is_the_first_page() -> None:
    assert parse_token(requesting(""), Parsed(), int) is None


def test_the_size_may_change_between_pages() -> None:
    token = to_token(REQUEST, 5)
    assert parse_token(requesting(token, page_size=50), Parsed(), int) == (5,)


@pytest.mark.parametrize(
    "other", [{"workflow_name": "other"}, {"labels": {"team": "blue"}}, {"states": [1]}, {"run_id_prefix": "x"}]
)
def test_a_token_of_a_request_with_other_filters_is_invalid(other: dict[str, object]) -> None:
    parsed = Parsed()
    assert parse_token(requesting(to_token(REQUEST, 5), **other), parsed, int) is None
    (violation,) = parsed.invalid
    assert violation.field == "page_token"
    assert "belongs to a request with other fields" in violation.description


@pytest.mark.parametrize(
    "token",
    ["x", "é", "!!!!", to_token(REQUEST, "x"), to_token(REQUEST, 1, 2), to_token(REQUEST), "bnVsbA==", "W10="],
)
def test_a_foreign_token_is_invalid(token: str) -> None:
    parsed = Parsed()
    assert parse_token(requesting(token), parsed, int) is None
    assert [violation.field for violation in parsed.invalid] == ["page_token"]


@pytest.mark.parametrize(
    ("requested", "size"), [(0, 100), (1, 1), (1_000, 1_000), (1_001, 1_000), ((1 << 32) - 1, 1_000)]
)
def test_a_page_has_the_requested_size_within_bounds(requested: int, size: int) -> None:
    assert page_size(requested, 100, 1_000) == size
