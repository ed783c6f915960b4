"""Health checks by gRPC's protocol (`grpc.health.v1`), for one answer or as a watch."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2

from stepwave_server.rpc.listening import bind, check_address, start

__all__ = ["HEALTH", "LIVENESS", "Health", "served"]

logger = logging.getLogger(__name__)

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

LIVENESS = "liveness"
"""The name under which the server reports that it answers at all, also while it takes no new runs.

An orchestrator of containers restarts what is not live. That would not help a server that drains, or whose journal or
Temporal fails.
"""

Request: TypeAlias = health_pb2.HealthCheckRequest
Response: TypeAlias = health_pb2.HealthCheckResponse
Context: TypeAlias = ServicerContext[Message, Message]


class Health:
    """The health of services, and their watchers.

    `grpc_health`'s own servicer writes to its watchers under the lock that a change of state needs, so a watcher that
    stops reading keeps the server from draining. And a watcher that leaves ends the notifications of the others. Here
    every watcher has an event of its own.

    Args:
        names: Names of the services. `LIVENESS` is one more.
    """

    def __init__(self, *names: str) -> None:
        response = health_pb2.HealthCheckResponse
        self._names = names
        self._states = {**dict.fromkeys(names, response.NOT_SERVING), LIVENESS: response.SERVING}
        self._watchers: set[asyncio.Event] = set()
        self._closed = False

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of the protocol."""
        parse, serialize = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, parse, serialize),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, parse, serialize),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def set_serving(self, *, serving: bool) -> None:
        """Set whether calls should be sent here. Does nothing once closed."""
        if self._closed:
            return
        response = health_pb2.HealthCheckResponse
        state = response.SERVING if serving else response.NOT_SERVING
        self._states = {**self._states, **dict.fromkeys(self._names, state)}
        self._notify()

    def close(self) -> None:
        """Report `NOT_SERVING` and end every watch, because a server that stops waits for its streams."""
        self.set_serving(serving=False)
        self._closed = True
        self._notify()

    def _notify(self) -> None:
        for changed in self._watchers:
            changed.set()

    async def _check(self, request: Request, context: Context) -> Response:
        state = self._states.get(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'there is no service "{request.service}"')
        return health_pb2.HealthCheckResponse(status=state)

    async def _watch(self, request: Request, context: Context) -> None:
        """Write the state, then every change. Of changes in quick succession, only the newest is written."""
        changed = asyncio.Event()
        self._watchers.add(changed)
        try:
            sent = None
            while True:
                changed.clear()
                state = self._states.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
                if state != sent:
                    await context.write(health_pb2.HealthCheckResponse(status=state))
                    sent = state
                elif self._closed:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers.discard(changed)


@asynccontextmanager
async def served(health: Health, listen: str) -> AsyncIterator[None]:
    """Answer health checks at an address of their own while inside, in plain text.

    Args:
        health: The health.
        listen: `HOST:PORT` or `unix:PATH`; empty: nowhere.

    Raises:
        ListenError: The address is malformed, or cannot be bound.
    """
    if not listen:
        yield
        return
    check_address(listen)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((health.handler(),))
    address = bind(server, listen)
    try:
        await start(server)
        logger.info("health checks are answered at %s", address)
        yield
    finally:
        health.close()
        await server.stop(0)
