"""Workflows of Temporal that a server cannot show: they are none of Stepwave, or a later version began them."""

from dataclasses import replace
from uuid import uuid4

import pytest
from temporalio.client import Client, WorkflowExecutionStatus

import stepwave_server.engine.temporal.workflow as workflow_module
from conformance.clusters import settings_for
from stepwave import AlreadyExists, AsyncClient, NotFound, ServerError, Workflow
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import Started
from stepwave_server.core.state import CORE_VERSION, RunOptions
from stepwave_server.engine.temporal.codec import WORKFLOW_TYPE, StartInput, encode_start
from stepwave_server.engine.temporal.visibility import attributes_of
from stepwave_server.journal import Header
from temporal_server import TemporalServer
from waiting import until


@pytest.fixture
def settings(temporal_server: TemporalServer) -> Settings:
    return settings_for(temporal_server)


async def test_a_workflow_of_others_is_no_run(settings: Settings) -> None:
    temporal = await Client.connect(settings.temporal_address)
    run_id = f"foreign-{uuid4().hex[:8]}"
    await temporal.start_workflow("SomeWorkflow", id=run_id, task_queue=settings.temporal_task_queue)
    flow = Workflow("flow")
    flow.step("only", "core.echo")
    async with Server(settings) as server, AsyncClient(server.address) as client:
        for ask in (client.get, client.result, client.cancel, client.delete):
            with pytest.raises(NotFound, match='is no Stepwave run: its type is "SomeWorkflow"'):
                await ask(run_id)
        with pytest.raises(AlreadyExists):
            await client.start(flow, run_id=run_id)
        assert [run async for run in client.runs()] == []
    assert (await temporal.get_workflow_handle(run_id).describe()).status is WorkflowExecutionStatus.RUNNING


async def test_a_run_of_a_later_version_waits_for_a_server_of_that_version(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = f"later-{uuid4().hex[:8]}"
    await _start_later(settings, run_id)
    async with Server(settings) as server, AsyncClient(server.address) as client:
        with pytest.raises(ServerError, match="of the scheduler began it") as refused:
            await client.get(run_id)
        assert refused.value.reason == "RUN_BROKEN"

        async def is_listed() -> bool:
            return [run.run_id async for run in client.runs()] == [run_id]

        await until(is_listed)
    monkeypatch.setattr(workflow_module, "CORE_VERSION", CORE_VERSION + 1)
    async with Server(settings) as server, AsyncClient(server.address) as client:
        result = await client.wait(run_id)
    assert result.outputs == {"only": 5}


async def _start_later(settings: Settings, run_id: str) -> None:
    """Start a run as a server would whose core has a later version."""
    definition = workflow_pb2.Workflow(name="flow")
    definition.steps.add(id="only", action="core.echo").input.json = "5"
    header = Header(
        key=RunKey("default", run_id),
        workflow=definition.SerializeToString(),
        input="null",
        options=replace(RunOptions(), version=CORE_VERSION + 1),
        create_time=0,
    )
    start = StartInput(header, Started((), ""), 10.0, 10.0, settings.temporal_task_queue)
    temporal = await Client.connect(settings.temporal_address)
    await temporal.start_workflow(
        WORKFLOW_TYPE,
        args=encode_start(start),
        id=run_id,
        task_queue=settings.temporal_task_queue,
        search_attributes=attributes_of("default", "flow", {}),
    )
