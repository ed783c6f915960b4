"""Operators of Temporal end and delete the workflows of runs; callers and watchers see a clear end."""

from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import grpc
import pytest
from grpc.aio import AioRpcError
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client

from conformance.raw_servers import RawServers
from integration.server.build import check_sequences, end_of, flow, reason_of, state_of, step
from integration.server.raw_client import RawClient, Refusal, Stream, refusal
from temporal_server import TemporalServer
from waiting import until

WAITS = flow(step("first", "core.wait"), step("second", "core.wait", after=["first"]))


@pytest.fixture
def servers(temporal_server: TemporalServer) -> RawServers:
    return RawServers(temporal_server.address)


@pytest.fixture
async def client(servers: RawServers) -> AsyncIterator[RawClient]:
    async with servers.server() as (_, client):
        yield client


@pytest.fixture
def run_id() -> str:
    return f"run-{uuid4().hex[:8]}"


async def outcome_of(stream: Stream) -> str:
    """Read a stream to its end, and return the state in which the run ended, or the error with which the stream did."""
    try:
        return state_of(end_of(await stream.rest()).state)
    except AioRpcError as error:
        return str(Refusal(error).reason)


async def delete(servers: RawServers, run_id: str) -> None:
    """Delete the workflow of a run with its history, and wait until it is gone."""
    client = await Client.connect(servers.settings.temporal_address)
    request = DeleteWorkflowExecutionRequest(
        namespace="default", workflow_execution=WorkflowExecution(workflow_id=run_id)
    )
    await client.workflow_service.delete_workflow_execution(request)


async def test_a_run_whose_workflow_is_terminated_fails_for_its_watchers(
    servers: RawServers, client: RawClient, run_id: str
) -> None:
    async with client.execute(WAITS, run_id=run_id) as watch:
        await watch.until("step_started")
        await (await servers.workflow(run_id)).terminate(reason="wrong input")
        events = await watch.rest()
    check_sequences(events)
    result = end_of(events)
    assert (state_of(result.state), reason_of(result.failures[0])) == ("failed", "interrupted")
    assert result.failures[0].message == "the workflow of the run was terminated in Temporal: wrong input"
    assert state_of((await client.get(run_id)).state) == "failed"


async def test_a_run_whose_workflow_is_cancelled_is_cancelled(
    servers: RawServers, client: RawClient, run_id: str
) -> None:
    async with client.execute(WAITS, run_id=run_id) as watch:
        await watch.until("step_started")
        await (await servers.workflow(run_id)).cancel()
        result = end_of(await watch.rest())
    assert state_of(result.state) == "cancelled"
    assert "the workflow was cancelled in Temporal" in result.failures[0].message


async def test_every_server_shows_the_same_end_of_a_terminated_run(servers: RawServers, run_id: str) -> None:
    async with servers.clients(2) as (one, other):
        await one.start(WAITS, run_id=run_id)
        await (await servers.workflow(run_id)).terminate()
        assert await one.events(run_id) == await other.events(run_id)


async def test_a_workflow_of_another_type_is_no_run(servers: RawServers, client: RawClient, run_id: str) -> None:
    temporal = await Client.connect(servers.settings.temporal_address)
    foreign = await temporal.start_workflow("billing", id=run_id, task_queue="nobody")
    try:
        for call in (client.get, client.events, client.cancel, client.delete):
            refused = await refusal(call(run_id))
            assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
            assert 'its type is "billing"' in refused.message
        refused = await refusal(client.start(WAITS, run_id=run_id))
        assert refused.code == grpc.StatusCode.ALREADY_EXISTS
    finally:
        await foreign.terminate()


async def test_a_watch_ends_when_the_history_is_deleted(servers: RawServers, client: RawClient, run_id: str) -> None:
    async with client.execute(WAITS, run_id=run_id) as watch:
        await watch.until("step_started")
        await delete(servers, run_id)
        # Temporal terminates the workflow first, which the server sees if it is quick enough.
        assert await outcome_of(watch) in {"failed", "RUN_NOT_FOUND"}


async def test_a_run_that_was_deleted_and_started_again_begins_anew(
    servers: RawServers, client: RawClient, run_id: str
) -> None:
    async with servers.server() as (_, other):
        await client.start(WAITS, run_id=run_id)
        old = client.watch(run_id)
        await old.until("step_started")
        await delete(servers, run_id)
        await until(partial(_is_gone, other, run_id))
        again = flow(step("only", "core.wait"))
        await other.start(again, run_id=run_id)
        async with client.watch(run_id) as watch:
            started = await watch.until("step_started")
        assert started.step_started.step_id == "only"
        assert await outcome_of(old) in {"failed", "RUN_NOT_FOUND"}
        await other.cancel(run_id)


async def _is_gone(client: RawClient, run_id: str) -> bool:
    try:
        await client.get(run_id)
    except AioRpcError as error:
        return error.code() == grpc.StatusCode.NOT_FOUND
    return False
