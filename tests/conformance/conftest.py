"""Servers and hosts that share a task queue, as processes."""

from pathlib import Path
from uuid import uuid4

import pytest

from conformance.processes import Cluster
from temporal_server import TemporalServer


@pytest.fixture
def cluster(temporal_server: TemporalServer, tmp_path: Path) -> Cluster:
    """Return a shell for servers and hosts that share a task queue of their own."""
    return Cluster(temporal_server.address, f"queue-{uuid4().hex[:8]}", tmp_path)
