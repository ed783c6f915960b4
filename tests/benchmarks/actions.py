"""The actions of the loads, for the server to load: one does nothing, one sleeps."""

import asyncio

from stepwave import action


@action
async def noop() -> None:
    """Do nothing."""


@action
async def sleep(seconds: float) -> None:
    """Wait on a timer."""
    await asyncio.sleep(seconds)
