"""Lists of runs on Temporal, by its visibility and by what servers know before it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from uuid import uuid4

import pytest
from temporalio.client import Client

import stepwave_server.engine.temporal.run_list as run_list_module
import stepwave_server.temporal as temporal_module
from conformance.clusters import settings_for
from stepwave import AsyncClient, NotFound, Run, State, Workflow, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer
from waiting import until

LISTED = ["run_id", "workflow_name", "state", "labels", "counts", "last_sequence"]


@action("fails")
async def fails() -> None:
    raise ValueError("as asked")


@pytest.fixture
def settings(temporal_server: TemporalServer) -> Settings:
    return settings_for(temporal_server)


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[AsyncClient]:
    async with Server(settings, actions=[fails]) as server, AsyncClient(server.address) as client:
        yield client


def flow(name: str, call: str = "core.echo", **labels: str) -> Workflow:
    workflow = Workflow(name, labels=labels)
    workflow.step("only", call)
    return workflow


def new_id(prefix: str = "run") -> str:
    return f"{prefix}-{uuid4().hex[:10]}"


async def ids(client: AsyncClient, **criteria: object) -> list[str]:
    return [run.run_id async for run in client.runs(**criteria)]  # type: ignore[arg-type]  # the filters of a test


async def has(client: AsyncClient, expected: list[str], **criteria: object) -> bool:
    return await ids(client, **criteria) == expected


async def test_a_run_is_in_the_list_of_its_server_at_once(client: AsyncClient) -> None:
    started = [(await client.start(flow("waits", "core.wait"), run_id=new_id())).run_id for _ in range(3)]
    assert await ids(client) == started[::-1]


async def test_another_server_lists_ended_runs_as_the_first_one_does(client: AsyncClient, settings: Settings) -> None:
    one, two = new_id(), new_id()
    await client.run(flow("good", team="red"), run_id=one)
    await client.run(flow("bad", "fails"), run_id=two, check=False)
    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(has, other, [two, one], states=["failed", "succeeded"]))
        theirs = [run async for run in other.runs()]
    assert theirs == [await client.get(two), await client.get(one)]
    assert [run.state for run in theirs] == [State.FAILED, State.SUCCEEDED]


async def test_a_list_of_ended_runs_reads_no_history(
    client: AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = new_id()
    await client.run(flow("good"), run_id=run_id)
    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(has, other, [run_id], states=["succeeded"]))

        async def refuse(*args: object) -> None:
            raise AssertionError("a history was read")

        monkeypatch.setattr(server.engine, "info", refuse)
        monkeypatch.setattr(server.engine._list, "_info", refuse)  # type: ignore[attr-defined]  # of this engine
        assert await ids(other) == [run_id]


async def test_runs_under_way_have_their_state_on_every_server(client: AsyncClient, settings: Settings) -> None:
    workflow = flow("waits", "core.echo")
    workflow.step("more", "core.wait", depends_on=["only"])
    run = await client.start(workflow, run_id=new_id())

    async def waits(client: AsyncClient) -> bool:
        return [listed.counts.succeeded async for listed in client.runs(states=["running"])] == [1]

    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(waits, other))
        found = await client.get(run.run_id)
        assert [listed async for listed in other.runs()] == [replace(found, waiting=())]
        await client.cancel(run.run_id)
        await client.wait(run.run_id, check=False)
        await until(partial(has, other, [run.run_id], states=["cancelled"]))


async def test_runs_are_listed_by_name_prefix_label_and_time(client: AsyncClient, settings: Settings) -> None:
    prefix = new_id("p")
    one, two, three = f"{prefix}-1", f"{prefix}-2", new_id("q")
    await client.run(flow("first", team="red", tier="1"), run_id=one)
    await client.run(flow("second", team="red"), run_id=two)
    await client.run(flow("second", team="blue", note='it\'s "odd"'), run_id=three)
    accepted = (await client.get(two)).create_time
    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(has, other, [three, two, one], states=["succeeded"]))
        for asked in (client, other):
            assert await ids(asked, workflow="second") == [three, two]
            assert await ids(asked, prefix=prefix) == [two, one]
            assert await ids(asked, labels={"team": "red"}) == [two, one]
            assert await ids(asked, labels={"team": "red", "tier": "1"}) == [one]
            assert await ids(asked, labels={"note": 'it\'s "odd"'}) == [three]
            assert await ids(asked, labels={"note": "other"}) == []
            assert await ids(asked, since=accepted) == [three, two]
            assert await ids(asked, until=accepted) == [one]
            assert await ids(asked, since=accepted, until=accepted + timedelta(microseconds=1)) == [two]
            assert await ids(asked, prefix="no'such") == []
            assert await ids(asked, workflow="no'such") == []


async def test_a_run_with_many_labels_is_found_by_each(client: AsyncClient) -> None:
    labels = {f"key{number}": "v" * 100 for number in range(40)}
    run_id = new_id()
    await client.run(flow("labelled", **labels), run_id=run_id)
    for key, value in labels.items():
        assert await ids(client, labels={key: value}, limit=5) == [run_id]


async def test_pages_go_through_all_windows_of_time(
    client: AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = [new_id() for _ in range(25)]
    for run_id in started:
        await client.start(flow("many"), run_id=run_id)
    monkeypatch.setattr(run_list_module, "MAX_WINDOW", 7)
    monkeypatch.setattr("stepwave._client.queries._RUNS_PER_PAGE", 4)
    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(has, other, started[::-1]))
        await until(partial(has, other, started[::-1], states=["succeeded"]))


async def test_runs_of_another_task_queue_are_not_listed(client: AsyncClient, temporal_server: TemporalServer) -> None:
    run_id = new_id()
    await client.run(flow("good"), run_id=run_id)
    async with Server(settings_for(temporal_server)) as server, AsyncClient(server.address) as other:
        await other.run(flow("good"))
        assert run_id not in await ids(other)


async def test_a_run_whose_workflow_was_terminated_is_listed_as_failed(client: AsyncClient, settings: Settings) -> None:
    run = await client.start(flow("waits", "core.wait"), run_id=new_id())
    temporal = await Client.connect(settings.temporal_address)
    await temporal.get_workflow_handle(run.run_id).terminate("as asked")
    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(has, other, [run.run_id], states=["failed"]))
        assert await has(other, [], states=["running", "succeeded"])


async def test_a_deleted_run_is_gone_on_every_server(client: AsyncClient, settings: Settings) -> None:
    run_id = new_id()
    await client.run(flow("good"), run_id=run_id)
    async with Server(settings) as server, AsyncClient(server.address) as other:
        assert (await other.get(run_id)).state is State.SUCCEEDED
        await client.delete(run_id)
        assert await ids(client) == []
        with pytest.raises(NotFound):
            await client.get(run_id)

        async def is_gone() -> bool:
            try:
                await other.get(run_id)
            except NotFound:
                return True
            return False

        await until(is_gone)
        await until(partial(has, other, []))


async def test_the_id_of_a_deleted_run_is_free(client: AsyncClient) -> None:
    run_id = new_id()
    await client.run(flow("good"), run_id=run_id)
    await client.delete(run_id)
    await client.run(flow("other"), run_id=run_id)
    assert (await client.get(run_id)).workflow_name == "other"


async def test_a_run_that_ended_days_ago_is_shown(
    client: AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    run_id = new_id()
    await client.run(flow("good"), run_id=run_id)
    later = SimpleNamespace(time_ns=lambda: time.time_ns() + 10 * 86_400 * 10**9, monotonic=time.monotonic)
    monkeypatch.setattr(temporal_module, "time", later)
    async with Server(settings) as server, AsyncClient(server.address) as other:
        assert (await other.get(run_id)).state is State.SUCCEEDED
        assert (await other.result(run_id)).outputs == {"only": None}
        await until(partial(has, other, [run_id]))


async def test_every_run_has_the_same_time_of_acceptance_everywhere(client: AsyncClient, settings: Settings) -> None:
    run_id = new_id()
    await client.run(flow("good"), run_id=run_id)
    async with Server(settings) as server, AsyncClient(server.address) as other:
        await until(partial(has, other, [run_id], states=["succeeded"]))
        listed: list[Run] = [run async for run in other.runs()]
        shown = await asyncio.gather(client.get(run_id), other.get(run_id))
    assert len({run.create_time for run in [*listed, *shown]}) == 1
