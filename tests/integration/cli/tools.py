"""Actions for tests of the command line. Like a user's module, it is in the working directory."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stepwave import ActionError, Context, action


@action
async def shout(text: str) -> str:
    """Return the text in capitals."""
    return text.upper()


@action
async def print_line() -> None:
    """Print to standard output, where the command's output goes."""
    print("printed by an action", flush=True)  # noqa: T201 - the test is about printing


@action
async def broken() -> None:
    """Raise an exception."""
    raise LookupError("no such thing")


@action
async def hold(context: Context) -> None:
    """Report progress, and wait until the attempt is cancelled."""
    context.progress(None, "holding")
    await asyncio.Event().wait()


@action
async def end_late(context: Context) -> None:
    """Wait until the attempt is cancelled, and end ten minutes later."""
    context.progress(None, "waiting for the end")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(600)


@action
async def ignore_cancellation(context: Context) -> None:
    """Wait for ever, and ignore every cancellation."""
    context.progress(None, "ignoring cancellation")
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


@action
def tell(context: Context, fifo: str, fails: bool = False) -> Iterator[str]:
    """Send a chunk. In the first attempt, wait until a test opens the FIFO, and then fail if asked. Send the rest."""
    yield "Once "
    if context.attempt == 1:
        Path(fifo).read_bytes()
        if fails:
            raise ActionError("the pen broke")
    yield "upon a time"
