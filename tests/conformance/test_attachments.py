"""Attached runs on a cluster: any server's streams hold a run, and a server that is gone holds none."""

import asyncio
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from grpc.aio import AioRpcError
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from conformance.member_process import ProcessCluster
from conformance.raw_servers import RawServers
from integration.server.build import end_of, flow, payload, state_of, step
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.engine.base import Submission
from stepwave_server.engine.temporal.presence import RELEASE, STOPPED, PresenceWorkflow
from stepwave_server.engine.temporal.starter import Starter
from temporal_server import TemporalServer
from waiting import until

WAITS = flow(step("first", "core.wait"), step("second", "core.wait", after=["first"]))
LONG = 60.0
"""A reconnect window that no test waits for."""


@pytest.fixture
def servers(temporal_server: TemporalServer) -> RawServers:
    return RawServers(temporal_server.address, temporal_heartbeat_timeout=2)


@pytest.fixture
async def clients(servers: RawServers) -> AsyncIterator[list[RawClient]]:
    async with servers.clients(2) as clients:
        yield clients


@pytest.fixture
def run_id() -> str:
    return f"run-{uuid4().hex[:8]}"


def outcome(events: list[RunEvent]) -> tuple[str, str]:
    """Return the final state of a run, and the message of its first failure."""
    result = end_of(events)
    return state_of(result.state), result.failures[0].message if result.failures else ""


async def signals_of(servers: RawServers, run_id: str) -> list[str]:
    """Return the kinds of the changes of holds that the workflow of a run was told."""
    history = await (await servers.workflow(run_id)).fetch_history()
    kinds = []
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            text = event.workflow_execution_signaled_event_attributes.input.payloads[0].data.decode()
            kinds += [kind for kind in ("attach", "release", "detach", "leave", "lose") if f'"{kind}"' in text]
    return kinds


async def was_told(servers: RawServers, run_id: str, *kinds: str) -> bool:
    """Return whether the workflow of a run was told these changes."""
    return await signals_of(servers, run_id) == list(kinds)


async def complete(client: RawClient, run_id: str, *step_ids: str) -> None:
    for step_id in step_ids:
        await client.stub.CompleteStep(pb.CompleteStepRequest(run_id=run_id, step_id=step_id, output=payload(1)))


async def test_a_run_without_a_window_is_cancelled_when_its_only_stream_leaves(
    clients: list[RawClient], run_id: str
) -> None:
    async with clients[0].execute(WAITS, run_id=run_id) as watch:
        await watch.until("step_started")
    assert outcome(await clients[1].events(run_id)) == ("cancelled", "cancelled: the caller went away")


async def test_a_run_is_cancelled_when_its_window_has_passed(clients: list[RawClient], run_id: str) -> None:
    async with clients[0].execute(WAITS, run_id=run_id, window=0.3) as watch:
        await watch.until("step_started")
    assert outcome(await clients[1].events(run_id)) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_run_whose_only_stream_stays_is_told_nothing(
    servers: RawServers, clients: list[RawClient], run_id: str
) -> None:
    async with clients[0].execute(WAITS, run_id=run_id, window=LONG) as watch:
        await watch.until("step_started")
        await complete(clients[0], run_id, "first", "second")
        assert outcome(await watch.rest()) == ("succeeded", "")
    assert await signals_of(servers, run_id) == []


async def test_a_stream_on_another_server_keeps_the_run(
    servers: RawServers, clients: list[RawClient], run_id: str
) -> None:
    async with clients[0].execute(WAITS, run_id=run_id) as first:
        await first.until("step_started")
        async with clients[1].watch(run_id, attach=True) as second:
            await second.until("step_started")
            await until(partial(was_told, servers, run_id, "attach"))
            first.call.cancel()
            await until(partial(was_told, servers, run_id, "attach", "release"))
            await complete(clients[0], run_id, "first", "second")
            assert outcome(await second.rest()) == ("succeeded", "")


async def test_a_caller_that_returns_to_another_server_within_the_window_keeps_the_run(
    servers: RawServers, clients: list[RawClient], run_id: str
) -> None:
    async with clients[0].execute(WAITS, run_id=run_id, window=LONG) as watch:
        await watch.until("step_started")
    await until(partial(was_told, servers, run_id, "release"))
    async with clients[1].watch(run_id, attach=True) as watch:
        await until(partial(was_told, servers, run_id, "release", "attach"))
        await complete(clients[1], run_id, "first", "second")
        assert outcome(await watch.rest()) == ("succeeded", "")


async def test_a_run_that_is_started_again_as_detached_needs_no_stream(
    servers: RawServers, clients: list[RawClient], run_id: str
) -> None:
    async with clients[0].execute(WAITS, run_id=run_id) as watch:
        await watch.until("step_started")
        await clients[1].start(WAITS, run_id=run_id)
    async with clients[1].watch(run_id, attach=True) as watch:
        await complete(clients[1], run_id, "first", "second")
        assert outcome(await watch.rest()) == ("succeeded", "")
    assert await signals_of(servers, run_id) == ["detach"]


async def test_a_caller_that_leaves_during_the_start_holds_no_run(
    servers: RawServers, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, proceed = asyncio.Event(), asyncio.Event()
    start = Starter.start

    async def start_slowly(starter: Starter, submission: Submission) -> str:
        begun.set()
        await proceed.wait()
        return await start(starter, submission)

    monkeypatch.setattr(Starter, "start", start_slowly)
    async with servers.server() as (_, client):
        async with client.execute(WAITS, run_id=run_id, window=0.1):
            await begun.wait()
        proceed.set()

        async def started() -> bool:
            try:
                return bool(await client.get(run_id))
            except AioRpcError:
                return False

        await until(started)
        assert outcome(await client.events(run_id)) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_run_that_is_found_while_it_is_started_is_watched_to_its_end(
    servers: RawServers, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporal has the run. The call that starts it on this server does not know that yet."""
    found = asyncio.Event()
    start = Starter.start

    async def start_until_found(starter: Starter, submission: Submission) -> str:
        execution = await start(starter, submission)
        await found.wait()
        return execution

    async def exists(client: RawClient) -> bool:
        try:
            return bool(await client.get(run_id))
        except AioRpcError:
            return False

    monkeypatch.setattr(Starter, "start", start_until_found)
    async with servers.server() as (_, client):
        starting = asyncio.create_task(client.start(WAITS, run_id=run_id))
        await until(partial(exists, client))
        async with client.watch(run_id) as watch:
            await watch.until("step_started")
            found.set()
            await starting
            await complete(client, run_id, "first", "second")
            assert outcome(await watch.rest()) == ("succeeded", "")


async def test_a_server_that_stops_is_no_loss_within_the_window(
    servers: RawServers, clients: list[RawClient], run_id: str
) -> None:
    async with servers.server() as (_, client):
        stream = client.execute(WAITS, run_id=run_id, window=LONG)
        await stream.until("step_started")
    await until(partial(was_told, servers, run_id, "leave"), seconds=60)  # lists of Temporal may be late
    async with clients[1].watch(run_id, attach=True) as watch:
        await complete(clients[1], run_id, "first", "second")
        assert outcome(await watch.rest()) == ("succeeded", "")


async def test_a_server_that_stops_before_its_presence_has_begun_stops_in_order(
    servers: RawServers, clients: list[RawClient]
) -> None:
    queue = servers.settings.temporal_task_queue
    temporal = await Client.connect(servers.settings.temporal_address)
    presence = await temporal.start_workflow(
        PresenceWorkflow.run, args=[queue, "brief", LONG], id=f"presence of {queue}", task_queue=queue
    )
    await presence.signal(STOPPED)

    async def released() -> bool:
        scheduled = [
            event.activity_task_scheduled_event_attributes
            for event in (await presence.fetch_history()).events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
        ]
        kinds = [it.input.payloads[1].data for it in scheduled if it.activity_type.name == RELEASE]
        assert kinds in ([], [b'"leave"'])
        return bool(kinds)

    await until(released)
    await presence.terminate()


async def test_a_run_whose_caller_never_returns_is_cancelled_after_its_server_stops(
    servers: RawServers, clients: list[RawClient], run_id: str
) -> None:
    async with servers.server() as (_, client):
        stream = client.execute(WAITS, run_id=run_id, window=0.3)
        await stream.until("step_started")
    assert outcome(await clients[1].events(run_id)) == ("cancelled", "cancelled: the caller did not come back")


@pytest.mark.parametrize("window", [0.0, 0.3])
async def test_a_run_is_cancelled_when_the_server_that_held_it_was_killed(
    temporal_server: TemporalServer, tmp_path: Path, run_id: str, window: float
) -> None:
    cluster = ProcessCluster(tmp_path, temporal_server.address, "temporal_heartbeat_timeout=2")
    killed, other = cluster.servers
    try:
        await killed.start()
        client = RawClient(killed.address)
        stream = client.execute(WAITS, run_id=run_id, window=window)
        await stream.until("step_started")
        await killed.end(signal.SIGKILL)
        await client.close()
        await other.start()  # it starts when no server is left
        client = RawClient(other.address)
        assert outcome(await client.events(run_id)) == ("cancelled", "cancelled: the caller did not come back")
        await client.close()
    finally:
        await cluster.kill()
