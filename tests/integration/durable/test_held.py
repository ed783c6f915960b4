"""Held runs over a restart: their windows begin with it, and who let one go has done so for good.

A window of zero begins only after a crash: a server that stops in order is no loss of its callers.
"""

import asyncio
import shutil
from pathlib import Path

from integration.durable.lives import Life, Lives
from integration.server.build import end_of, flow, state_of, states, step
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent

HELD = flow(step("held", "gated"), step("next", after=["held"]))


async def _hold(life: Life, window: float) -> None:
    """Start a run that is held, and see it run; its caller does not leave before the server does."""
    life.caller.execute(HELD, run_id="live", window=window)
    await life.stage.here("held")


def _as_a_crash_leaves_it(journal: Path, to: Path) -> Path:
    """Copy the journal of a server that runs, which is what there would be had it been killed now."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{journal}{suffix}", f"{to}{suffix}")
    return to


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


async def test_a_run_without_a_window_outlives_a_server_that_is_stopped(lives: Lives) -> None:
    async with lives.next() as first:
        await _hold(first, window=0.0)
    async with lives.next() as second:
        await second.stage.here("held")
        second.stage.let("held")
        assert _how(await second.caller.events("live")) == ("succeeded", "")


async def test_it_outlives_one_that_is_drained_and_every_one_after_it(lives: Lives) -> None:
    async with lives.next(drain_timeout=0.01) as first:
        await _hold(first, window=0.0)
        await first.server.drain()
    async with lives.next() as second:
        await second.stage.here("held")
    async with lives.next() as third:
        await third.stage.here("held")
        third.stage.let("held")
        assert _how(await third.caller.events("live")) == ("succeeded", "")


async def test_it_is_still_held_by_who_returns(lives: Lives) -> None:
    async with lives.next() as first:
        await _hold(first, window=0.0)
    async with lives.next() as second:
        async with second.caller.watch("live", attach=True) as watch:
            await watch.until("step_started", "held")
        assert _how(await second.caller.events("live")) == ("cancelled", "cancelled: the caller went away")


async def test_a_run_without_a_window_is_cancelled_after_a_crash(lives: Lives, tmp_path: Path) -> None:
    async with lives.next() as first:
        await _hold(first, window=0.0)
        crashed = _as_a_crash_leaves_it(lives.path, tmp_path / "crashed.db")
    async with lives.next(path=crashed) as second:
        assert _how(await second.caller.events("live")) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_run_with_a_window_waits_for_its_caller_after_a_crash_too(lives: Lives, tmp_path: Path) -> None:
    async with lives.next() as first:
        await _hold(first, window=5)
        crashed = _as_a_crash_leaves_it(lives.path, tmp_path / "crashed.db")
    async with lives.next(path=crashed) as second, second.caller.watch("live", attach=True) as watch:
        await second.stage.here("held")
        second.stage.let("held")
        assert _how(await watch.rest()) == ("succeeded", "")


async def test_a_held_run_that_was_detached_stays_so(lives: Lives, tmp_path: Path) -> None:
    """It had no window: held still, it would be cancelled as soon as the next server begins."""
    async with lives.next() as first:
        await _hold(first, window=0.0)
        await first.caller.start(HELD, run_id="live")
        crashed = _as_a_crash_leaves_it(lives.path, tmp_path / "crashed.db")
    async with lives.next(path=crashed) as second:
        await second.stage.here("held")
        second.stage.let("held")
        assert _how(await second.caller.events("live")) == ("succeeded", "")
