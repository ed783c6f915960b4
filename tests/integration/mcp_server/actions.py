"""Actions of the server whose workflows are offered as tools. They run in the process of the tests."""

import asyncio
import queue
import threading

from stepwave import Blob, Context, action

EVENTS: queue.SimpleQueue[str] = queue.SimpleQueue()
"""What `hold` has done: started and ended."""

RELEASED: queue.SimpleQueue[None] = queue.SimpleQueue()
"""What lets `report` end."""

_TOGETHER = threading.Barrier(2)


@action
async def hold() -> None:
    """Wait until the attempt is cancelled."""
    EVENTS.put("started")
    try:
        await asyncio.Event().wait()
    finally:
        EVENTS.put("ended")


@action
def meet() -> int:
    """Wait until another call of this action runs."""
    return _TOGETHER.wait(timeout=20) * 0


@action
def report(context: Context) -> None:
    """Report progress, and wait until the test has received it."""
    context.progress(0.5, "half")
    RELEASED.get(timeout=20)
    context.progress(message="more")
    RELEASED.get(timeout=20)


@action
def picture(kind: str = "image/png") -> Blob:
    """Return bytes of a media type."""
    return Blob(b"bytes", kind)


@action
def log(context: Context) -> None:
    """Log a message."""
    context.logger.warning("from an action")
