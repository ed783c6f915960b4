"""`core.sleep`: waits, then answers."""

import asyncio
from typing import Annotated

from pydantic import Field

from stepwave._actions.action import action

__all__ = ["sleep"]


@action("core.sleep", idempotent=True)
async def sleep(
    seconds: Annotated[float, Field(ge=0, description="How long to wait, in seconds.")] = 1.0,
    value: Annotated[object, Field(description="What to answer with.")] = None,
) -> object:
    """Wait for a number of seconds, then answer with a value."""
    await asyncio.sleep(seconds)
    return value
