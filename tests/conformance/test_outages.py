"""Temporal is lost in the middle of runs: calls fail soon, health checks say so, and streams resume by themselves."""

import asyncio
import time
from collections.abc import AsyncIterator

import grpc
import pytest

from conformance.raw_servers import RawServers
from integration.durable.health import wait_for_health
from integration.durable.resuming_watchers import complete as complete_at_last
from integration.server.build import check_sequences, end_of, flow, payload, state_of, step
from integration.server.raw_client import RawClient, refusal
from stepwave import action
from stepwave.v1 import orchestrator_pb2 as pb
from temporal_server import TemporalServer

WAITS = flow(step("first", "core.wait"), step("second", "core.wait", after=["first"]))

A_FEW_SECONDS = 8.0
"""Seconds within which a call fails. Under load it may take some more than the bound of the server."""


@pytest.fixture
async def client(durable_temporal: TemporalServer) -> AsyncIterator[RawClient]:
    async with RawServers(durable_temporal.address, heartbeat=0.2).server() as (_, client):
        yield client


async def complete(client: RawClient, step_id: str) -> None:
    await client.stub.CompleteStep(pb.CompleteStepRequest(run_id="run", step_id=step_id, output=payload(1)))


async def test_a_stream_goes_on_when_temporal_is_back(durable_temporal: TemporalServer, client: RawClient) -> None:
    async with client.execute(WAITS, run_id="run") as watch:
        await watch.until("step_started", "first")
        durable_temporal.kill()
        await wait_for_health(client, "NOT_SERVING")
        seen = watch.messages
        while watch.messages < seen + 2:
            assert await watch.message() == []  # heartbeats
        durable_temporal.start()
        await wait_for_health(client, "SERVING")
        for step_id in ("first", "second"):  # again, if no server continues the run at once
            await complete_at_last(client.channel, "run", step_id)
        events = await watch.rest()
    check_sequences(events)
    assert state_of(end_of(events).state) == "succeeded"


async def test_calls_fail_soon_while_temporal_is_lost(durable_temporal: TemporalServer, client: RawClient) -> None:
    await client.start(WAITS, run_id="run")
    durable_temporal.kill()
    calls = (
        lambda: client.get("run"),
        lambda: client.start(WAITS, run_id="other"),
        lambda: client.cancel("run"),
        lambda: complete(client, "first"),
        lambda: client.events("run"),
        lambda: client.result("run"),
        lambda: client.delete("run"),
    )
    for call in calls:
        begun = time.monotonic()
        refused = await refusal(call())
        assert time.monotonic() - begun < A_FEW_SECONDS
        assert refused.code == grpc.StatusCode.UNAVAILABLE
        assert f"Temporal at {durable_temporal.address} does not answer" in refused.message
    durable_temporal.start()
    await wait_for_health(client, "SERVING")
    assert state_of((await client.cancel("run")).state) == "cancelled"


async def test_a_server_stops_soon_while_temporal_is_lost(durable_temporal: TemporalServer) -> None:
    started = asyncio.Event()

    @action
    async def holds() -> None:
        started.set()
        await asyncio.Event().wait()

    async with RawServers(durable_temporal.address).server(holds) as (_, client):
        stream = client.execute(flow(step("only", "holds")), run_id="run")
        await stream.until("step_started")
        await started.wait()
        durable_temporal.kill()
        await wait_for_health(client, "NOT_SERVING")
        begun = time.monotonic()
    assert time.monotonic() - begun < A_FEW_SECONDS
