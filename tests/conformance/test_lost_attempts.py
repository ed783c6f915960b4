"""Attempts on Temporal that are lost with their hosts: four of them fail the step, and the failure says why."""

import asyncio
from functools import partial
from typing import Any

from temporalio import activity
from temporalio.client import Client
from temporalio.worker import Worker

from conformance.clusters import settings_for
from stepwave import AsyncClient, FailureCause, FailureReason, StepRetrying, Workflow
from stepwave_server.app import Server
from temporal_server import TemporalServer
from waiting import accepts, until


@activity.defn(name="silent")
async def silent(given: Any, attempt: dict[str, Any]) -> None:
    """Send no heartbeat, as if the host had crashed."""
    await asyncio.Event().wait()


async def test_the_fourth_host_that_stops_responding_fails_the_step(temporal_server: TemporalServer) -> None:
    settings = settings_for(temporal_server).model_copy(update={"temporal_heartbeat_timeout": 2.0})
    temporal = await Client.connect(settings.temporal_address)
    flow = Workflow("flow")
    flow.step("only", "silent")
    async with (
        asyncio.timeout(40),
        Worker(temporal, task_queue=f"{settings.temporal_task_queue}:silent", activities=[silent]),
        Server(settings) as server,
        AsyncClient(server.address) as client,
    ):
        await until(partial(accepts, client, flow))
        run_id = (await client.start(flow)).run_id
        (failure,) = (await client.wait(run_id, check=False)).failures
        async with client.watch(run_id) as events:
            retried = [event.failure async for event in events if isinstance(event, StepRetrying)]
    message = "the host stopped responding while the attempt ran"
    assert [each.message for each in retried] == [message] * 3
    assert failure.message == f"{message}, as hosts had 3 times before"
    assert (failure.reason, failure.cause) == (FailureReason.INTERRUPTED, FailureCause.ATTEMPT_LOST)
    assert failure.attempt == 4
