"""A server for all tests of the command line, and shells that know it."""

from collections.abc import Iterator

import pytest

from integration.cli.shell import Shell, serving


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Return the address of a server with the test actions and workflows."""
    with serving("--actions", "tools", "--workflows", "flows", "--log-level", "error") as (address, server):
        yield address
        server.process.terminate()


@pytest.fixture
def shell(address: str) -> Shell:
    """Return a shell whose commands find the server."""
    return Shell(address)


@pytest.fixture
def alone() -> Shell:
    """Return a shell whose commands know no server."""
    return Shell()
