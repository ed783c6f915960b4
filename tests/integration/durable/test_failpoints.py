"""The server dies around a commit: before it, after it, before anybody is told of it. Nothing is lost or repeated."""

import asyncio

import pytest

from integration.durable.process import Victim
from integration.durable.storm import Storm
from integration.server.caller import GUARD

RUNS = 20
TIMES = 3
"""Servers that die in a row, at the same place."""


@pytest.mark.parametrize("count", [1, 5, 25])
@pytest.mark.parametrize("place", ["before-commit", "after-commit", "before-publication"])
async def test_nothing_is_lost_by_a_server_that_dies(victim: Victim, seed: str, place: str, count: int) -> None:
    await victim.start("--die-at", f"{place}:{count}")
    storm = Storm(victim, seed, RUNS, pauses=(0.0, 0.01, 0.05), manners=("attached", "detached"))
    async with asyncio.timeout(GUARD):
        await storm.rage(storm.die_at(f"{place}:{count}", TIMES))
        await storm.check()
    assert storm.under_way, "no server died"
