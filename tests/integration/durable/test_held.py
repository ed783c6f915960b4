"""Held runs over a restart: their windows begin with it, and who let one go has done so for good."""

import asyncio

from integration.durable.lives import Life, Lives
from integration.server.build import end_of, flow, state_of, states, step
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent

HELD = flow(step("held", "gated"), step("next", after=["held"]))


async def _hold(life: Life, window: float) -> None:
    """Start a run that is held, and see it run; its caller does not leave before the server does."""
    life.caller.execute(HELD, run_id="live", window=window)
    await life.stage.here("held")


def _how(events: list[RunEvent]) -> tuple[str, str]:
    """Return how a run ended, and why."""
    result = end_of(events)
    return state_of(result.state), result.failures[0].message if result.failures else ""


async def test_a_run_whose_caller_never_returns_is_cancelled_a_window_after_the_restart(lives: Lives) -> None:
    window = 0.3
    async with lives.next() as first:
        await _hold(first, window)
    await asyncio.sleep(window)  # time that does not count
    async with lives.next() as second:
        events = await second.caller.events("live")
        info = (await second.caller.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info
    assert _how(events) == ("cancelled", "cancelled: the caller did not come back")
    (stopping,) = [event for event in events if event.HasField("run_stopping")]
    lived = stopping.time.ToNanoseconds() - info.start_time.ToNanoseconds()
    assert lived / 1e9 >= window - 0.01


async def test_a_run_whose_caller_returns_goes_on(lives: Lives) -> None:
    async with lives.next() as first:
        await _hold(first, window=1.5)
    await asyncio.sleep(1.6)  # longer than the window
    async with lives.next() as second, second.caller.watch("live", attach=True) as watch:
        await second.stage.here("held")
        second.stage.let("held")
        assert states(await watch.rest()) == {"held": "succeeded", "next": "succeeded"}


async def test_executing_again_after_the_restart_holds_as_well(lives: Lives) -> None:
    async with lives.next() as first:
        await _hold(first, window=1.5)
    async with lives.next() as second, second.caller.execute(HELD, run_id="live", window=1.5) as again:
        await second.stage.here("held")
        second.stage.let("held")
        assert _how(await again.rest()) == ("succeeded", "")


async def test_who_returns_and_leaves_starts_the_window_again(lives: Lives) -> None:
    async with lives.next() as first:
        await _hold(first, window=0.1)
    async with lives.next() as second:
        async with second.caller.watch("live", attach=True) as watch:
            await watch.until("step_started", "held")
        assert _how(await second.caller.events("live")) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_run_without_a_window_does_not_outlive_its_server(lives: Lives) -> None:
    async with lives.next() as first:
        await _hold(first, window=0.0)
    async with lives.next() as second:
        assert _how(await second.caller.events("live")) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_held_run_that_was_detached_stays_so(lives: Lives) -> None:
    """It had no window: held still, it would be cancelled as soon as the next server begins."""
    async with lives.next() as first:
        await _hold(first, window=0.0)
        await first.caller.start(HELD, run_id="live")
    async with lives.next() as second:
        await second.stage.here("held")
        second.stage.let("held")
        assert _how(await second.caller.events("live")) == ("succeeded", "")
