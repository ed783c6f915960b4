"""Namespaces: the actions that each may call."""

from pathlib import Path
from typing import Any

import pytest

from integration.access.conftest import Serve, access_text
from integration.server.http_service import as_json, http_service
from stepwave import AsyncClient, Fallback, Workflow, action
from stepwave.exceptions import InvalidWorkflow, RunFailed
from stepwave_server.access.access_file import Namespace
from stepwave_server.app import Server


@pytest.fixture
def access(tmp_path: Path) -> Path:
    path = tmp_path / "access.toml"
    text = access_text().replace(
        "[namespaces.research]", '[namespaces.research]\nactions = ["core.*", "http.*", "search.*"]'
    )
    path.write_text(text)
    return path


@action("tools.shell")
async def shell() -> str:
    return "done"


@action("search.web")
async def search() -> str:
    return "found"


def research(server: Server) -> AsyncClient:
    return AsyncClient(server.address, token="runner-research", namespace="research")


def calling(name: str) -> Workflow:
    flow = Workflow("flow")
    flow.step("step", name)
    return flow


async def test_an_allowed_action_runs(serve: Serve) -> None:
    server = await serve(actions=(shell, search))
    async with research(server) as client:
        assert (await client.run(calling("search.web"))).outputs == {"step": "found"}


async def test_another_action_is_refused_before_anything_runs(serve: Serve) -> None:
    server = await serve(actions=(shell, search))
    async with research(server) as client:
        with pytest.raises(InvalidWorkflow, match="may not call the action") as caught:
            await client.run(calling("tools.shell"))
    assert [it.field for it in caught.value.violations] == ["workflow.steps[0].action"]


async def test_it_is_refused_as_a_fallback_and_in_an_inline_workflow_too(serve: Serve) -> None:
    server = await serve(actions=(shell, search))
    flow, inner = Workflow("flow"), Workflow("inner")
    flow.step("a", "core.fail", fallback=Fallback("tools.shell"))
    inner.step("b", "tools.shell")
    flow.step("c", workflow=inner)
    async with research(server) as client:
        with pytest.raises(InvalidWorkflow) as caught:
            await client.run(flow)
    fields = [it.field for it in caught.value.violations]
    assert fields == ["workflow.steps[0].fallback.action.action", "workflow.steps[1].workflow.steps[0].action"]


async def test_a_workflow_that_a_step_chooses_calls_no_other_action(serve: Serve) -> None:
    server = await serve(actions=(shell, search))
    inner: dict[str, Any] = {"name": "inner", "steps": [{"id": "b", "action": "tools.shell"}]}
    flow = Workflow("flow")
    flow.step("nested", "core.workflow", {"workflow": inner})
    async with research(server) as client:
        with pytest.raises(RunFailed) as caught:
            await client.run(flow)
    failure = caught.value.result.steps["nested/b"].failure
    assert failure is not None
    assert (failure.reason, failure.retryable) == ("unauthorized", False)


async def test_only_allowed_actions_are_listed(serve: Serve) -> None:
    server = await serve(actions=(shell, search))
    async with research(server) as client, AsyncClient(server.address, token="viewer-default") as other:
        listed = [found.name for found in await client.actions()]
        assert "search.web" in listed
        assert "tools.shell" not in listed
        assert "tools.shell" in [found.name for found in await other.actions()]


async def test_the_server_says_that_it_has_namespaces(serve: Serve) -> None:
    server = await serve(actions=())
    async with research(server) as client:
        assert "namespaces" in (await client.server_info()).capabilities


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        ("*", "tools.shell", True),
        ("search.*", "search.web", True),
        ("search.*", "searching", False),
        ("search.web", "search.web2", False),
    ],
)
def test_a_pattern_is_a_name_or_its_beginning(pattern: str, name: str, allowed: bool) -> None:
    assert Namespace(actions=(pattern,)).allows(name) is allowed


async def test_namespaces_share_no_connection_to_other_services(serve: Serve) -> None:
    """A response that one of them has provoked is never read by another."""
    server = await serve(http_allow="127.0.0.0/8")
    flow = Workflow("flow")
    async with http_service() as service:
        service.handlers["/"] = as_json("here")
        flow.step("step", "http.request", {"url": service.url()})
        async with (
            AsyncClient(server.address, token="runner-research", namespace="research") as one,
            AsyncClient(server.address, token="runner-default", namespace="default") as other,
        ):
            for client in (one, other, one, other):
                await client.run(flow)
        assert service.connections == 2
