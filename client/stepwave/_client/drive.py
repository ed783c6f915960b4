"""Drives an event loop on which other people's code runs too: nothing that their tasks raise or ask for stops it.

asyncio lets `SystemExit` and `KeyboardInterrupt` of any task or callback out of its loop, which stops with it. An
action that starts a task whose code calls `sys.exit()` would so end its server.
"""

import asyncio
import logging
import traceback
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, TypeVar

__all__ = ["close", "drive", "new_loop"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def new_loop() -> asyncio.AbstractEventLoop:
    """Make a loop for this thread."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def drive(
    loop: asyncio.AbstractEventLoop,
    work: "Coroutine[Any, Any, T] | asyncio.Task[T]",
    strays: tuple[type[BaseException], ...] = (SystemExit, KeyboardInterrupt),
) -> T:
    """Run a loop until its work is done, and return the answer.

    Args:
        loop: The loop.
        work: What is to be done.
        strays: What is a task's own if it comes out of the loop, and not the work's. With `KeyboardInterrupt` among
            them, SIGINT must be handled without raising it.

    Raises:
        BaseException: Whatever the work or the loop itself raises.
    """
    task = work if isinstance(work, asyncio.Task) else loop.create_task(work)
    ended = False

    def end(_task: "asyncio.Task[T]") -> None:
        nonlocal ended
        if not ended:
            ended = True
            loop.stop()

    task.add_done_callback(end)
    try:
        while not ended:
            try:
                loop.run_forever()
            except strays as error:
                if not _is_end_of(task, error):
                    _tell(error)
            else:
                if not ended:
                    logger.error("code of an action stopped the event loop, which goes on")
    finally:
        ended = True  # so that `end`, which may be due already, stops nobody who runs the loop next
        task.remove_done_callback(end)
    return task.result()


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what tasks are left, await their ends, and close the loop, whatever they raise.

    Threads of `asyncio.to_thread` are not waited for: an action's may be blocked for ever.
    """
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    try:
        if left:
            drive(loop, _ended(left))
        drive(loop, loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


async def _ended(tasks: "set[asyncio.Task[Any]]") -> None:
    await asyncio.wait(tasks)


def _is_end_of(task: "asyncio.Task[Any]", error: BaseException) -> bool:
    return task.done() and not task.cancelled() and task.exception() is error


def _tell(error: BaseException) -> None:
    """Log what was raised and where, and leave the loop's own frames out of the error: they refer to what holds it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_of_loop(trace):
        trace = trace.tb_next
    error.__traceback__ = trace
    place = traceback.extract_tb(trace)[-1]
    what = traceback.format_exception_only(error)[-1].strip()
    logger.error("code of an action raised %s at %s:%s; everything else goes on", what, place.filename, place.lineno)


def _is_of_loop(trace: TracebackType) -> bool:
    module = str(trace.tb_frame.f_globals.get("__name__"))
    return module == __name__ or module.partition(".")[0] == "asyncio"
