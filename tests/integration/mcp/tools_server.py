"""An MCP server over standard input and output, with a tool for each thing that a test looks at."""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp_types import TextContent

server = MCPServer("tools")


@server.tool()
def add(left: int, right: int) -> dict[str, int]:
    """Add two numbers."""
    return {"sum": left + right}


@server.tool()
def lines(count: int) -> list[TextContent]:
    """Return blocks of text."""
    return [TextContent(text=f"line {number}") for number in range(count)]


@server.tool()
def picture() -> Image:
    """Return a picture."""
    return Image(data=b"\x89PNG", format="png")


@server.tool()
def mixed() -> list[object]:
    """Return text and a picture."""
    return ["seen", Image(data=b"\x89PNG", format="png")]


@server.tool(structured_output=False)
def nothing() -> None:
    """Return nothing."""


@server.tool()
def refuse() -> str:
    """Fail."""
    raise ValueError("no more tickets")


@server.tool()
async def told(context: Context) -> dict[str, object]:
    """Return what came with the call, and this process."""
    meta = dict(context.request_context.meta or {})
    return {"meta": meta, "pid": os.getpid(), "variables": sorted(os.environ)}


@server.tool(structured_output=False)
def variable(name: str) -> str:
    """Return an environment variable."""
    return os.environ.get(name, "")


@server.tool()
async def steps(context: Context) -> str:
    """Report progress."""
    await context.report_progress(1, 2, "half")
    await context.report_progress(3, None, "more")
    await context.report_progress(2, 2, "done")
    return "stepped"


@server.tool()
async def hold(folder: str, context: Context) -> str:
    """Write `begun` into a folder, wait without end, and write `cancelled` when that is cancelled."""
    place = Path(folder)
    await context.report_progress(0, 1, "begun")
    try:
        await asyncio.Event().wait()
    finally:
        (place / "cancelled").touch()
    return ""


@server.tool()
async def ask(context: Context) -> str:
    """Ask the client for its roots."""
    roots = await context.session.list_roots()
    return str(roots)


@server.tool()
def large(size: int) -> str:
    """Return a large text."""
    return "x" * size


@server.tool()
def end(code: int) -> None:
    """End the process."""
    os._exit(code)


@server.tool()
def say(text: str) -> str:
    """Write to standard error."""
    print(text, file=sys.stderr, flush=True)
    return "said"


if __name__ == "__main__":
    server.run()
