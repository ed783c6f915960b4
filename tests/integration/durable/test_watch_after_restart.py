"""Watching after restarts, from any sequence number; and watchers that never read."""

import asyncio
from pathlib import Path

import grpc
import pytest

from integration.durable.restarts import Restarts, RunningServer
from integration.durable.resuming_watchers import RawWatcher, open_channel, read_all
from integration.durable.server_process import ServerProcess
from integration.server.build import end_of, flow, kind_of, state_of, step
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import EventKind, RunEvent

BLOCKED = flow(*(step(f"s{i}") for i in range(8)), step("blocked", "controlled"), step("next", after=["blocked"]))

LARGE = 200_000


def _large(count: int) -> workflow_pb2.Workflow:
    """Return a workflow of large outputs: more than the journal keeps in memory for one run."""
    return flow(*(step(f"s{i}", "large_output", given={"size": LARGE}) for i in range(count)))


async def _read_events(running: RunningServer, run_id: str) -> list[bytes]:
    async with open_channel(running.server.address) as channel:
        return await read_all(channel, run_id)


@pytest.mark.parametrize("large", [False, True])
async def test_a_finished_run_can_be_watched_from_any_number(restarts: Restarts, *, large: bool) -> None:
    workflow = _large(10) if large else flow(*(step(f"s{i}") for i in range(20)))
    async with restarts.start() as first:
        events = await first.client.run(workflow, run_id="ended")
        kept = await _read_events(first, "ended")
    async with restarts.start() as second:
        assert await _read_events(second, "ended") == kept
        for after in range(len(events) + 1):
            assert await second.client.watch("ended", after=after).rest() == events[after:]


async def test_a_running_run_can_be_watched_from_any_number(restarts: Restarts) -> None:
    async with restarts.start() as first:
        await first.client.start(BLOCKED, run_id="live")
        await first.controlled.wait_started("blocked")
        last = (await first.client.get("live")).last_sequence
    async with restarts.start() as second:
        await second.controlled.wait_started("blocked")
        watches = [second.client.watch("live", after=after) for after in range(last + 1)]
        second.controlled.release("blocked")
        whole, *parts = [await watch.rest() for watch in watches]
    assert state_of(end_of(whole).state) == "succeeded"
    assert parts == [whole[after:] for after in range(1, last + 1)]


async def test_a_number_beyond_the_end_is_out_of_range_after_a_restart_as_well(restarts: Restarts) -> None:
    async with restarts.start() as first:
        events = await first.client.run(flow(step("a")), run_id="ended")
    async with restarts.start() as second:
        refused = await refusal(second.client.watch("ended", after=events[-1].sequence + 1).rest())
        assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")


async def test_filters_apply_to_events_read_from_the_file(restarts: Restarts) -> None:
    async with restarts.start() as first:
        events = await first.client.run(_large(10), run_id="ended")
    async with restarts.start() as second:
        watch = second.client.watch("ended", kinds=[EventKind.EVENT_KIND_STEP_FINISHED])
        wanted = [event for event in events if kind_of(event) in {"step_finished", "run_finished"}]
        assert await watch.rest() == wanted


STALLED = 100
ROOM = 256 << 20
"""The bytes by which the server may grow: a sixth of the bytes that its stalled watchers lack."""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say how much memory is taken")
async def test_a_hundred_watchers_that_never_read_delay_nothing_and_cost_little_memory(process: ServerProcess) -> None:
    await process.start()
    wide = flow(*(step(f"s{i}", "waits", given={"size": LARGE}) for i in range(80)), max_parallelism=10)
    client = RawClient(process.address)
    async with open_channel(process.address) as channel:
        before = _memory_of(process.pid)
        await client.start(wide, run_id="wide")
        stalled = [client.watch("wide") for _ in range(STALLED)]
        await asyncio.gather(*(watch.call.initial_metadata() for watch in stalled))
        async with asyncio.timeout(GUARD):
            watcher = RawWatcher(channel, "wide")
            await watcher.watch(attach=False)
        grown = _memory_of(process.pid) - before
        late = await stalled[-1].rest()
        for watch in stalled:
            watch.call.cancel()
    await client.close()
    assert grown < ROOM, f"the server grew by {grown >> 20} MiB"
    assert [event for event in late if event.sequence] == [RunEvent.FromString(data) for data in watcher.events]


def _memory_of(pid: int) -> int:
    """Return the resident memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")
