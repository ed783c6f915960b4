"""Threads for actions that are not async. A blocked one never holds up the server, not even its exit."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["run_in_thread"]

P = ParamSpec("P")
R = TypeVar("R")

MOST_IDLE = 32

_idle: list["_Thread"] = []
_lock = threading.Lock()


async def run_in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function on a thread of its own and return its answer.

    Threads are daemons, and their number is bounded by admission alone: a pool with a fixed number would be used up by
    actions that never end. When the awaiting task is cancelled, the thread goes on and what it comes to is ignored.

    Raises:
        BaseException: Whatever the function raises.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[R | None, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: R | None, error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result((value, error))

    def call() -> None:
        value, error = None, None
        try:
            value = context.run(function, *args, **kwargs)
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    _thread().calls.put(call)
    value, error = await answer
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # no error: the function returned an R


class _Thread:
    """A thread that takes calls, one at a time."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="stepwave-action", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.calls.get()()
            with _lock:
                if len(_idle) >= MOST_IDLE:
                    return
                _idle.append(self)


def _thread() -> _Thread:
    with _lock:
        return _idle.pop() if _idle else _Thread()
