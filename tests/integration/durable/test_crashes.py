"""The server is killed again and again while hundreds of runs are under way, and nothing is lost."""

import asyncio
from random import Random

import pytest

from integration.durable.crash_load import CrashLoad, draw_crashes
from integration.durable.server_process import ServerProcess

RUNS = 200
KILLS = 10
BOUND = 110.0
"""Seconds after which the test fails. Nothing depends on its length."""


@pytest.mark.timeout(120)
async def test_two_hundred_runs_lose_nothing_to_ten_kills(process: ServerProcess, seed: str) -> None:
    await process.start()
    load = CrashLoad(process, seed, RUNS)
    async with asyncio.timeout(BOUND):
        await load.run(load.crash_servers(draw_crashes(Random(seed), KILLS, most_events=700)))
        states = await load.check()
    assert min(load.under_way) > 0, f"every kill meets runs under way: {load.under_way}"
    assert sum(states.values()) == RUNS
    assert states["succeeded"] > RUNS // 10, states
