"""Actions for tests of the command line. Like a user's module, it is in the working directory."""

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stepwave import ActionError, Context, action

logger = logging.getLogger("tools")


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


@action
async def log_words(context: Context) -> None:
    """Log by the context, and by the logger of the module."""
    context.logger.info("hello from %s", context.step_id)
    logger.warning("careful:\nsecond line\x1b[31m")
    logger.debug("a detail")


@action
def log_error() -> None:
    """Log an exception, on a thread."""
    try:
        "all words".index("another")
    except ValueError:
        logger.exception("failed")


@action
async def log_on_own_thread() -> None:
    """Log on a thread that has no context variables of the attempt."""
    for log in (logger.info, logger.warning):
        thread = threading.Thread(target=log, args=("on a thread of its own",))
        thread.start()
        thread.join()


@action
async def log_and_hold(context: Context) -> None:
    """Log, and wait until the attempt is cancelled."""
    context.logger.warning("holding")
    try:
        await asyncio.Event().wait()
    finally:
        context.logger.error("let go")


@action
async def log_on_signal(file: str, context: Context) -> None:
    """Log, log again when a file exists, and wait until the attempt is cancelled."""
    context.logger.info("waiting")
    while not Path(file).exists():  # noqa: ASYNC110 - the test may be in another process
        await asyncio.sleep(0.01)
    context.logger.info("signalled")
    try:
        await asyncio.Event().wait()
    finally:
        context.logger.info("let go")
