"""A development server of Temporal for each test process."""

from collections.abc import Iterator

import pytest

from temporal_server import TemporalServer


@pytest.fixture(scope="session")
def temporal_server() -> Iterator[TemporalServer]:
    """Start a development server of Temporal, once for each test process."""
    with TemporalServer() as server:
        yield server
