"""Drives an event loop that also runs the code of actions, which cannot stop it.

In asyncio, a `SystemExit` or `KeyboardInterrupt` of any task or callback stops the loop. So `sys.exit()` in a task of
an action would end its server.
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
    """Run a loop until a coroutine or task ends, and return its result.

    Args:
        loop: The loop.
        work: The coroutine or task.
        strays: Exceptions that are logged and ignored when another task raises them. If `KeyboardInterrupt` is one of
            them, the handler of SIGINT must not raise it.

    Raises:
        BaseException: The work, or the loop itself, raised it.
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
                    _log_stray(error)
            else:
                if not ended:
                    logger.error("code of an action stopped the event loop, which goes on")
    finally:
        ended = True  # an `end` that is already scheduled must not stop the next run of the loop
        task.remove_done_callback(end)
    return task.result()


def close(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the remaining tasks, await them, and close the loop, whatever they raise.

    It does not wait for threads of `asyncio.to_thread`: an action's thread may be blocked forever.
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


def _log_stray(error: BaseException) -> None:
    """Log an exception and its place, and drop the loop's own frames from its traceback: they form reference cycles."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None and _is_loop_frame(trace):
        trace = trace.tb_next
    error.__traceback__ = trace
    place = traceback.extract_tb(trace)[-1]
    what = traceback.format_exception_only(error)[-1].strip()
    logger.error("code of an action raised %s at %s:%s; everything else goes on", what, place.filename, place.lineno)


def _is_loop_frame(trace: TracebackType) -> bool:
    module = str(trace.tb_frame.f_globals.get("__name__"))
    return module == __name__ or module.partition(".")[0] == "asyncio"
