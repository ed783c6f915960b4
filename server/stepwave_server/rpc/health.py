"""Health checks by gRPC's protocol (`grpc.health.v1`): whether calls should be sent here, asked once or watched."""

import asyncio
from typing import TypeAlias

import grpc
from google.protobuf.message import Message
from grpc.aio import ServicerContext
from grpc_health.v1 import health_pb2

__all__ = ["HEALTH", "Health"]

HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

Request: TypeAlias = health_pb2.HealthCheckRequest
Response: TypeAlias = health_pb2.HealthCheckResponse
Context: TypeAlias = ServicerContext[Message, Message]


class Health:
    """The states of services, and those who watch them.

    `grpc_health`'s own servicer writes to its watchers while it holds a lock that the next state needs: one that stops
    reading keeps a server from draining. And one that leaves makes the others of its service deaf. Here every watcher
    has a flag of its own.

    Args:
        names: The services.
    """

    def __init__(self, *names: str) -> None:
        self._states = dict.fromkeys(names, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._flags: set[asyncio.Event] = set()
        self._closed = False

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what serves the protocol."""
        reads, writes = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, reads, writes),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, reads, writes),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    def set_serving(self, *, serving: bool) -> None:
        """Tell whether calls should be sent here; never again, once it is closed."""
        if self._closed:
            return
        kind = health_pb2.HealthCheckResponse
        self._states = dict.fromkeys(self._states, kind.SERVING if serving else kind.NOT_SERVING)
        self._tell()

    def close(self) -> None:
        """Say that no calls should be sent here, and end every watch: a server that stops waits for its streams."""
        self.set_serving(serving=False)
        self._closed = True
        self._tell()

    def _tell(self) -> None:
        for flag in self._flags:
            flag.set()

    async def _check(self, request: Request, context: Context) -> Response:
        state = self._states.get(request.service)
        if state is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f'there is no service "{request.service}"')
        return health_pb2.HealthCheckResponse(status=state)

    async def _watch(self, request: Request, context: Context) -> None:
        """Write the state, and every other one that follows; of states in quick succession, the newest."""
        flag = asyncio.Event()
        self._flags.add(flag)
        try:
            said = None
            while True:
                flag.clear()
                state = self._states.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
                if state != said:
                    await context.write(health_pb2.HealthCheckResponse(status=state))
                    said = state
                elif self._closed:
                    return
                else:
                    await flag.wait()
        finally:
            self._flags.discard(flag)
