"""Servers, hosts and Temporal itself are killed while runs are under way, and nothing is lost."""

import asyncio
from collections import Counter

import pytest

from conformance.kills import Kills
from conformance.member_process import ProcessCluster
from integration.durable.crash_load import RandomLoad
from temporal_server import TemporalServer

RUNS = 24
PAUSES = (0.0, 1.0, 3.0)
"""Durations of steps in seconds. All restarts together take 15 s to 40 s, and runs must last longer."""

BOUND = 140.0
"""Seconds after which the test fails. Nothing depends on its length."""


@pytest.mark.timeout(180)
async def test_runs_lose_nothing_when_servers_hosts_and_temporal_are_killed(
    members: ProcessCluster, durable_temporal: TemporalServer, seed: str
) -> None:
    load = RandomLoad(members, seed, RUNS, pauses=PAUSES)
    states: Counter[str] = Counter()
    kills = Kills(members, durable_temporal, load)
    async with asyncio.timeout(BOUND):
        await load.run(kills.once_each(15))
        for server in members.servers:
            states = await load.check(server.address)
    assert min(kills.under_way) > 0, f"every kill meets runs under way: {kills.under_way}"
    assert sum(states.values()) == RUNS
