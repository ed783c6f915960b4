"""The histories of runs that nobody asks for: a server on Temporal reads them no longer."""

import asyncio

import pytest

import stepwave_server.engine.temporal.histories as histories
from conformance.clusters import settings_for
from stepwave import AsyncClient, Workflow
from stepwave_server.app import Server
from stepwave_server.engine.temporal.engine import TemporalEngine
from stepwave_server.engine.temporal.followed_run import FollowedRun
from temporal_server import TemporalServer


async def test_a_run_whose_history_has_just_begun_to_be_read_is_not_idle(
    temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Workflow("one")
    flow.step("only", "core.echo", 1)
    async with Server(settings_for(temporal_server)) as server, AsyncClient(server.address) as client:
        engine = server.engine
        assert isinstance(engine, TemporalEngine)

        def follow(*given: object) -> FollowedRun:
            """Look for idle runs before the caller that asked for this one goes on."""
            asyncio.get_running_loop().call_soon(engine._histories._forget_idle_runs)
            return FollowedRun(*given)  # type: ignore[arg-type]  # passed on

        monkeypatch.setattr(histories, "FollowedRun", follow)
        assert (await client.run(flow)).outputs == {"only": 1}
