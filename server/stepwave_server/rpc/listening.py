"""Addresses that gRPC listens at: their form, binding, and the start of a server."""

import asyncio
import re
import socket

import grpc

__all__ = ["ListenError", "bind", "check_address", "check_metrics_address", "check_protection", "is_address", "start"]

ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):(\d+)")
MAX_PORT = 65535
LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")


class ListenError(Exception):
    """Raised when the server cannot listen at its address."""


def check_address(listen: str) -> None:
    """Check the form of an address.

    Raises:
        ListenError: It is neither `HOST:PORT` nor `unix:PATH`.
    """
    if not is_address(listen):
        raise ListenError(f"{listen!r} is not an address: expected HOST:PORT, such as 127.0.0.1:50051, or unix:PATH")


def is_address(listen: str) -> bool:
    """Return whether a text is `HOST:PORT` or `unix:PATH`."""
    if listen.startswith("unix:"):
        return listen != "unix:"
    found = ADDRESS.fullmatch(listen)
    return found is not None and int(found[1]) <= MAX_PORT  # gRPC takes a larger port modulo 65536


def check_protection(listen: str, *, encrypted: bool, insecure: bool) -> None:
    """Check that plain text stays on this machine, unless `insecure` is true.

    Raises:
        ListenError: It would not.
    """
    if not encrypted and not insecure and not listen.startswith(LOOPBACK):
        raise ListenError(
            f"{listen} is not loopback: encrypt with --tls-cert and --tls-key, or allow plain text with --insecure"
        )


def check_metrics_address(listen: str, *, insecure: bool) -> None:
    """Check the address of the metrics. Anyone who reaches it can read them.

    Args:
        listen: `HOST:PORT`; empty: there is none.
        insecure: Whether to allow addresses other than loopback.

    Raises:
        ListenError: It is malformed, or not loopback while `insecure` is false.
    """
    if listen and (listen.startswith("unix:") or not is_address(listen)):
        raise ListenError(f"{listen!r} is not an address for metrics: expected HOST:PORT, such as 127.0.0.1:9464")
    if listen and not insecure and not listen.startswith(LOOPBACK):
        raise ListenError(f"{listen} is not loopback: metrics are served there only with --insecure")


def bind(server: grpc.aio.Server, listen: str, credentials: grpc.ServerCredentials | None = None) -> str:
    """Bind an address, and return it with its port. Without credentials, it serves plain text.

    Raises:
        ListenError: The address cannot be bound.
    """
    if listen.startswith("unix:") and _is_served(listen.removeprefix("unix:")):
        raise ListenError(f"cannot listen at {listen}: it is in use")  # gRPC would replace the file
    try:
        port = server.add_insecure_port(listen) if credentials is None else server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        raise ListenError(f"cannot listen at {listen}: is it in use, or not an address of this machine?") from error
    return listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"


def _is_served(path: str) -> bool:
    """Return whether a process listens at a socket. The file that a dead process left is free."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path.removeprefix("//"))
        except BlockingIOError:  # it has too many connections to accept
            return True
        except OSError:
            return False
    return True


async def start(server: grpc.aio.Server) -> None:
    """Start a server. A cancellation takes effect once gRPC has started."""
    starting = asyncio.create_task(server.start())
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await starting  # gRPC cannot stop a server whose start was cancelled
        raise
