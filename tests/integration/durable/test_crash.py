"""The server is killed again and again while hundreds of runs are under way, and nobody loses anything by it."""

import asyncio
from random import Random

import pytest

from integration.durable.process import Victim
from integration.durable.storm import Storm, draw_blows

RUNS = 200
KILLS = 10
BOUND = 110.0
"""Seconds that a storm may take: a guard, never an order."""


@pytest.mark.timeout(120)
async def test_two_hundred_runs_lose_nothing_to_ten_kills(victim: Victim, seed: str) -> None:
    await victim.start()
    storm = Storm(victim, seed, RUNS)
    async with asyncio.timeout(BOUND):
        await storm.rage(storm.strike(draw_blows(Random(seed), KILLS, most_events=700)))
        states = await storm.check()
    assert min(storm.under_way) > 0, f"every kill meets runs under way: {storm.under_way}"
    assert sum(states.values()) == RUNS
    assert states["succeeded"] > RUNS // 10, states
