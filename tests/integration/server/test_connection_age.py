"""Connections that end by their age: new calls take new connections, and streams of the SDK continue."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Serve
from integration.server.raw_client import GUARD
from stepwave import AsyncClient, Workflow
from stepwave._client.streams import RunHandle
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.rpc.servicer import Context, Orchestrator

AGE = 0.2
RESUMED = 2


class Peers:
    """Notes from which connections streams are watched."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._watched = asyncio.Semaphore(0)

    def note(self, peer: str) -> None:
        """Note the connection of a stream."""
        self.seen.append(peer)
        self._watched.release()

    async def wait(self, count: int) -> None:
        """Wait until so many more streams have begun."""
        async with asyncio.timeout(GUARD):
            for _ in range(count):
                await self._watched.acquire()


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Peers:
    peers, watch = Peers(), Orchestrator.WatchRun

    async def noted(self: Orchestrator, request: pb.WatchRunRequest, context: Context) -> AsyncGenerator[bytes, None]:
        peers.note(context.peer())
        async for batch in watch(self, request, context):
            yield batch

    monkeypatch.setattr(Orchestrator, "WatchRun", noted)
    return peers


async def test_a_stream_of_the_sdk_continues_on_new_connections_without_a_gap(
    serve: Serve, controlled: ControlledActions, peers: Peers
) -> None:
    server = await serve(max_connection_age=AGE)
    flow = Workflow("aged")
    flow.step("a", "controlled")
    async with AsyncClient(server.address) as client, client.run(flow) as run:
        reading = asyncio.create_task(_numbers(run))
        await peers.wait(RESUMED)
        controlled.release("a")
        numbers = await reading
        assert run.result.succeeded
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(set(peers.seen)) == len(peers.seen)


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_without_the_setting_a_connection_has_no_age(serve: Serve, peers: Peers) -> None:
    server = await serve()
    async with AsyncClient(server.address) as client:
        for _ in range(2):
            run = await client.start(_echo())
            await client.wait(run.run_id)
    assert len(set(peers.seen)) == 1


async def _numbers(run: RunHandle) -> list[int]:
    """Read a run to its end, and return the numbers of its events."""
    return [event.sequence async for event in run if event.sequence]


def _echo() -> Workflow:
    flow = Workflow("echo")
    flow.step("a", "core.echo")
    return flow
