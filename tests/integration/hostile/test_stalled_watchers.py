"""A thousand watchers that never read: they cost little memory, and delay nobody."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.processes import Server, running_server
from integration.hostile.attacks import SERVE, stalled_watchers
from integration.server.build import end_of, flow, step
from integration.server.raw_client import RawClient
from stepwave.v1.run_pb2 import STATE_SUCCEEDED

STALLED = 1_000

MAX_MEMORY = 300
"""MiB that the server may take in all, with the run that is watched."""


@pytest.fixture
async def process() -> AsyncIterator[Server]:
    async with running_server(sys.executable, *SERVE) as server:
        yield server


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say how much memory is taken")
@pytest.mark.parametrize(("count", "size"), [(900, 200), (4, 500_000)], ids=["many events", "large events"])
async def test_a_thousand_watchers_that_never_read_cost_little_memory_and_delay_nobody(
    process: Server, count: int, size: int
) -> None:
    client = RawClient(process.address)
    steps = [step(f"s{i}", "core.echo") for i in range(count)]
    events = await client.run(flow(*steps), given="x" * size, run_id="watched")
    async with stalled_watchers(process.address, "watched", STALLED):
        assert await client.events("watched") == events
        assert end_of(await client.run(flow(step("a", "core.echo")))).state == STATE_SUCCEEDED
        assert process.memory("VmHWM") <= MAX_MEMORY
    await client.close()
