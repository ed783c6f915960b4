"""An MCP server with a tool for each thing that a test looks at. A program speaks over standard streams."""

import asyncio
import os
import sys

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import BlobResourceContents, CallToolResult, EmbeddedResource, ImageContent, TextContent

__all__ = ["new_server"]


def report(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def new_server() -> MCPServer:
    """Return a server."""
    server = MCPServer("tools", log_level="CRITICAL")

    @server.tool()
    def add(left: int, right: int) -> dict[str, int]:
        """Add two numbers."""
        return {"sum": left + right}

    @server.tool()
    def lines(count: int) -> CallToolResult:
        """Return blocks of text."""
        return CallToolResult(content=[TextContent(text=f"line {number}") for number in range(count)])

    @server.tool()
    def picture() -> Image:
        """Return a picture."""
        return Image(data=b"\x89PNG", format="png")

    @server.tool()
    def resource() -> CallToolResult:
        """Return a binary resource."""
        contents = BlobResourceContents(uri="file:///a", blob="AAE=")
        return CallToolResult(content=[EmbeddedResource(resource=contents)])

    @server.tool()
    def mixed(structured: dict[str, int] | None = None) -> CallToolResult:
        """Return text and a picture, and structured content if it is given."""
        picture = ImageContent(data="AAE=", mime_type="image/png")
        return CallToolResult(content=[TextContent(text="seen"), picture], structured_content=structured)

    @server.tool()
    def refuse() -> str:
        """Fail."""
        raise ToolError("no more tickets")

    @server.tool()
    async def told(context: Context) -> dict[str, object]:
        """Return what came with the call, and the process."""
        meta = dict(context.request_context.meta or {})
        return {"meta": meta, "process": os.getpid(), "variables": sorted(os.environ)}

    @server.tool(structured_output=False)
    def variable(name: str) -> str:
        """Return an environment variable, and write it to standard error."""
        report(f"{name} is {os.environ.get(name)}")
        return f"It is {os.environ.get(name)}."

    @server.tool(structured_output=False)
    async def stepped(context: Context) -> str:
        """Report progress."""
        await context.report_progress(1, 2, "half")
        await context.report_progress(3, None, "more")
        await context.report_progress(5, 4, "beyond")
        return "stepped"

    @server.tool(structured_output=False)
    async def hold(context: Context) -> str:
        """Report that it has begun, wait without end, and write to standard error when that is cancelled."""
        await context.report_progress(0, 1, "begun")
        try:
            await asyncio.Event().wait()
        finally:
            report("hold was cancelled")
        return ""

    @server.tool(structured_output=False)
    def large(size: int) -> str:
        """Return a large text."""
        return "x" * size

    return server


if __name__ == "__main__":
    new_server().run()
