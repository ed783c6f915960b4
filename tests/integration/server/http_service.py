"""A real HTTP service on loopback for the actions that call one. Each path has a handler, which may misbehave."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Exchange", "Handler", "HttpService", "Received", "answer", "as_json", "http_service"]


@dataclass(frozen=True, slots=True)
class Received:
    """A request. The names of header fields are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Exchange:
    """One request on a connection, and the way to answer it."""

    def __init__(self, request: Received, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes of the response."""
        self.writer.write(data)
        await self.writer.drain()

    async def send_chunk(self, data: bytes) -> None:
        """Send a chunk of a response with `Transfer-Encoding: chunked`; an empty one ends it."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))


Handler: TypeAlias = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class HttpService:
    """A service.

    Attributes:
        port: Its port.
        handlers: What answers, by the path.
        requests: What came, in order.
        connections: How many connections there were.
        closed: Set when a connection has ended.
        transports: Those of all connections.
        encrypted: Whether it speaks TLS.
    """

    port: int = 0
    encrypted: bool = False
    handlers: dict[str, Handler] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    transports: set[asyncio.WriteTransport] = field(default_factory=set)
    tasks: set["asyncio.Task[None] | None"] = field(default_factory=set)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        self.transports.add(writer.transport)
        self.tasks.add(asyncio.current_task())
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                await self.handlers[request.target.partition("?")[0]](Exchange(request, writer))
        except (OSError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed.set()
            self.tasks.discard(asyncio.current_task())
            writer.transport.abort() if self.encrypted else writer.close()  # TLS waits for the other side's end


@asynccontextmanager
async def http_service(
    host: str = "127.0.0.1", port: int = 0, context: ssl.SSLContext | None = None
) -> AsyncIterator[HttpService]:
    """Run a service at an address, by default on a port of its own."""
    service = HttpService(encrypted=context is not None)
    server = await asyncio.start_server(service.serve, host, port, ssl=context)
    service.port = server.sockets[0].getsockname()[1]
    try:
        yield service
    finally:
        server.close()
        for task in list(service.tasks):
            assert task is not None
            task.cancel()
            await asyncio.wait([task])
        for transport in service.transports:  # one that is closed may still wait for its caller to read
            transport.abort()
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(method, target, headers, body)


def answer(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Handler:
    """Return a handler that gives one response."""
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())

    async def handle(exchange: Exchange) -> None:
        without_body = exchange.request.method == "HEAD" or status == 304
        await exchange.send(f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + (b"" if without_body else body))

    return handle


def as_json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Handler:
    """Return a handler that answers with JSON."""
    return answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})
