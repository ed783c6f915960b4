"""Servers of Stepwave with an MCP server."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from integration.server.raw_client import GUARD
from stepwave import JSON, AsyncClient, Failure, Retry, RunFailed, RunHandle, StepProgress, Workflow
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry import Telemetry

FOLDER = Path(__file__).parent

TOOLS = {"command": sys.executable, "args": [str(FOLDER / "tools_server.py")]}
"""The entry of the server with tools."""


def bad(*arguments: str) -> dict[str, object]:
    """Return the entry of the program that breaks the protocol."""
    return {"command": sys.executable, "args": ["-S", str(FOLDER / "bad_server.py"), *arguments]}


def entry_text(entry: Mapping[str, object], name: str = "tools") -> str:
    """Return a file with one MCP server."""
    return "\n".join([f"[mcp_servers.{name}]", *(f"{key} = {_toml(value)}" for key, value in entry.items())])


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)} = {_toml(item)}' for key, item in value.items())}}}"
    return json.dumps(value)


class Log(logging.Handler):
    """The log messages of a test."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self._more = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.getMessage()}\n"
        self._more.set()

    async def wait_for(self, text: str) -> str:
        """Wait for a line with a text, and return what follows the text in it."""
        async with asyncio.timeout(GUARD):
            while text not in self.text:
                self._more.clear()
                await self._more.wait()
        return self.text.partition(text)[2].partition("\n")[0]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """Return the log messages, from level info on."""
    caplog.set_level("INFO")
    handler = Log()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


class Connect(Protocol):
    """Starts a server of Stepwave with an MCP server, and returns a client."""

    async def __call__(self, **entry: object) -> AsyncClient: ...


@asynccontextmanager
async def serving(
    folder: Path, entry: Mapping[str, object], telemetry: Telemetry | None = None
) -> AsyncIterator[AsyncClient]:
    """Run a server of Stepwave with an MCP server, and yield a client."""
    file = folder / "mcp_servers.toml"
    file.write_text(entry_text(entry))
    settings = Settings(listen="127.0.0.1:0", entry_points=False, journal="memory", mcp_servers=file)
    async with Server(settings, telemetry=telemetry) as server, AsyncClient(server.address) as client:
        yield client


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        async def start(**entry: object) -> AsyncClient:
            return await stack.enter_async_context(serving(tmp_path, entry))

        yield start


def calling(tool: str, arguments: JSON = None, *, retry: Retry | None = None, timeout: float | None = None) -> Workflow:
    """Return a workflow of one call."""
    flow = Workflow("one")
    given = {"server": "tools", "tool": tool, "arguments": arguments}
    flow.step("only", "mcp.call", given, retry=retry, timeout=timeout)
    return flow


async def begun(run: RunHandle) -> None:
    """Read the events of a run up to its progress."""
    async with asyncio.timeout(GUARD):
        async for event in run:
            if isinstance(event, StepProgress):
                return


async def answer(client: AsyncClient, tool: str, arguments: JSON = None, *, retry: Retry | None = None) -> Any:
    """Call a tool, and return the output."""
    return (await client.run(calling(tool, arguments, retry=retry))).outputs["only"]


async def failure_of(client: AsyncClient, tool: str, arguments: JSON = None) -> Failure:
    """Call a tool that fails, and return why."""
    with pytest.raises(RunFailed) as caught:
        await client.run(calling(tool, arguments))
    return caught.value.result.failures[0]
