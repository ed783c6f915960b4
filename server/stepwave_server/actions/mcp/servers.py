"""The MCP servers that the configuration names, and the actions `mcp.call` and `mcp.list`."""

import asyncio
import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from typing_extensions import TypedDict

from stepwave._actions.action import action
from stepwave._actions.context import Context
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.known import MCP_CALL, MCP_LIST
from stepwave_server.actions.mcp.entry import McpServer, ReadSecrets
from stepwave_server.actions.registry import Action
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.core.model import Reason
from stepwave_server.core.validate import did_you_mean

if TYPE_CHECKING:
    from stepwave_server.actions.mcp.connection import Connection

__all__ = ["McpServers"]

_CONNECTION = "stepwave_server.actions.mcp.connection"


class ToolDescription(TypedDict):
    """The description of a tool in the output of `mcp.list`."""

    name: str
    description: str
    input_schema: dict[str, object]


Server = Annotated[str, Field(description="The name of the MCP server in the server's configuration.")]


class McpServers:
    """The MCP servers that the configuration names, and the sessions with them. Each is opened by its first call.

    Args:
        servers: The servers.
        secrets: Returns the values of the secrets that they get.
        max_bytes: Maximum size of an output in bytes.

    Attributes:
        servers: The servers.
    """

    def __init__(self, servers: Iterable[McpServer], secrets: ReadSecrets, max_bytes: int) -> None:
        self.servers = tuple(servers)
        self._servers = {it.name: it for it in self.servers}
        self._secrets = secrets
        self._max_bytes = max_bytes
        self._connections: dict[str, Connection] = {}
        self._closed = False

    def actions(self) -> list[Action]:
        """Return `mcp.call` and `mcp.list`; none without servers."""
        if not self._servers:
            return []
        return [
            Action.of(self.call_tool, source="built-in"),
            Action.of(self.list_tools, source="built-in", answer=list[ToolDescription]),
        ]

    async def close(self) -> None:
        """End all sessions, and the processes of servers."""
        self._closed = True
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))

    @action(MCP_CALL)
    async def call_tool(
        self,
        server: Server,
        tool: Annotated[str, Field(min_length=1, description="The name of the tool there.")],
        context: Context,
        arguments: Annotated[dict[str, object] | None, Field(description="The arguments of the tool.")] = None,
    ) -> object:
        """Call a tool of an MCP server, and answer with its structured content, else with its text or its blob.

        The output is the structured content if there is one. If images, audio or resources are beside it, the output
        has it as structuredContent, and all blocks as content. Otherwise it is the text, with newlines between blocks
        of text. One image, audio or binary resource alone is a blob. Anything else is the list of blocks, as the
        protocol writes them; no block at all is null. An error of the tool is a failure with its text.
        """
        connection = await self._connection(server)
        return await connection.call(tool, arguments or {}, context)

    @action(MCP_LIST, idempotent=True)
    async def list_tools(self, server: Server) -> object:
        """List the tools of an MCP server: the name, the description and the input_schema of each."""
        connection = await self._connection(server)
        return await connection.tools()

    async def _connection(self, name: str) -> "Connection":
        """Return the connection to a server. The first call imports the package `mcp`, on a thread.

        Raises:
            ActionFailed: There is no such server.
        """
        server = self._servers.get(name)
        if server is None:
            known = self._servers.keys()
            hint = did_you_mean(name, known) or f"; this server has {', '.join(sorted(known))}"
            raise ActionFailed(Reason.NOT_FOUND, f'unknown MCP server "{name}"{hint}')
        if name not in self._connections:
            module = await run_in_thread(importlib.import_module, _CONNECTION)
            if self._closed:
                raise ActionFailed(Reason.UNAVAILABLE, "this server is stopping", retryable=True)
            self._connections.setdefault(name, module.Connection(server, self._secrets, self._max_bytes))
        return self._connections[name]
