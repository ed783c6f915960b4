"""Servers whose actions are elsewhere."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from integration.runnables.hosts import entry_text, hosting
from stepwave import AsyncClient
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry import Telemetry

ACTIONS = (
    "add",
    "negate",
    "same",
    "bytes_of",
    "count",
    "summed",
    "refuse",
    "talk",
    "told",
    "hold",
    "begin_of",
    "end_of",
    "large",
)


class Connect(Protocol):
    """Starts a server with a service of actions, and returns a client of the server."""

    async def __call__(self, address: str, *, telemetry: Telemetry | None = None, **entry: object) -> AsyncClient: ...


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    """Return the address of a host in another process."""
    with hosting() as (address, _):
        yield address


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def start(address: str, *, telemetry: Telemetry | None = None, **entry: object) -> AsyncClient:
            named = {} if any(key.startswith("actions") for key in entry) else {"actions": ACTIONS}
            file = tmp_path / "runnables.toml"
            file.write_text(entry_text("tools", {"address": address, **named, **entry}))
            settings = Settings(listen="127.0.0.1:0", entry_points=False, journal="memory", runnables=file)
            server = await stack.enter_async_context(Server(settings, telemetry=telemetry))
            return await stack.enter_async_context(AsyncClient(server.address))

        yield start


@pytest.fixture
async def client(connect: Connect, host: str) -> AsyncClient:
    """Return a client of a server whose actions are on the host."""
    return await connect(host)
