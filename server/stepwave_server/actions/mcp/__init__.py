"""Tools of MCP servers: where the servers are, the sessions with them, and the actions `mcp.call` and `mcp.list`.

The package `mcp` is imported with the first call: only `connection`, and what it imports, need it.
"""

from stepwave_server.actions.mcp.entry import HttpServer, McpServer, SecretValue, StdioServer
from stepwave_server.actions.mcp.servers import McpServers

__all__ = ["HttpServer", "McpServer", "McpServers", "SecretValue", "StdioServer"]
