"""Addresses that gRPC listens at: their form, binding, and the start of a server."""

import asyncio
import re

import grpc

__all__ = ["ListenError", "bind", "check_address", "start"]

ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d+)")
MAX_PORT = 65535


class ListenError(Exception):
    """Raised when the server cannot listen at its address."""


def check_address(listen: str) -> None:
    """Check the form of an address.

    Raises:
        ListenError: It is neither `HOST:PORT` nor `unix:PATH`.
    """
    if not _is_address(listen):
        raise ListenError(f"{listen!r} is not an address: expected HOST:PORT, such as 127.0.0.1:50051, or unix:PATH")


def _is_address(listen: str) -> bool:
    if listen.startswith("unix:"):
        return listen != "unix:"
    found = ADDRESS.fullmatch(listen)
    return found is not None and int(found[1]) <= MAX_PORT  # gRPC takes a larger port modulo 65536


def bind(server: grpc.aio.Server, listen: str) -> str:
    """Bind an address in plain text, and return it with its port.

    Raises:
        ListenError: The address cannot be bound.
    """
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as error:
        raise ListenError(f"cannot listen at {listen}: is it in use, or not an address of this machine?") from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


async def start(server: grpc.aio.Server) -> None:
    """Start a server. A cancellation takes effect once gRPC has started."""
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await starting  # gRPC cannot stop a server whose start was cancelled
        raise
