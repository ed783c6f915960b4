"""`stepwave host --health`: the health of a host says whether it takes attempts."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from conformance.processes import Cluster
from integration.cli.shell import Shell
from integration.durable.server_process import free_address
from integration.server.raw_client import GUARD
from stepwave import AsyncClient, Workflow
from stepwave_server.rpc.health import LIVENESS
from temporal_server import TemporalServer

State = health_pb2.HealthCheckResponse.ServingStatus


class Watch:
    """Watches the health of a host.

    Args:
        channel: A channel to the host.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.HealthStub(channel)
        self._states = self._stub.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)

    async def until(self, state: str) -> None:
        """Wait until the host reports a state."""
        async with asyncio.timeout(GUARD):
            while State.Name((await self._states.read()).status) != state:
                pass

    async def live(self) -> bool:
        """Return whether the host reports that it is alive."""
        answer = await self._stub.Check(health_pb2.HealthCheckRequest(service=LIVENESS))
        return bool(answer.status == State.SERVING)


@asynccontextmanager
async def watching(address: str) -> AsyncIterator[Watch]:
    """Watch the host at an address."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Watch(channel)


async def test_a_host_is_healthy_while_it_takes_attempts_and_alive_while_it_drains(cluster: Cluster) -> None:
    flow, address = Workflow("holding"), free_address()
    flow.step("only", "hold")
    with cluster.serving() as (server, _), cluster.hosting("--health", address) as host:
        async with AsyncClient(server) as client, watching(address) as watch:
            await watch.until("SERVING")
            run = await client.start(flow)
            host.wait_for_error("holding")
            host.process.send_signal(signal.SIGTERM)
            await watch.until("NOT_SERVING")
            assert await watch.live()
            (cluster.folder / "go").write_text("")
            assert await asyncio.to_thread(lambda: host.end()[0]) == 0
            await client.wait(run.run_id)


async def test_a_host_that_waits_for_temporal_is_alive_and_not_healthy(tmp_path: Path) -> None:
    address = free_address()
    with TemporalServer() as temporal:
        temporal.kill()
        cluster = Cluster(temporal.address, "waited-for", tmp_path)
        with cluster.start("host", "tools", "--temporal-wait", "1m", "--health", address) as host:
            host.wait_for_error("waiting")
            async with watching(address) as watch:
                await watch.until("NOT_SERVING")
                assert await watch.live()
                temporal.start()
                await watch.until("SERVING")


def test_the_command_that_checks_servers_checks_hosts(cluster: Cluster) -> None:
    address = free_address()
    with cluster.hosting("--health", address):
        done = Shell(address).run("health")
    assert (done.returncode, done.stdout) == (0, "serving\n")


@pytest.mark.parametrize(
    ("address", "message"),
    [("nowhere", "'nowhere' is not an address"), ("192.0.2.1:1", "cannot listen at 192.0.2.1:1")],
)
def test_an_address_that_cannot_be_served_is_refused(cluster: Cluster, address: str, message: str) -> None:
    done = cluster.run("host", "tools", "--health", address)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
