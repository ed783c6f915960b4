"""A run on Temporal, over gRPC."""

import pytest
from temporalio.client import Client

from stepwave import AsyncClient, Workflow, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer


@action("add")
async def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def settings(temporal_server: TemporalServer) -> Settings:
    return Settings(
        listen="127.0.0.1:0", engine="temporal", temporal_address=temporal_server.address, entry_points=False
    )


async def test_a_run_on_temporal_gives_its_outputs(settings: Settings) -> None:
    flow = Workflow("sums")
    first = flow.step("first", "add", {"a": 1, "b": 2})
    flow.step("second", "add", {"a": first.output, "b": 4})
    async with Server(settings, actions=[add]) as server, AsyncClient(server.address) as client:
        result = await client.run(flow)
    assert result.outputs == {"second": 7}


async def test_the_server_that_starts_a_run_decides_first(temporal_server: TemporalServer, settings: Settings) -> None:
    flow = Workflow("sum")
    flow.step("first", "add", {"a": 1, "b": 2})
    async with Server(settings, actions=[add]) as server, AsyncClient(server.address) as client:
        result = await client.run(flow)
    temporal = await Client.connect(temporal_server.address, namespace=settings.temporal_namespace)
    history = await temporal.get_workflow_handle(result.run_id).fetch_history()
    assert history.events[0].workflow_execution_started_event_attributes.eager_execution_accepted
