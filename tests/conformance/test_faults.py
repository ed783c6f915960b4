"""Servers, hosts and Temporal itself are killed while dozens of runs are under way, and nothing is lost."""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import SystemRandom

import pytest

from conformance.member_process import ProcessCluster
from integration.durable.crash_load import RandomLoad
from temporal_server import TemporalServer

RUNS = 36
BOUND = 110.0
"""Seconds after which the test fails. Nothing depends on its length."""


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of random workflows: `STEPWAVE_TEST_SEED`, by default a new one. A failure reports it."""
    drawn = os.environ.get("STEPWAVE_TEST_SEED") or str(SystemRandom().randrange(1 << 32))
    request.node.add_report_section("call", "seed", f"STEPWAVE_TEST_SEED={drawn}\n")
    return drawn


@pytest.fixture
def durable_temporal(tmp_path: Path) -> Iterator[TemporalServer]:
    """A server of Temporal whose state survives its death."""
    with TemporalServer(tmp_path / "temporal.db") as temporal:
        yield temporal


@pytest.fixture
async def cluster(durable_temporal: TemporalServer, tmp_path: Path) -> AsyncIterator[ProcessCluster]:
    cluster = ProcessCluster(tmp_path, durable_temporal.address, "temporal_heartbeat_timeout=2")
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.kill()


class Kills:
    """Kills one process after the other, each once clients have seen more events."""

    def __init__(self, cluster: ProcessCluster, temporal: TemporalServer, load: RandomLoad) -> None:
        self._cluster = cluster
        self._temporal = temporal
        self._load = load

    async def once_each(self, events: int) -> None:
        """Kill and restart each kind of process."""
        for restart in (
            self._cluster.servers[0].restart,
            self._cluster.hosts[0].restart,
            self._restart_temporal,
            self._cluster.servers[1].restart,
            self._cluster.hosts[1].restart,
        ):
            await self._load.counter.wait_more(events)
            begun = time.monotonic()
            await restart()
            sys.stderr.write(f"{restart}: {time.monotonic() - begun:.1f} s, {self._load.counter.count} events\n")

    async def _restart_temporal(self) -> None:
        self._temporal.kill()
        await asyncio.to_thread(self._temporal.start)


@pytest.mark.timeout(150)
async def test_runs_lose_nothing_when_servers_hosts_and_temporal_are_killed(
    cluster: ProcessCluster, durable_temporal: TemporalServer, seed: str
) -> None:
    load = RandomLoad(cluster, seed, RUNS)
    states: Counter[str] = Counter()
    async with asyncio.timeout(BOUND):
        await load.run(Kills(cluster, durable_temporal, load).once_each(40))
        for server in cluster.servers:
            states = await load.check(server.address)
    assert sum(states.values()) == RUNS
