"""A server for all tests of the command line, and shells with and without its address."""

from collections.abc import Iterator

import pytest

from integration.cli.shell import Shell, serving


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """Yield the address of a server with the test actions and workflows."""
    with serving("--actions", "tools", "--workflows", "flows", "--log-level", "error") as (address, server):
        yield address
        server.process.terminate()


@pytest.fixture
def shell(address: str) -> Shell:
    """Return a shell with the address of the server."""
    return Shell(address)


@pytest.fixture
def local_shell() -> Shell:
    """Return a shell without the address of a server."""
    return Shell()
