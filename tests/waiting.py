"""Bounded waits for what becomes true some time later, on another server or in Temporal."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import repeat

from stepwave import AsyncClient, InvalidWorkflow, Workflow
from stepwave.v1 import workflow_pb2

__all__ = ["accepts", "until"]


async def until(ask: Callable[[], Awaitable[bool]], seconds: float = 20) -> None:
    """Ask until the answer is true.

    Raises:
        TimeoutError: It was not true within so many seconds.
    """
    async with asyncio.timeout(seconds):
        for pause in repeat(0.05):
            if await ask():
                return
            await asyncio.sleep(pause)


async def accepts(client: AsyncClient, flow: Workflow | workflow_pb2.Workflow) -> bool:
    """Return whether the server of a client accepts a workflow."""
    try:
        await client.plan(flow)
    except InvalidWorkflow:
        return False
    return True
