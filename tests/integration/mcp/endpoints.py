"""MCP servers over HTTP: one of the library, and one by hand whose answers to calls are a test's."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import uvicorn

from integration.mcp.tools_server import new_server
from integration.server.http_service import Exchange, Handler, HttpService, answer, as_json

__all__ = ["EVENTS", "OnCall", "events", "result", "served_tools", "speak"]

SESSION = {"Mcp-Session-Id": "session-1"}

EVENTS = {"Content-Type": "text/event-stream", "Connection": "close"}

OnCall: TypeAlias = Callable[[Exchange, Any], Awaitable[None]]
"""Answers a call. Its arguments are the exchange and the id of the call."""


@asynccontextmanager
async def served_tools() -> AsyncIterator[str]:
    """Serve the tools, and yield their URL."""
    config = uvicorn.Config(new_server().streamable_http_app(), port=0, log_level="critical", lifespan="on")
    server = uvicorn.Server(config)
    sockets = [config.bind_socket()]
    task = asyncio.create_task(server.serve(sockets))
    try:
        yield f"http://127.0.0.1:{sockets[0].getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        await task


def speak(service: HttpService, on_call: OnCall, path: str = "/mcp") -> str:
    """Let a service speak the protocol with sessions at a path, and return the URL."""

    async def handle(exchange: Exchange) -> None:
        if exchange.request.method != "POST":
            await answer(405)(exchange)
            return
        message = json.loads(exchange.request.body)
        match message["method"]:
            case "initialize":
                served = {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {},
                    "serverInfo": {"name": "h", "version": "1"},
                }
                await result(message["id"], served, SESSION)(exchange)
            case "tools/call":
                await on_call(exchange, message["id"])
            case "tools/list":
                await result(message["id"], {"tools": []})(exchange)
            case "server/discover":
                await answer(400)(exchange)
            case _:
                await answer(202)(exchange)

    service.handlers[path] = handle
    return service.url(path)


def result(number: Any, value: object, headers: dict[str, str] | None = None) -> Handler:
    """Return a handler that answers a request."""
    return as_json({"jsonrpc": "2.0", "id": number, "result": value}, headers=headers)


def text(number: Any, words: str) -> Handler:
    """Return a handler that answers a call with text."""
    return result(number, {"content": [{"type": "text", "text": words}]})


def events(*messages: object) -> bytes:
    """Return messages as events."""
    return b"".join(b"event: message\ndata: %b\n\n" % json.dumps(message).encode() for message in messages)
