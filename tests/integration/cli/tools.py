"""Actions for tests of the command line; found there as a user's are, in the working directory."""

import asyncio
from contextlib import suppress

from stepwave import Context, action


@action
async def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


@action
async def chatter() -> None:
    """Print to standard output, where the answers go."""
    print("chatter, chatter", flush=True)  # noqa: T201 - that is the point


@action
async def broken() -> None:
    """Fail as code does."""
    raise LookupError("no such thing")


@action
async def hold(context: Context) -> None:
    """Say that it holds, and hold until interrupted."""
    context.progress(None, "holding")
    await asyncio.Event().wait()


@action
async def cling(context: Context) -> None:
    """Hold, and hold on for longer than anybody waits when interrupted."""
    context.progress(None, "clinging")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(600)


@action
async def stay(context: Context) -> None:
    """Say that it stays, and stay for ever, whoever interrupts."""
    context.progress(None, "staying")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
