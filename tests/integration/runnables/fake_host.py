"""A host that sends whatever a test says, in the event loop of the test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from grpc.aio import ServicerContext

from stepwave.v1 import event_pb2, payload_pb2, run_pb2, runnable_pb2
from stepwave_server.rpc.health import Health

__all__ = ["FakeHost", "Said", "chunk", "failure", "output", "progress", "serving_fake"]

SERVICE = "stepwave.v1.RunnableService"

Context: TypeAlias = ServicerContext[Any, Any]
Said: TypeAlias = runnable_pb2.StreamResponse | bytes | Exception
"""A message, bytes that are none, or an error that the handler raises."""


def chunk(json: str) -> runnable_pb2.StreamResponse:
    return runnable_pb2.StreamResponse(chunk=payload_pb2.Payload(json=json))


def output(json: str) -> runnable_pb2.StreamResponse:
    return runnable_pb2.StreamResponse(output=payload_pb2.Payload(json=json))


def log(level: int, message: str) -> runnable_pb2.StreamResponse:
    """A message that the action logs."""
    return runnable_pb2.StreamResponse(log=runnable_pb2.Log(level=event_pb2.LogLevel.ValueType(level), message=message))


def progress(fraction: float) -> runnable_pb2.StreamResponse:
    return runnable_pb2.StreamResponse(progress=runnable_pb2.Progress(fraction=fraction))


def failure(reason: int, message: str) -> runnable_pb2.StreamResponse:
    return runnable_pb2.StreamResponse(failure=run_pb2.Failure(reason=reason, message=message))  # type: ignore[arg-type]  # any number


class FakeHost:
    """What a host says, and what it was asked.

    Attributes:
        says: What it sends for an attempt.
        stays: Whether a stream stays open after that.
        left: Set when the caller has left a stream that stayed open.
        asked: The attempts that it was asked for.
        health: Its health.
        address: Its address.
    """

    def __init__(self) -> None:
        self.says: Iterable[Said] = ()
        self.stays = False
        self.left = asyncio.Event()
        self.asked: list[runnable_pb2.Attempt] = []
        self.health = Health("")
        self.health.set_serving(serving=True)
        self.address = ""

    async def stream(self, request: runnable_pb2.StreamRequest, context: Context) -> None:
        self.asked.append(request.attempt)
        for said in self.says:
            if isinstance(said, Exception):
                raise said
            await context.write(said)
        if self.stays:
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()


def _bytes(said: Any) -> bytes:
    return said if isinstance(said, bytes) else bytes(said.SerializeToString())


@asynccontextmanager
async def serving_fake(
    listen: str = "127.0.0.1:0",
    credentials: grpc.ServerCredentials | None = None,
    prepare: Callable[[FakeHost], None] = lambda host: None,
    *,
    health: bool = True,
) -> AsyncIterator[FakeHost]:
    """Serve such a host."""
    host = FakeHost()
    prepare(host)
    handler = grpc.unary_stream_rpc_method_handler(host.stream, runnable_pb2.StreamRequest.FromString, _bytes)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Stream": handler}),))
    if health:
        server.add_generic_rpc_handlers((host.health.handler(),))
    port = server.add_secure_port(listen, credentials) if credentials else server.add_insecure_port(listen)
    host.address = f"{listen.rpartition(':')[0]}:{port}"
    await server.start()
    try:
        yield host
    finally:
        await server.stop(0)
