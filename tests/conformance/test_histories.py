"""The histories that a server reads, and for how long."""

import asyncio
import time

from temporalio.client import Client

from conformance.raw_servers import RawServers
from integration.server.build import flow, step
from stepwave_server.core.info import RunKey
from stepwave_server.engine.temporal.connection import Connection
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.histories import Histories
from stepwave_server.journal import MemoryJournal
from temporal_server import TemporalServer


async def no_preparation(_: FollowedRun) -> None:
    """Do nothing before outcomes."""


async def _forget_idle_runs_all_the_time(histories: Histories) -> None:
    while True:
        histories.forget_idle()
        await asyncio.sleep(0)


async def test_a_run_does_not_count_as_idle_before_its_first_use_has_begun(temporal_server: TemporalServer) -> None:
    servers = RawServers(temporal_server.address)
    async with servers.server() as (_, client):
        await client.start(flow(step("only", "core.wait")), run_id=servers.settings.temporal_task_queue)
        temporal = await Client.connect(temporal_server.address)
        histories = Histories(
            temporal,
            runs={},
            cache=MemoryJournal(time.time_ns),
            clock=time.time_ns,
            connection=Connection(temporal, temporal_server.address),
            before_outcomes=no_preparation,
        )
        forgetting = asyncio.create_task(_forget_idle_runs_all_the_time(histories))
        try:
            async with histories.using(RunKey("default", servers.settings.temporal_task_queue)) as run:
                assert run is not None
        finally:
            forgetting.cancel()
            await histories.close()
