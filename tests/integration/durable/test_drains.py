"""A server with a journal on disk that is told to stop: what outlasts it is left to the next, and no run is lost."""

import asyncio

import pytest

from integration.durable.lives import Lives
from integration.durable.process import Meeting, Victim
from integration.server.build import end_of, flow, kinds_of, sequences, state_of, states, step
from integration.server.caller import GUARD, Caller
from stepwave import AsyncClient, StepStarted, Workflow

HELD = flow(step("held", "meets"), step("next", "waits", after=["held"]))
SUCCEEDED = {"held": "succeeded", "next": "succeeded"}


@pytest.mark.parametrize("attached", [True, False])
async def test_runs_that_outlast_a_drain_are_left_to_the_next_server(
    victim: Victim, meeting: Meeting, *, attached: bool
) -> None:
    await victim.start("--set", "drain_timeout=0.1")
    caller = Caller(victim.address)
    if attached:
        stream = caller.execute(HELD, run_id="live", window=60)
    else:
        await caller.start(HELD, run_id="live")
        stream = caller.watch("live")
    await stream.until("step_started", "held")
    await meeting.here("live", "held")
    assert await victim.stop() == 0
    seen = await stream.rest()
    await caller.close()
    assert "run_finished" not in kinds_of(seen)
    assert "run_stopping" not in kinds_of(seen)
    await victim.start()
    caller = Caller(victim.address)
    meeting.let("live", "held")
    rest = await caller.watch("live", after=sequences(seen)[-1], attach=attached).rest()
    await caller.close()
    assert states(rest) == SUCCEEDED
    assert sequences(seen + rest) == list(range(1, len(seen + rest) + 1))
    assert victim.marks.attempts("live", "held") == [1, 2]


async def test_runs_that_end_within_the_drain_are_finished_by_it(victim: Victim, meeting: Meeting) -> None:
    await victim.start("--set", f"drain_timeout={GUARD}")
    caller = Caller(victim.address)
    stream = caller.execute(HELD, run_id="live")
    await stream.until("step_started", "held")
    stopped = asyncio.create_task(victim.stop())
    meeting.let("live", "held")
    assert states(await stream.rest()) == SUCCEEDED
    assert await stopped == 0
    await caller.close()
    assert victim.marks.attempts("live", "held") == [1]


async def test_a_drain_that_ends_streams_begins_no_window(lives: Lives) -> None:
    """The server ends them itself: no caller has left."""
    async with lives.next(drain_timeout=0) as first:
        stream = first.caller.execute(flow(step("held", "gated")), run_id="live")
        await stream.until("step_started", "held")
        await first.server.drain()
        before = await stream.rest()
    async with lives.next() as second:
        await second.stage.here("held")
        second.stage.let("held")
        events = await second.caller.events("live")
    assert events[: len(before)] == before
    assert kinds_of(events)[len(before)] == "step_retrying", "the first server cancelled nothing"


async def test_a_client_of_the_sdk_goes_on_over_a_drain(victim: Victim, meeting: Meeting) -> None:
    workflow = Workflow("held")
    workflow.step("held", "meets")
    await victim.start("--set", "drain_timeout=0.1")
    numbers = []
    async with AsyncClient(victim.address) as client, client.run(workflow, run_id="live") as run:
        async for event in run:
            numbers.append(event.sequence)
            if isinstance(event, StepStarted) and event.attempt == 1:
                await meeting.here("live", "held")
                assert await victim.stop() == 0
                await victim.start()
                meeting.let("live", "held")
        assert run.result.succeeded
    assert [number for number in numbers if number] == list(range(1, numbers[-1] + 1))


async def test_the_end_that_a_drain_commits_last_is_kept(lives: Lives) -> None:
    async with lives.next(drain_timeout=GUARD) as first:
        await first.caller.start(flow(step("held", "gated")), run_id="live")
        await first.stage.here("held")
        drain = asyncio.create_task(first.server.drain())
        first.stage.let("held")
        await drain
    async with lives.next() as second:
        assert state_of(end_of(await second.caller.events("live")).state) == "succeeded"
        assert second.stage.invoked == []
