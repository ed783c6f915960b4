"""The catalog of the actions of a cluster, as each of its servers knows it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

import stepwave_server.engine.temporal.catalog_workflow as catalog_workflow
from conformance.clusters import settings_for
from stepwave import AsyncClient, Context, InvalidWorkflow, StepwaveError, Workflow, action
from stepwave._actions.action import name_of
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.engine.temporal.catalog_workflow import catalog_id
from temporal_server import TemporalServer
from waiting import accepts, until


@action("sum.ints")
async def sum_ints(a: int, b: int = 0) -> int:
    """Add two numbers."""
    return a + b


@action("say.hello")
async def say_hello(name: str) -> str:
    """Greet someone."""
    return f"hello {name}"


@action("plan.sums")
async def plan_sums(context: Context, a: str) -> None:
    """Add a step of an action that another host has."""
    steps = Workflow("more")
    steps.step("sum", "sum.ints", {"a": a})
    await context.add_steps(steps, seal=True)


@pytest.fixture
def settings(temporal_server: TemporalServer) -> Settings:
    return settings_for(temporal_server)


@asynccontextmanager
async def cluster(settings: Settings, *hosted: Callable[..., object]) -> AsyncIterator[AsyncClient]:
    """Run a server that has other actions than the one that the client calls. The client's server knows them."""
    async with (
        Server(settings, actions=hosted),
        Server(settings) as server,
        AsyncClient(server.address) as client,
    ):
        for target in hosted:
            await until(partial(knows, client, name_of(target)))
        yield client


async def knows(client: AsyncClient, name: str) -> bool:
    """Return whether the server of a client knows an action."""
    return name in {found.name for found in await client.actions()}


async def test_a_server_lists_the_actions_of_another_host(settings: Settings) -> None:
    async with cluster(settings, sum_ints) as client:
        found = next(it for it in await client.actions() if it.name == "sum.ints")
    assert (found.description, found.streaming) == ("Add two numbers.", False)
    assert found.source.endswith(":sum_ints")


async def test_a_step_runs_on_the_host_that_has_its_action(settings: Settings) -> None:
    flow = Workflow("sums")
    flow.step("only", "sum.ints", {"a": 1, "b": 2})
    async with cluster(settings, sum_ints) as client:
        assert (await client.run(flow)).outputs == {"only": 3}


async def test_a_literal_input_is_checked_as_on_the_host(settings: Settings) -> None:
    flow = Workflow("sums")
    flow.step("only", "sum.ints", {"a": "x", "bb": 2})
    async with cluster(settings, sum_ints) as client, AsyncClient.local(actions=[sum_ints]) as local:
        with pytest.raises(InvalidWorkflow) as refused:
            await client.start(flow)
        with pytest.raises(InvalidWorkflow) as refused_locally:
            await local.start(flow)
    assert refused.value.violations == refused_locally.value.violations


async def test_an_unknown_action_is_refused_with_a_name_that_another_host_has(settings: Settings) -> None:
    flow = Workflow("greets")
    flow.step("only", "say.helo", {"name": "you"})
    async with cluster(settings, say_hello) as client:
        with pytest.raises(InvalidWorkflow) as refused:
            await client.start(flow)
    assert [violation.description for violation in refused.value.violations] == [
        'unknown action "say.helo"; did you mean "say.hello"?'
    ]
    assert refused.value.violations[0].reason == "UNKNOWN_ACTION"
    serve, host = "stepwave serve --actions MODULE", "stepwave host MODULE"
    assert refused.value.hint == f"start a server or a host that has it: {serve}, or {host}"


async def test_an_action_of_another_sdk_is_accepted_while_its_task_queue_is_polled(settings: Settings) -> None:
    @activity.defn(name="double")
    async def double(value: int, step: dict[str, Any]) -> int:
        return 2 * value

    flow = Workflow("doubles")
    flow.step("only", "double", 4)
    temporal = await Client.connect(settings.temporal_address)
    queue = f"{settings.temporal_task_queue}:double"
    async with Server(settings) as server, AsyncClient(server.address) as client:
        with pytest.raises(InvalidWorkflow, match='unknown action "double"'):
            await client.start(flow)
        async with Worker(temporal, task_queue=queue, activities=[double]):
            await until(partial(accepts, client, flow))
            assert (await client.run(flow)).outputs == {"only": 8}


async def test_steps_that_an_action_adds_are_checked_against_all_hosts(settings: Settings) -> None:
    good, bad = Workflow("plans"), Workflow("plans")
    good.step("plan", "plan.sums", {"a": "4"})
    bad.step("plan", "plan.sums", {"a": "x"})
    async with cluster(settings, sum_ints) as client, Server(settings, actions=[plan_sums]):
        await until(partial(knows, client, "plan.sums"))
        assert (await client.run(good, open=True)).outputs == {"plan": None, "sum": 4}
        refused = await client.run(bad, open=True, check=False)
    assert "a: input should be a valid integer" in refused.failures[0].message


async def test_the_catalog_is_no_run(settings: Settings) -> None:
    async with cluster(settings, sum_ints) as client:
        with pytest.raises(StepwaveError, match="malformed run id"):
            await client.get(catalog_id(settings.temporal_task_queue))


async def test_a_nested_workflow_is_checked_against_all_hosts(settings: Settings) -> None:
    given = json.dumps({"a": 2, "b": 3})
    nested: dict[str, object] = {
        "name": "sums",
        "steps": [{"id": "sum", "action": "sum.ints", "input": {"json": given}}],
    }
    flow = Workflow("nests")
    flow.step("sub", "core.workflow", {"workflow": nested})  # type: ignore[dict-item]  # it is JSON
    async with cluster(settings, sum_ints) as client:
        assert (await client.run(flow)).outputs == {"sub": {"sum": 5}}


async def test_a_named_workflow_may_have_actions_whose_hosts_start_later(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "greets.yaml").write_text("name: greets\nsteps: [{id: only, action: say.hello, input: {name: you}}]\n")
    async with (
        Server(settings.model_copy(update={"workflows": tmp_path})) as server,
        AsyncClient(server.address) as client,
    ):
        with pytest.raises(InvalidWorkflow, match="unknown action"):
            await client.start("greets")
        async with Server(settings, actions=[say_hello]):
            await until(partial(knows, client, "say.hello"))
            assert (await client.run("greets")).outputs == {"only": "hello you"}


async def test_the_catalog_survives_a_new_history(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_workflow, "MAX_SIGNALS", 1)
    temporal = await Client.connect(settings.temporal_address)
    handle = temporal.get_workflow_handle(catalog_id(settings.temporal_task_queue))
    async with cluster(settings, sum_ints) as client:
        first = (await handle.describe()).run_id
        async with Server(settings, actions=[say_hello]):
            await until(partial(knows, client, "say.hello"))

            async def is_new() -> bool:
                return (await handle.describe()).run_id != first

            await until(is_new)
        assert await knows(client, "sum.ints")
        assert await knows(client, "say.hello")


async def test_an_action_that_no_host_announces_any_more_is_forgotten(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(settings, sum_ints) as client:
        monkeypatch.setattr(catalog_workflow, "KEEP_SECONDS", -1)
        async with Server(settings, actions=[say_hello]):
            await until(partial(knows, client, "say.hello"))
        assert not await knows(client, "sum.ints")


async def test_the_actions_are_known_after_all_servers_have_stopped(settings: Settings) -> None:
    async with cluster(settings, sum_ints):
        pass
    async with Server(settings) as server, AsyncClient(server.address) as client:
        assert await knows(client, "sum.ints")
