"""A client moves between the servers of one cluster in the middle of a stream."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from uuid import uuid4

import grpc
import pytest
from grpc.aio import AioRpcError

from conformance.raw_servers import RawServers
from integration.server.build import check_sequences, end_of, flow, payload, state_of, step
from integration.server.raw_client import RawClient, Refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent
from temporal_server import TemporalServer

STEPS = 6
CHAIN = flow(
    step("s0", "core.wait"), *(step(f"s{place}", "core.wait", after=[f"s{place - 1}"]) for place in range(1, STEPS))
)


@pytest.fixture
async def clients(temporal_server: TemporalServer) -> AsyncIterator[list[RawClient]]:
    async with RawServers(temporal_server.address).clients(2) as clients:
        yield clients


@pytest.fixture
def run_id() -> str:
    return f"run-{uuid4().hex[:8]}"


def numbered(events: Iterable[RunEvent]) -> list[RunEvent]:
    """Return the events without those that are transient."""
    return [event for event in events if event.sequence]


async def complete(client: RawClient, run_id: str, step_id: str) -> None:
    await client.stub.CompleteStep(pb.CompleteStepRequest(run_id=run_id, step_id=step_id, output=payload(1)))


async def test_a_stream_continues_on_another_server(clients: list[RawClient], run_id: str) -> None:
    await clients[0].start(CHAIN, run_id=run_id)
    seen: list[RunEvent] = []
    for place in range(STEPS):
        client, other = clients[place % 2], clients[(place + 1) % 2]
        async with client.watch(run_id, after=seen[-1].sequence if seen else 0) as watch:
            await watch.until("step_started", f"s{place}")
            seen += numbered(watch.seen)
        await complete(other, run_id, f"s{place}")
    async with clients[STEPS % 2].watch(run_id, after=seen[-1].sequence if seen else 0) as watch:
        seen += numbered(await watch.rest())
    check_sequences(seen)
    assert state_of(end_of(seen).state) == "succeeded"
    for client in clients:
        assert numbered(await client.events(run_id)) == seen


async def test_a_number_that_this_server_has_not_read_yet_is_waited_for(clients: list[RawClient], run_id: str) -> None:
    await clients[0].start(CHAIN, run_id=run_id)
    async with clients[0].watch(run_id) as first:
        for place in range(STEPS - 1):
            await first.until("step_started", f"s{place}")
            await complete(clients[0], run_id, f"s{place}")
            async with asyncio.timeout(20), clients[1].watch(run_id, after=first.position) as second:
                await second.message()
                assert second.position >= first.position
    await clients[1].cancel(run_id)


async def test_a_number_beyond_the_end_is_refused_by_every_server(clients: list[RawClient], run_id: str) -> None:
    await clients[0].start(CHAIN, run_id=run_id)
    for client in clients:
        with pytest.raises(AioRpcError) as refused:
            await client.watch(run_id, after=1_000).message()
        assert Refusal(refused.value).code == grpc.StatusCode.OUT_OF_RANGE
    await clients[1].cancel(run_id)
    for client in clients:
        with pytest.raises(AioRpcError) as refused:
            await client.watch(run_id, after=1_000).message()
        assert Refusal(refused.value).code == grpc.StatusCode.OUT_OF_RANGE
