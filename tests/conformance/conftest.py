"""A development server of Temporal for each test process."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from conformance.processes import Cluster
from temporal_server import TemporalServer


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """Start a development server of Temporal, once for each test process."""
    with TemporalServer() as server:
        yield server


@pytest.fixture
def cluster(temporal_server: TemporalServer, tmp_path: Path) -> Cluster:
    """Return a shell for servers and hosts that share a task queue of their own."""
    return Cluster(temporal_server.address, f"queue-{uuid4().hex[:8]}", tmp_path)
