"""Drains of a server with a journal on disk: unfinished runs are left to the next server, and none is lost."""

import asyncio

import pytest

from integration.durable.restarts import Restarts
from integration.durable.server_process import ServerProcess, StepControl
from integration.server.build import end_of, flow, kinds_of, sequences, state_of, states, step
from integration.server.raw_client import GUARD, RawClient
from stepwave import AsyncClient, StepStarted, Workflow

BLOCKED = flow(step("blocked", "controlled"), step("next", "waits", after=["blocked"]))
SUCCEEDED = {"blocked": "succeeded", "next": "succeeded"}


@pytest.mark.parametrize("attached", [True, False])
async def test_runs_that_outlast_a_drain_are_left_to_the_next_server(
    process: ServerProcess, control: StepControl, *, attached: bool
) -> None:
    await process.start("--set", "drain_timeout=0.1")
    client = RawClient(process.address)
    if attached:
        stream = client.execute(BLOCKED, run_id="live", window=60)
    else:
        await client.start(BLOCKED, run_id="live")
        stream = client.watch("live")
    await stream.until("step_started", "blocked")
    await control.wait_started("live", "blocked")
    assert await process.stop() == 0
    seen = await stream.rest()
    await client.close()
    assert "run_finished" not in kinds_of(seen)
    assert "run_stopping" not in kinds_of(seen)
    await process.start()
    client = RawClient(process.address)
    control.release("live", "blocked")
    rest = await client.watch("live", after=sequences(seen)[-1], attach=attached).rest()
    await client.close()
    assert states(rest) == SUCCEEDED
    assert sequences(seen + rest) == list(range(1, len(seen + rest) + 1))
    assert process.side_effects.attempts("live", "blocked") == [1, 2]


async def test_runs_that_end_within_the_drain_are_finished_by_it(process: ServerProcess, control: StepControl) -> None:
    await process.start("--set", f"drain_timeout={GUARD}")
    client = RawClient(process.address)
    stream = client.execute(BLOCKED, run_id="live")
    await stream.until("step_started", "blocked")
    stopped = asyncio.create_task(process.stop())
    control.release("live", "blocked")
    assert states(await stream.rest()) == SUCCEEDED
    assert await stopped == 0
    await client.close()
    assert process.side_effects.attempts("live", "blocked") == [1]


async def test_streams_that_a_drain_ends_begin_no_reconnect_window(restarts: Restarts) -> None:
    """The server itself ends the streams, so no client has disconnected."""
    async with restarts.start(drain_timeout=0) as first:
        stream = first.client.execute(flow(step("blocked", "controlled")), run_id="live")
        await stream.until("step_started", "blocked")
        await first.server.drain()
        before = await stream.rest()
    async with restarts.start() as second:
        await second.controlled.wait_started("blocked")
        second.controlled.release("blocked")
        events = await second.client.events("live")
    assert events[: len(before)] == before
    assert kinds_of(events)[len(before)] == "step_retrying", "the first server cancelled nothing"


async def test_a_client_of_the_sdk_continues_after_a_drain(process: ServerProcess, control: StepControl) -> None:
    workflow = Workflow("blocked")
    workflow.step("blocked", "controlled")
    await process.start("--set", "drain_timeout=0.1")
    numbers = []
    async with AsyncClient(process.address) as sdk, sdk.run(workflow, run_id="live") as run:
        async for event in run:
            numbers.append(event.sequence)
            if isinstance(event, StepStarted) and event.attempt == 1:
                await control.wait_started("live", "blocked")
                assert await process.stop() == 0
                await process.start()
                control.release("live", "blocked")
        assert run.result.succeeded
    assert [number for number in numbers if number] == list(range(1, numbers[-1] + 1))


async def test_the_end_that_a_drain_commits_last_is_kept(restarts: Restarts) -> None:
    async with restarts.start(drain_timeout=GUARD) as first:
        await first.client.start(flow(step("blocked", "controlled")), run_id="live")
        await first.controlled.wait_started("blocked")
        drain = asyncio.create_task(first.server.drain())
        first.controlled.release("blocked")
        await drain
    async with restarts.start() as second:
        assert state_of(end_of(await second.client.events("live")).state) == "succeeded"
        assert second.controlled.invoked == []
