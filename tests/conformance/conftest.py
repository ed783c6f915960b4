"""Servers and hosts that share a task queue, as processes."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import SystemRandom
from uuid import uuid4

import pytest

from conformance.member_process import ProcessCluster
from conformance.processes import Cluster
from temporal_server import TemporalServer


@pytest.fixture
def cluster(temporal_server: TemporalServer, tmp_path: Path) -> Cluster:
    """Return a shell for servers and hosts that share a task queue of their own."""
    return Cluster(temporal_server.address, f"queue-{uuid4().hex[:8]}", tmp_path)


@pytest.fixture
def durable_temporal(tmp_path: Path) -> Iterator[TemporalServer]:
    """A server of Temporal for one test, whose state survives its death."""
    with TemporalServer(tmp_path / "temporal.db") as temporal:
        yield temporal


@pytest.fixture
async def members(durable_temporal: TemporalServer, tmp_path: Path) -> AsyncIterator[ProcessCluster]:
    """Two servers and two hosts that run, as processes that a test kills."""
    cluster = ProcessCluster(tmp_path, durable_temporal.address, "temporal_heartbeat_timeout=2")
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.kill()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    """The seed of random workflows and moments: `STEPWAVE_TEST_SEED`, by default a new one. A failure reports it."""
    drawn = os.environ.get("STEPWAVE_TEST_SEED") or str(SystemRandom().randrange(1 << 32))
    request.node.add_report_section("call", "seed", f"STEPWAVE_TEST_SEED={drawn}\n")
    return drawn
