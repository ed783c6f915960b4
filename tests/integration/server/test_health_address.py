"""Health checks at an address of their own."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.durable.server_process import free_address
from integration.server.build import flow, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.rpc.health import LIVENESS
from stepwave_server.rpc.listening import ListenError

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)

State = health_pb2.HealthCheckResponse.ServingStatus


@pytest.fixture
def address() -> str:
    return free_address()


@pytest.fixture
async def server(serve: Serve, address: str) -> Server:
    return await serve(health=address)


@pytest.fixture
async def beside(server: Server, address: str) -> AsyncIterator[RawClient]:
    """Return a client of the address for health checks."""
    client = RawClient(address)
    yield client
    await client.close()


async def _health(client: RawClient, service: str = "") -> str:
    request = health_pb2.HealthCheckRequest(service=service)
    name: str = State.Name((await health_pb2_grpc.HealthStub(client.channel).Check(request)).status)
    return name


async def test_it_tells_of_a_server_what_the_server_tells(
    server: Server, client: RawClient, beside: RawClient, controlled: ControlledActions
) -> None:
    assert (await _health(beside), await _health(beside, LIVENESS)) == ("SERVING", "SERVING")
    await client.start(flow(step("a", "controlled")), run_id="live")
    await controlled.wait_started("a")
    drain = asyncio.create_task(server.drain())
    await client.begins_to_drain()
    assert (await _health(beside), await _health(beside, LIVENESS)) == ("NOT_SERVING", "SERVING")
    controlled.release("a")
    await drain


async def test_nothing_else_is_served_there(beside: RawClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await beside.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_address_that_is_in_use_keeps_the_server_from_starting(
    serve: Serve, connect: Connect, server: Server, address: str
) -> None:
    with pytest.raises(ListenError, match="is it in use"):
        await serve(health=address)
    assert await _health(connect(server)) == "SERVING"


@pytest.mark.usefixtures("serve")
async def test_a_malformed_address_keeps_the_server_from_starting() -> None:
    settings = Settings(listen="127.0.0.1:0", health="nowhere", entry_points=False)
    with pytest.raises(ListenError, match="'nowhere' is not an address"):
        await Server(settings).start()
