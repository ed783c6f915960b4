"""What health checks say, to wait for."""

import asyncio

from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.server.caller import GUARD, Caller

__all__ = ["becomes"]

State = health_pb2.HealthCheckResponse.ServingStatus


async def becomes(caller: Caller, state: str) -> None:
    """Wait until a server says that it is `SERVING`, or `NOT_SERVING`."""
    watch = health_pb2_grpc.HealthStub(caller.channel).Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(GUARD):
        while State.Name((await watch.read()).status) != state:
            pass
    watch.cancel()
