"""The histories that a server reads, and for how long."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from temporalio.client import Client

from conformance.raw_servers import RawServers
from integration.server.build import flow, step
from stepwave import action
from stepwave_server.core.info import RunKey
from stepwave_server.engine.temporal import histories as histories_module
from stepwave_server.engine.temporal.connection import Connection
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.histories import Histories
from stepwave_server.journal import MemoryJournal, Retention
from temporal_server import TemporalServer


async def no_preparation(_: FollowedRun) -> None:
    """Do nothing before outcomes."""


async def _forget_idle_runs_all_the_time(histories: Histories) -> None:
    while True:
        histories.forget_idle()
        await asyncio.sleep(0)


@action
async def hangs() -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def _histories(server: TemporalServer, keep: Retention | None = None) -> AsyncIterator[Histories]:
    """Read histories of a server of Temporal. `keep` says which ended runs are kept; `None`: all."""
    temporal = await Client.connect(server.address)
    histories = Histories(
        temporal,
        runs={},
        cache=MemoryJournal(time.time_ns, keep),
        clock=time.time_ns,
        connection=Connection(temporal, server.address),
        before_outcomes=no_preparation,
    )
    try:
        yield histories
    finally:
        await histories.close()


async def test_a_run_does_not_count_as_idle_before_its_first_use_has_begun(temporal_server: TemporalServer) -> None:
    servers = RawServers(temporal_server.address)
    key = RunKey("default", servers.settings.temporal_task_queue)
    async with servers.server() as (_, client), _histories(temporal_server) as histories:
        await client.start(flow(step("only", "core.wait")), run_id=key.run_id)
        forgetting = asyncio.create_task(_forget_idle_runs_all_the_time(histories))
        try:
            async with histories.using(key) as run:
                assert run is not None
        finally:
            forgetting.cancel()


@pytest.mark.parametrize("kept", [0, 1])
async def test_the_execution_of_a_run_is_known_for_as_long_as_the_run_is_kept(
    temporal_server: TemporalServer, kept: int
) -> None:
    servers = RawServers(temporal_server.address)
    key = RunKey("default", servers.settings.temporal_task_queue)
    async with servers.server() as (_, client), _histories(temporal_server, Retention(count=kept)) as histories:
        await client.run(flow(step("only", "core.echo")), run_id=key.run_id)
        async with histories.using(key) as run:
            assert run is None, "it has ended"
        histories.forget_idle()
        assert bool(histories.execution_of(key)) == bool(kept)


@pytest.mark.parametrize("seconds", [0, 60])
async def test_a_run_whose_caller_has_left_is_new_for_a_moment_only(
    temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Temporal is asked about the attempts of a run that is not new."""
    monkeypatch.setattr(histories_module, "NEW_SECONDS", seconds)
    servers = RawServers(temporal_server.address)
    key = RunKey("default", servers.settings.temporal_task_queue)
    async with servers.server(hangs) as (_, client), _histories(temporal_server) as histories:
        stream = client.execute(flow(step("only", "hangs")), run_id=key.run_id)
        await stream.until("step_started", "only")
        description = await (await servers.workflow(key.run_id)).describe()
        histories.note_start(key, description.run_id)  # nothing has used it since
        async with histories.using(key) as run:
            assert run is not None
            assert [*run.reports.pending] == ([] if seconds else ["only"])
        await client.cancel(key.run_id)
        await stream.rest()
