"""The record of a run: who started it, cancelled it, and completed its steps."""

import pytest

from integration.access.conftest import Serve
from stepwave import AsyncClient, Workflow
from stepwave.exceptions import RunFailed
from stepwave_server.app import Server


def waiting() -> Workflow:
    flow = Workflow("waits")
    flow.step("approval", "core.wait")
    return flow


@pytest.fixture(params=["memory", "sqlite"])
async def server(request: pytest.FixtureRequest, serve: Serve, tmp_path: str) -> Server:
    return await serve(journal="memory" if request.param == "memory" else f"sqlite:{tmp_path}/journal.db")


def client(server: Server, token: str) -> AsyncClient:
    return AsyncClient(server.address, token=token)


async def test_a_cancelled_run_says_who_cancelled_it(server: Server) -> None:
    async with client(server, "runner-default") as runner, client(server, "admin-default") as admin:
        run = await runner.start(waiting())
        await admin.cancel(run.run_id, "enough")
        async with admin.watch(run.run_id) as events:
            stopping = [event.cancelled_by async for event in events if event.kind == "run_stopping"]
    assert stopping == ["token:admin-default"]
    assert (await _record(server, run.run_id)) == "token:runner-default"


async def test_an_approved_step_says_who_approved_it(server: Server) -> None:
    async with client(server, "runner-default") as runner, client(server, "admin-default") as admin:
        run = await runner.start(waiting())
        await admin.complete_step(run.run_id, "approval", True)
        result = await runner.wait(run.run_id)
    assert result.steps["approval"].completed_by == "token:admin-default"


async def test_a_rejected_step_says_who_rejected_it(server: Server) -> None:
    async with client(server, "runner-default") as runner, client(server, "admin-default") as admin:
        run = await runner.start(waiting())
        await admin.fail_step(run.run_id, "approval", "no")
        with pytest.raises(RunFailed) as caught:
            await runner.wait(run.run_id)
    failure = caught.value.result.steps["approval"].failure
    assert failure is not None
    assert failure.details["completed_by"] == "token:admin-default"


async def _record(server: Server, run_id: str) -> str:
    async with client(server, "viewer-default") as viewer:
        return (await viewer.get(run_id)).created_by
