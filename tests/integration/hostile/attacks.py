"""What hostile clients do to a server: watch and never read, connect and never speak, reset what they have begun."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import cycle, islice

import grpc

from integration.server.stalled_client import PREFACE, StalledClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import orchestrator_pb2_grpc

__all__ = [
    "EMPTY_SETTINGS",
    "SERVE",
    "allow_connections",
    "open_connections",
    "reset_streams",
    "slow_streams",
    "stalled_watchers",
]

SERVE = ("-m", "stepwave", "serve", "--listen", "127.0.0.1:0", "--journal", "memory", "--log-level", "warning")
"""The arguments of the interpreter that start a server to attack."""

WATCH = "/stepwave.v1.OrchestratorService/WatchRun"

EMPTY_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
"""The frame that ends the preface of a client (RFC 9113, 3.4)."""

SPARE = 200
"""File descriptors of a process beside its connections."""


@asynccontextmanager
async def stalled_watchers(address: str, run_id: str, count: int, *, connections: int = 10) -> AsyncIterator[None]:
    """Watch a run by many streams that are never read, over some connections. All are answered when it begins."""
    clients = [await StalledClient.connect(address) for _ in range(connections)]
    try:
        request = pb.WatchRunRequest(run_id=run_id).SerializeToString()
        for client in islice(cycle(clients), count):
            client.call(WATCH, request)
        for client in clients:
            await client.wait_answered()
        yield
    finally:
        for client in clients:
            await client.wait_closed()


def allow_connections(count: int) -> int:
    """Let this process, and those that it starts, open many connections. Return how many they may open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return count if hard == resource.RLIM_INFINITY else min(count, hard - SPARE)


@contextmanager
def open_connections(address: str, count: int, *, preface: bool) -> Iterator[list[socket.socket]]:
    """Open connections, and send nothing, or only what begins HTTP/2."""
    host, _, port = address.rpartition(":")
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(count)]
        if preface:
            for each in opened:
                each.sendall(PREFACE + EMPTY_SETTINGS)
        yield opened


@asynccontextmanager
async def slow_streams(address: str, run_id: str, count: int, *, pause: float = 1.0) -> AsyncIterator[None]:
    """Watch a run by many streams that read a message after each pause, again and again. All have begun then."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 16)]
    begun = asyncio.Semaphore(0)
    async with grpc.aio.insecure_channel(address, options=options) as channel, asyncio.TaskGroup() as tasks:
        stub = orchestrator_pb2_grpc.OrchestratorServiceStub(channel)

        async def watch() -> None:
            while True:
                async for _ in stub.WatchRun(pb.WatchRunRequest(run_id=run_id)):
                    begun.release()
                    await asyncio.sleep(pause)

        watches = [tasks.create_task(watch()) for _ in range(count)]
        for _ in watches:
            await begun.acquire()
        yield
        for each in watches:
            each.cancel()


async def reset_streams(address: str, run_id: str, count: int, *, at_once: int = 100, pause: float = 0.0) -> None:
    """Begin streams and reset them at once, on one connection, with a pause after each few."""
    request = pb.WatchRunRequest(run_id=run_id).SerializeToString()
    client = await StalledClient.connect(address)
    try:
        for _ in range(0, count, at_once):
            for _ in range(at_once):
                client.call(WATCH, request)
            client.cancel()
            await client.drain()
            await asyncio.sleep(pause)
    finally:
        await client.wait_closed()
