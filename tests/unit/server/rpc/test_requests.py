"""Requests: run ids, page tokens, and all problems reported together."""

import pytest

from stepwave._values.ids import new_run_id
from stepwave_server.core.info import RunKey
from stepwave_server.rpc.requests import (
    RUN_ID,
    checked,
    parse_key,
    parse_namespace,
    run_key,
)
from stepwave_server.rpc.statuses import InvalidCall, NotServed


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("briefing", "briefing"),
        ("Morning.Briefing_2", "morning-briefing-2"),
        ("___", "run"),
        ("é", "run"),
        ("", "run"),
        ("x" * 100, "x" * 40),
    ],
)
def test_a_new_run_id_is_short_readable_and_allowed(name: str, slug: str) -> None:
    made = new_run_id(name)
    assert RUN_ID.fullmatch(made)
    assert made.rpartition("-")[0] == slug
    assert not set(made.rpartition("-")[2]) & set("01loi")


def test_new_run_ids_differ() -> None:
    assert len({new_run_id("x") for _ in range(1_000)}) == 1_000


def test_a_run_key_has_the_default_namespace() -> None:
    assert run_key("", "run") == run_key("default", "run") == RunKey("default", "run")


def test_all_problems_are_reported_together_and_malformed_fields_decide_the_code() -> None:
    with pytest.raises(InvalidCall) as caught, checked() as parsed:
        parse_key("other", "no id", parsed)
    assert [violation.field for violation in caught.value.violations] == ["run_id", "namespace"]


def test_an_unsupported_request_is_not_served() -> None:
    with pytest.raises(NotServed), checked() as parsed:
        parse_namespace("other", parsed)


def test_a_request_without_problems_is_accepted() -> None:
    with checked() as parsed:
        parse_key("", "run", parsed)
