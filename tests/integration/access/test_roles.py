"""The roles of callers: what each may do, and what does not exist for them."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from integration.access.calls import METHODS, fields_of
from integration.access.conftest import ROLES, Call
from stepwave_server.rpc.permissions import STARTS

README = Path(__file__).parents[3] / "server" / "README.md"


def documented() -> Mapping[str, Mapping[str, bool]]:
    """Return which role may make which call, by the table in the documentation."""
    rows = re.findall(r"^\| `(\w+)` \| (yes|no) \| (yes|no) \| (yes|no) \|$", README.read_text(), re.MULTILINE)
    return {row[0]: {role: cell == "yes" for role, cell in zip(ROLES, row[1:], strict=True)} for row in rows}


TABLE = documented()


def test_the_table_has_every_call() -> None:
    assert sorted(TABLE) == sorted(METHODS)


@pytest.mark.parametrize("method", METHODS)
async def test_a_role_may_do_what_the_table_says(call: Call, method: str) -> None:
    for role in ROLES:
        answer = await call(method, token=f"{role}-default", **fields_of(method, run_id=f"no-{role}"))
        assert (answer.reason != "PERMISSION_DENIED") == TABLE[method][role], (role, answer)


@pytest.mark.parametrize("method", METHODS)
async def test_no_call_is_served_without_credentials(call: Call, method: str) -> None:
    answer = await call(method, **fields_of(method, run_id="run"))
    assert (answer.code, answer.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")


ABOUT_A_RUN = [name for name in METHODS if "run_id" in fields_of(name, run_id="r") and name not in STARTS]


@pytest.mark.parametrize("method", ABOUT_A_RUN)
async def test_a_run_of_another_namespace_does_not_exist(call: Call, method: str) -> None:
    started = await call("StartRun", token="runner-default", **fields_of("StartRun", run_id="mine"))
    assert not started.reason, started
    foreign = [
        await call(method, token="admin-research", namespace="default", **fields_of(method, run_id=run_id))
        for run_id in ("mine", "none")
    ]
    own = await call(method, token="admin-research", namespace="research", **fields_of(method, run_id="none"))
    assert {(it.code, it.reason) for it in (*foreign, own)} == {("NOT_FOUND", "RUN_NOT_FOUND")}
    assert foreign[0].message.replace("mine", "none") == foreign[1].message == own.message


@pytest.mark.parametrize("method", ["ExecuteWorkflow", "StartRun", "ListRuns", "PlanWorkflow", "ListActions"])
async def test_a_foreign_namespace_and_one_that_is_not_there_are_refused_alike(call: Call, method: str) -> None:
    foreign, absent = [
        await call(method, token="admin-research", namespace=namespace, **fields_of(method, run_id="mine"))
        for namespace in ("default", "absent")
    ]
    assert foreign.reason == absent.reason == "PERMISSION_DENIED"
    assert foreign.message.replace("default", "absent") == absent.message


async def test_runs_of_two_namespaces_may_have_the_same_id(call: Call) -> None:
    for namespace in ("default", "research"):
        fields = fields_of("ExecuteWorkflow", run_id="same")
        answer = await call("ExecuteWorkflow", token="operator", namespace=namespace, **fields)
        assert not answer.reason, answer
        listed = await call("ListRuns", token=f"viewer-{namespace}", namespace=namespace)
        assert [(run.run_id, run.namespace) for run in listed.response.runs] == [("same", namespace)]


async def test_a_caller_of_one_namespace_sees_and_counts_only_its_runs(call: Call) -> None:
    await call("ExecuteWorkflow", token="operator", namespace="default", **fields_of("ExecuteWorkflow", run_id="one"))
    listed = await call("ListRuns", token="viewer-research", namespace="research")
    assert not listed.response.runs


async def test_an_unknown_namespace_is_named_to_a_caller_of_all(call: Call) -> None:
    answer = await call("ListRuns", token="operator", namespace="absent")
    assert (answer.code, answer.reason) == ("UNIMPLEMENTED", "NOT_SUPPORTED")


@pytest.mark.parametrize(("token", "allowed"), [("operator", True), ("admin-default", False)])
async def test_the_stats_of_all_namespaces_are_for_admins_of_all(call: Call, token: str, allowed: bool) -> None:
    answer = await call("GetServerInfo", token=token, stats=True)
    assert (not answer.reason) == allowed
    assert answer.reason in ("", "PERMISSION_DENIED")


async def test_to_hold_a_run_needs_the_role_that_may_cancel_it(call: Call) -> None:
    answer = await call("WatchRun", token="viewer-default", run_id="run", attach=True)
    assert answer.reason == "PERMISSION_DENIED"


async def test_the_record_of_a_run_says_who_started_it(call: Call) -> None:
    fields = fields_of("ExecuteWorkflow", run_id="mine")
    await call("ExecuteWorkflow", token="runner-default", **fields)
    answer = await call("GetRun", token="viewer-default", run_id="mine")
    assert answer.response.run.created_by == "token:runner-default"
