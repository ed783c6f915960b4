"""The actions that the loads run: one does nothing, one sleeps."""

import asyncio

from stepwave import action


@action
async def noop() -> None:
    """Do nothing."""


@action
async def sleep(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)
