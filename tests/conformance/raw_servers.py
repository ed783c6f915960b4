"""Servers of one cluster on Temporal, each in the event loop of the test with a client of the bare contract."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle

from integration.server.raw_client import RawClient
from stepwave_server.app import Server
from stepwave_server.config import Settings

__all__ = ["RawServers"]


class RawServers:
    """Servers that share a task queue of their own, for as long as the block.

    Attributes:
        settings: Their settings.

    Args:
        address: The address of Temporal.
        settings: Settings beside the usual ones.
    """

    def __init__(self, address: str, **settings: object) -> None:
        usual = {"listen": "127.0.0.1:0", "engine": "temporal", "temporal_address": address, "entry_points": False}
        own = {"temporal_task_queue": f"test-{uuid4().hex[:8]}", "drain_timeout": 0.0, **settings}
        self.settings = Settings.model_validate({**usual, **own})

    @asynccontextmanager
    async def server(self, *actions: object) -> AsyncIterator[tuple[Server, RawClient]]:
        """Run a server that hosts some actions."""
        async with Server(self.settings, actions=actions) as server:
            client = RawClient(server.address)
            try:
                yield server, client
            finally:
                await client.close()

    @asynccontextmanager
    async def clients(self, count: int, *actions: object) -> AsyncIterator[list[RawClient]]:
        """Run servers, and give a client of each."""
        async with AsyncExitStack() as stack:
            yield [(await stack.enter_async_context(self.server(*actions)))[1] for _ in range(count)]

    async def workflow(self, run_id: str) -> WorkflowHandle[object, object]:
        """Return the workflow of a run, as an operator of Temporal has it."""
        client = await Client.connect(self.settings.temporal_address)
        return client.get_workflow_handle(run_id)
