"""Free mode: random workflows without races give the same outcomes of steps on both engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from zlib import crc32

import pytest

from conformance.clusters import settings_for
from conformance.players import masked
from conformance.programs import draw_race_free_workflows
from integration.server.build import end_of, finished
from integration.server.raw_client import RawClient
from stepwave import ActionError, Context, action
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer

RUNS = 25
AT_ONCE = 8


async def _end(context: Context) -> str:
    """End as the id of the step and the attempt say."""
    fate = crc32(context.step_id.encode()) % 8
    await asyncio.sleep(fate / 200)
    if fate == 0:
        raise ActionError("raised", retryable=False)
    if fate == 1 or (fate == 2 and context.attempt == 1):
        raise ConnectionError("broken")
    return context.step_id


@action
async def acts(context: Context, input: object = None) -> str:
    """End by itself."""
    return await _end(context)


@action
async def other(context: Context, input: object = None) -> str:
    """End by itself."""
    return await _end(context)


@pytest.fixture
async def clients(temporal_server: TemporalServer) -> AsyncIterator[list[RawClient]]:
    """Connect to a server of each kind: one with runs in its memory, and one on Temporal."""
    kinds = [
        Settings(listen="127.0.0.1:0", entry_points=False),
        settings_for(temporal_server).model_copy(update={"drain_timeout": 0.0}),
    ]
    async with AsyncExitStack() as stack:
        clients = []
        for settings in kinds:
            server = await stack.enter_async_context(Server(settings, actions=[acts, other]))
            clients.append(RawClient(server.address))
            stack.push_async_callback(clients[-1].close)
        yield clients


async def _outcomes(
    client: RawClient, workflow: workflow_pb2.Workflow, run_id: str
) -> tuple[run_pb2.State.ValueType, dict[str, run_pb2.StepResult]]:
    """Run a workflow, and return its state and the results of its steps, without their times."""
    events = masked(await client.run(workflow, given={"x": 1}, run_id=run_id))
    return end_of(events).state, dict(sorted(finished(events).items()))


async def test_random_workflows_without_races_give_the_same_results_on_both_engines(clients: list[RawClient]) -> None:
    places = asyncio.Semaphore(AT_ONCE)

    async def check(workflow: workflow_pb2.Workflow, run_id: str) -> None:
        async with places:
            local, temporal = await asyncio.gather(*(_outcomes(client, workflow, run_id) for client in clients))
            assert temporal == local

    workflows = draw_race_free_workflows(RUNS)
    await asyncio.gather(*(check(workflow, f"free-{number}") for number, workflow in enumerate(workflows)))
