"""The client of an agent, as a test uses it: on a thread of its own, with the process that it starts."""

import asyncio
import sys
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeAlias, TypeVar

from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import CallToolResult, TextContent, Tool

__all__ = ["FOLDER", "Agent", "Progress", "text_of"]

FOLDER = Path(__file__).parent
_STEPWAVE = str(Path(sys.executable).parent / "stepwave")

Progress: TypeAlias = tuple[float, float | None, str | None]
"""The steps that have ended, those that are known, and a message."""

T = TypeVar("T")


class Agent:
    """An MCP client that starts `stepwave mcp`. Enter it.

    Args:
        arguments: The arguments of the command, beside the folder of workflows.
        workflows: That folder.
    """

    def __init__(self, *arguments: str, workflows: str = "flows") -> None:
        self._arguments = arguments
        self._workflows = workflows
        self._errors = tempfile.TemporaryFile("a+", encoding="utf-8")  # noqa: SIM115 - open until the agent ends
        self._loop = asyncio.new_event_loop()
        self._entered: Future[Client] = Future()
        self._left = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._hold()])

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._client = self._entered.result()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._left.set)
        self._thread.join()
        self._loop.close()
        self._errors.close()

    def errors(self) -> str:
        """Return what the process has written to standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def tools(self) -> dict[str, Tool]:
        """Return the tools by name."""
        return {tool.name: tool for tool in self._submit(self._client.list_tools()).result().tools}

    def call(self, name: str, arguments: Mapping[str, Any] | None = None) -> CallToolResult:
        """Call a tool, and return its answer."""
        return self.start(name, arguments).result()

    def start(
        self, name: str, arguments: Mapping[str, Any] | None = None, progress: list[Progress] | None = None
    ) -> Future[CallToolResult]:
        """Start the call of a tool, which can be cancelled. Progress is added to a list."""
        received: list[Progress] = [] if progress is None else progress

        async def report(progress: float, total: float | None, message: str | None) -> None:
            received.append((progress, total, message))

        callback = None if progress is None else report
        return self._submit(self._client.call_tool(name, dict(arguments or {}), progress_callback=callback))

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _hold(self) -> None:
        command = ["mcp", "--workflows", self._workflows, *self._arguments]
        process = StdioServerParameters(command=_STEPWAVE, args=command, cwd=FOLDER)
        try:
            async with Client(stdio_client(process, errlog=self._errors)) as client:
                self._entered.set_result(client)
                await self._left.wait()
        except BaseException as error:
            if self._entered.done():
                raise
            self._entered.set_exception(error)


def text_of(answer: CallToolResult) -> str:
    """Return the only content of an answer, which is a text."""
    (content,) = answer.content
    assert isinstance(content, TextContent)
    return content.text
