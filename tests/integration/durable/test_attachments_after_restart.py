"""Attachments over a restart: reconnect windows begin with the new server, and detached runs stay detached.

A window of zero begins only after a crash. After a clean stop, clients do not count as lost.
"""

import asyncio
import shutil
from pathlib import Path

from integration.durable.restarts import Restarts, RunningServer
from integration.server.build import end_of, flow, state_of, states, step
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent

BLOCKED = flow(step("blocked", "controlled"), step("next", after=["blocked"]))


async def _attach(running: RunningServer, window: float) -> None:
    """Start an attached run, and wait until its step runs. The client stays attached until the server stops."""
    running.client.execute(BLOCKED, run_id="live", window=window)
    await running.controlled.wait_started("blocked")


def _copy_as_after_crash(journal: Path, to: Path) -> Path:
    """Copy the journal of a running server. The copy is what a kill at this moment would leave."""
    for suffix in ("", "-wal"):
        shutil.copy(f"{journal}{suffix}", f"{to}{suffix}")
    return to


def _end_of(events: list[RunEvent]) -> tuple[str, str]:
    """Return the final state of a run, and the message of its first failure."""
    result = end_of(events)
    return state_of(result.state), result.failures[0].message if result.failures else ""


async def test_a_run_whose_client_never_returns_is_cancelled_a_window_after_the_restart(restarts: Restarts) -> None:
    window = 0.3
    async with restarts.start() as first:
        await _attach(first, window)
    await asyncio.sleep(window)  # the window does not run during this time
    async with restarts.start() as second:
        events = await second.client.events("live")
        info = (await second.client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info
    assert _end_of(events) == ("cancelled", "cancelled: the caller did not come back")
    (stopping,) = [event for event in events if event.HasField("run_stopping")]
    lived = stopping.time.ToNanoseconds() - info.start_time.ToNanoseconds()
    assert lived / 1e9 >= window - 0.01


async def test_a_run_whose_client_returns_continues(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _attach(first, window=1.5)
    await asyncio.sleep(1.6)  # longer than the window
    async with restarts.start() as second, second.client.watch("live", attach=True) as watch:
        await second.controlled.wait_started("blocked")
        second.controlled.release("blocked")
        assert states(await watch.rest()) == {"blocked": "succeeded", "next": "succeeded"}


async def test_executing_again_after_the_restart_attaches_too(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _attach(first, window=1.5)
    async with restarts.start() as second, second.client.execute(BLOCKED, run_id="live", window=1.5) as again:
        await second.controlled.wait_started("blocked")
        second.controlled.release("blocked")
        assert _end_of(await again.rest()) == ("succeeded", "")


async def test_a_client_that_returns_and_leaves_starts_the_window_again(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _attach(first, window=0.1)
    async with restarts.start() as second:
        async with second.client.watch("live", attach=True) as watch:
            await watch.until("step_started", "blocked")
        assert _end_of(await second.client.events("live")) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_run_without_a_window_outlives_a_server_that_is_stopped(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _attach(first, window=0.0)
    async with restarts.start() as second:
        await second.controlled.wait_started("blocked")
        second.controlled.release("blocked")
        assert _end_of(await second.client.events("live")) == ("succeeded", "")


async def test_a_run_without_a_window_outlives_a_drained_server_and_its_successors(restarts: Restarts) -> None:
    async with restarts.start(drain_timeout=0.01) as first:
        await _attach(first, window=0.0)
        await first.server.drain()
    async with restarts.start() as second:
        await second.controlled.wait_started("blocked")
    async with restarts.start() as third:
        await third.controlled.wait_started("blocked")
        third.controlled.release("blocked")
        assert _end_of(await third.client.events("live")) == ("succeeded", "")


async def test_a_client_that_returns_to_a_run_without_a_window_is_attached(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await _attach(first, window=0.0)
    async with restarts.start() as second:
        async with second.client.watch("live", attach=True) as watch:
            await watch.until("step_started", "blocked")
        assert _end_of(await second.client.events("live")) == ("cancelled", "cancelled: the caller went away")


async def test_a_run_without_a_window_is_cancelled_after_a_crash(restarts: Restarts, tmp_path: Path) -> None:
    async with restarts.start() as first:
        await _attach(first, window=0.0)
        crashed = _copy_as_after_crash(restarts.path, tmp_path / "crashed.db")
    async with restarts.start(path=crashed) as second:
        assert _end_of(await second.client.events("live")) == ("cancelled", "cancelled: the caller did not come back")


async def test_a_run_with_a_window_waits_for_its_client_after_a_crash_too(restarts: Restarts, tmp_path: Path) -> None:
    async with restarts.start() as first:
        await _attach(first, window=5)
        crashed = _copy_as_after_crash(restarts.path, tmp_path / "crashed.db")
    async with restarts.start(path=crashed) as second, second.client.watch("live", attach=True) as watch:
        await second.controlled.wait_started("blocked")
        second.controlled.release("blocked")
        assert _end_of(await watch.rest()) == ("succeeded", "")


async def test_a_detached_run_stays_detached(restarts: Restarts, tmp_path: Path) -> None:
    """It had no window: if it were still attached, the next server would cancel it at its start."""
    async with restarts.start() as first:
        await _attach(first, window=0.0)
        await first.client.start(BLOCKED, run_id="live")
        crashed = _copy_as_after_crash(restarts.path, tmp_path / "crashed.db")
    async with restarts.start(path=crashed) as second:
        await second.controlled.wait_started("blocked")
        second.controlled.release("blocked")
        assert _end_of(await second.client.events("live")) == ("succeeded", "")
