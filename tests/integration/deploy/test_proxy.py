"""The SDK through Envoy, over restarts and drains of the servers behind it."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from conformance.member_process import ProcessCluster
from integration.deploy.envoy import envoy
from integration.durable.server_process import ServerProcess
from stepwave import AnyEvent, AsyncClient, StepStarted, Workflow
from stepwave._client.streams import RunHandle
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer
from waiting import until

SECONDS = 60
"""Seconds within which a step starts. Servers restart meanwhile, perhaps on a busy machine."""


class Reading:
    """Reads a run to its end.

    Attributes:
        events: The numbered events so far.
    """

    def __init__(self, run: RunHandle) -> None:
        self.events: list[AnyEvent] = []
        self._grown = asyncio.Event()
        self._task = asyncio.create_task(self._read(run))
        self._task.add_done_callback(lambda _: self._grown.set())

    async def _read(self, run: RunHandle) -> None:
        async for event in run:
            if event.sequence:
                self.events.append(event)
                self._grown.set()

    async def wait_started(self, step_id: str) -> None:
        """Wait until a step has started."""
        async with asyncio.timeout(SECONDS):
            while not any(isinstance(event, StepStarted) and event.step_id == step_id for event in self.events):
                self._grown.clear()
                if self._task.done():
                    await self._task
                await self._grown.wait()

    async def numbers(self) -> list[int]:
        """Wait for the end, and return the numbers of the events."""
        async with asyncio.timeout(SECONDS):
            await self._task
        return [event.sequence for event in self.events]


def chain(length: int) -> Workflow:
    """Return a workflow of steps that the test completes, one after the other."""
    flow, last = Workflow("chain"), list[str]()
    for place in range(length):
        flow.step(f"s{place}", "core.wait", depends_on=last)
        last = [f"s{place}"]
    return flow


async def run_over(address: str, restarts: Sequence[Callable[[], Awaitable[object]]]) -> list[int]:
    """Run a workflow through a proxy, with a restart during each of its steps, and return the numbers of its events."""
    async with AsyncClient(address) as client, client.run(chain(len(restarts))) as run:
        reading = Reading(run)
        for place, restart in enumerate(restarts):
            await reading.wait_started(f"s{place}")
            await restart()
            await client.complete_step(run.run_id, f"s{place}", place)
        numbers = await reading.numbers()
        assert run.result.succeeded
    return numbers


@pytest.fixture
async def cluster(temporal_server: TemporalServer, tmp_path: Path) -> AsyncIterator[ProcessCluster]:
    """Two servers on Temporal, as processes."""
    cluster = ProcessCluster(tmp_path, temporal_server.address, f"temporal_wait={SECONDS}")
    try:
        async with asyncio.TaskGroup() as group:
            for server in cluster.servers:
                group.create_task(server.start())
        yield cluster
    finally:
        await cluster.kill()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["in order", "killed"])
async def test_a_stream_continues_over_rolling_restarts_of_all_servers(
    cluster: ProcessCluster, tmp_path: Path, how: signal.Signals
) -> None:
    async def restart(place: int) -> None:
        server = cluster.servers[place]
        await server.end(how)
        try:
            await server.start()
        except AssertionError:  # it did not start
            pytest.fail(server.errors())

    restarts = [partial(restart, place) for place in (0, 1, 0)]
    async with envoy(tmp_path, *(server.address for server in cluster.servers)) as address:
        numbers = await run_over(address, restarts)
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """One server with its journal on disk, as a process."""
    process = ServerProcess(tmp_path)
    await process.start()
    yield process
    process.kill()
    await process.wait_gone()


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_stream_continues_over_restarts_of_one_server_with_its_journal(
    process: ServerProcess, tmp_path: Path, how: str
) -> None:
    async def restart() -> None:
        if how == "stop":
            assert await process.stop() == 0
            await process.start()
        else:
            await process.restart()

    async with envoy(tmp_path, process.address) as address:
        numbers = await run_over(address, [restart, restart])
    assert numbers == list(range(1, len(numbers) + 1))


@asynccontextmanager
async def draining(server: Server) -> AsyncIterator[None]:
    """Drain a server while inside: it waits for a run."""
    async with AsyncClient(server.address) as client:
        run = await client.start(chain(1))
        drain = asyncio.create_task(server.drain())
        try:
            yield
        finally:
            await client.cancel(run.run_id)
            await drain


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    """Two servers that know nothing of each other."""
    settings = Settings(listen="127.0.0.1:0", journal="memory", entry_points=False)
    async with Server(settings) as first, Server(settings) as second:
        yield [first, second]


async def answers_while_draining(client: AsyncClient) -> set[bool]:
    """Return whether servers that answer drain: of either, if both get calls."""
    return {(await client.server_info()).draining for _ in range(20)}


async def test_a_server_that_drains_gets_no_new_calls_while_another_is_healthy(
    servers: list[Server], tmp_path: Path
) -> None:
    async def avoided() -> bool:
        return await answers_while_draining(client) == {False}

    async with (
        envoy(tmp_path, *(server.address for server in servers)) as address,
        AsyncClient(address) as client,
        draining(servers[0]),
    ):
        await until(avoided)
        assert await avoided()


async def test_servers_that_all_drain_still_answer(servers: list[Server], tmp_path: Path) -> None:
    async def known() -> bool:
        return await answers_while_draining(client) == {True}

    async with (
        envoy(tmp_path, *(server.address for server in servers)) as address,
        AsyncClient(address) as client,
        draining(servers[0]),
        draining(servers[1]),
    ):
        await until(known)
