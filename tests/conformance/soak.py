"""The kill test for a set time, and how soon runs go on after a kill: `make soak-temporal`.

All rounds use one cluster, and each has new runs.
"""

import asyncio
import os
import sys
import time
from pathlib import Path
from random import Random

import pytest

from conformance.kills import Kills
from conformance.member_process import ProcessCluster
from conformance.standstills import Standstills, shown
from integration.durable.crash_load import RandomLoad
from temporal_server import TemporalServer

MINUTES = float(os.environ.get("STEPWAVE_SOAK_MINUTES", "10"))
RUNS = 40

KILLS = 3
"""Kills of each kind of process whose standstills are measured."""


@pytest.mark.timeout(0)
async def test_rounds_of_runs_lose_nothing_to_kills(
    members: ProcessCluster, durable_temporal: TemporalServer, seed: str
) -> None:
    end = time.monotonic() + 60 * MINUTES
    number = 0
    while time.monotonic() < end:
        number += 1
        name = f"{seed}/{number}"
        load = RandomLoad(members, name, RUNS, name=f"round{number}_")
        kills = Kills(members, durable_temporal, load)
        async with asyncio.timeout(600):
            await load.run(kills.at_random(Random(name), 6, most_events=80))
            one, other = [await load.check(server.address) for server in members.servers]
        assert one == other
        assert sum(one.values()) == RUNS
        sys.stderr.write(
            f"round {number}: {', '.join(kills.killed)} killed; {load.counter.count:,} events without gaps or repeats, "
            f"the same on both servers; {dict(one)}\n"
        )


@pytest.mark.timeout(0)
async def test_runs_go_on_after_each_kind_of_kill(tmp_path: Path, durable_temporal: TemporalServer) -> None:
    cluster = ProcessCluster(tmp_path, durable_temporal.address)  # with the settings that a user has by default
    try:
        await cluster.start()
        found = await Standstills(cluster, durable_temporal, "standstill").measure(KILLS)
    finally:
        await cluster.kill()
    sys.stderr.write(f"{shown(found)}\n")
