"""A server in this process, and an agent's client of `stepwave mcp`, which runs workflows there."""

from collections.abc import Iterator

import pytest

from integration.mcp_server import actions
from integration.mcp_server.agent import Agent
from stepwave.testing import serve


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Yield the address of a server with the test actions."""
    with serve([actions]) as address:
        yield address


@pytest.fixture(scope="session")
def agent(address: str) -> Iterator[Agent]:
    """Yield a client of `stepwave mcp`, with all workflows of the folder `flows`."""
    with Agent("--server", address) as agent:
        yield agent
