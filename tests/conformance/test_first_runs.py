"""A run on Temporal, over gRPC."""

from stepwave import AsyncClient, Workflow, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer


@action("add")
async def add(a: int, b: int) -> int:
    return a + b


async def test_a_run_on_temporal_gives_its_outputs(temporal_server: TemporalServer) -> None:
    settings = Settings(
        listen="127.0.0.1:0", engine="temporal", temporal_address=temporal_server.address, entry_points=False
    )
    flow = Workflow("sums")
    first = flow.step("first", "add", {"a": 1, "b": 2})
    flow.step("second", "add", {"a": first.output, "b": 4})
    async with Server(settings, actions=[add]) as server, AsyncClient(server.address) as client:
        result = await client.run(flow)
    assert result.outputs == {"second": 7}
