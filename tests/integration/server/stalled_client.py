"""A client that never reads a response: HTTP/2 by hand, with flow-control windows of zero. The server has to wait.

Headers are exempt from flow control (RFC 9113, 5.2): the initial metadata of a call shows that the server is about to
send its response.
"""

import asyncio
import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from itertools import count

from integration.server.raw_client import GUARD

__all__ = ["StalledClient"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE, CANCEL = 4, 8


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _fields(fields: Mapping[str, str]) -> bytes:
    """Encode header fields as literals that are not indexed (RFC 7541, 6.2.2)."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields.items())


def _text(value: str) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()


class StalledClient:
    """One connection of a client that never reads a response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._streams = count(1, 2)
        self._open: list[int] = []
        writer.write(PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)))

    @classmethod
    async def connect(cls, address: str) -> "StalledClient":
        """Connect to a server."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def call(self, path: str, request: bytes, *, timeout: str = "") -> None:
        """Make a call; `timeout` is its deadline in the notation of gRPC, such as `100m` for 100 ms."""
        stream = next(self._streams)
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "te": "trailers"}
        fields |= {"content-type": "application/grpc"} | ({"grpc-timeout": timeout} if timeout else {})
        message = struct.pack(">BI", 0, len(request)) + request
        self._writer.write(_frame(HEADERS, END_HEADERS, stream, _fields(fields)))
        self._writer.write(_frame(DATA, END_STREAM, stream, message))
        self._open.append(stream)

    async def wait_answered(self) -> None:
        """Wait until the server has begun to answer every call, or has ended it."""
        waiting = set(self._open)
        async with asyncio.timeout(GUARD):
            while waiting:
                head = await self._reader.readexactly(9)
                (length,) = struct.unpack(">I", b"\0" + head[:3])
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                await self._reader.readexactly(length)
                if kind == SETTINGS and not flags & ACK:
                    self._writer.write(_frame(SETTINGS, ACK, 0))
                elif kind in (HEADERS, RST_STREAM):
                    waiting.discard(stream)

    def cancel(self) -> None:
        """Cancel every call, and keep the connection open."""
        for stream in self._open:
            self._writer.write(_frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))
        self._open.clear()

    async def drain(self) -> None:
        """Wait until the connection takes more."""
        await self._writer.drain()

    def close(self) -> None:
        """Close the connection cleanly."""
        self._writer.close()

    async def wait_closed(self) -> None:
        """Abort the connection if it is still open, and wait until it is closed."""
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def reset(self) -> None:
        """Reset the connection, as the end of a process with unread data does."""
        sock: socket.socket = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
