"""Waits for the health status of a server."""

import asyncio

from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.server.raw_client import GUARD, RawClient

__all__ = ["wait_for_health"]

State = health_pb2.HealthCheckResponse.ServingStatus


async def wait_for_health(client: RawClient, state: str) -> None:
    """Wait until a server reports `SERVING` or `NOT_SERVING`."""
    watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest())
    async with asyncio.timeout(GUARD):
        while State.Name((await watch.read()).status) != state:
            pass
    watch.cancel()
