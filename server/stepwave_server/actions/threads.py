"""Threads for actions that are not async. A blocked thread delays neither the server nor its exit."""

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.core.model import Reason

__all__ = ["run_in_thread", "thread_of", "waits_for_thread"]

P = ParamSpec("P")
R = TypeVar("R")

MAX_IDLE = 32
"""Idle threads that are kept for later calls."""

_idle: list["_Thread"] = []
_lock = threading.Lock()
_abandoned: set[object] = set()
_threads: dict[object, int] = {}
_waiting: set[object] = set()

MAX_ABANDONED = 1_000
"""Threads that may be blocked by abandoned calls."""


async def run_in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function on a thread of its own, and return its result.

    Threads are daemons, and their number is bounded by admission and `MAX_ABANDONED`. A small pool would be used up by
    actions that never end. When the awaiting task is cancelled, the call is abandoned: the thread goes on, and its
    result is ignored.

    Raises:
        ActionFailed: Too many abandoned calls still block their threads.
        BaseException: The function raised it.
    """
    if len(_abandoned) >= MAX_ABANDONED:
        message = f"{MAX_ABANDONED:,} threads are still blocked by abandoned attempts; no more are started"
        raise ActionFailed(Reason.RESOURCE_EXHAUSTED, message, retryable=True)
    loop = asyncio.get_running_loop()
    result: asyncio.Future[tuple[R | None, BaseException | None]] = loop.create_future()
    context = contextvars.copy_context()
    running = {result}
    caller = asyncio.current_task()

    def set_result(value: R | None, error: BaseException | None) -> None:
        if not result.done():
            result.set_result((value, error))

    def call() -> None:
        value, error = None, None
        _threads[caller] = threading.get_ident()
        try:
            value = context.run(function, *args, **kwargs)
        except BaseException as raised:
            error = raised
        _threads.pop(caller, None)
        with _lock:
            running.clear()
            _abandoned.discard(result)
        try:
            loop.call_soon_threadsafe(set_result, value, error)
        except RuntimeError:
            return  # the loop is closed

    _thread().calls.put(call)
    _waiting.add(caller)
    try:
        value, error = await result
    except asyncio.CancelledError:
        with _lock:
            _abandoned.update(running)
        raise
    finally:
        _waiting.discard(caller)
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # no error: the function returned an R


def thread_of(task: "asyncio.Task[None]") -> int | None:
    """Return the id of the thread on which a task's call runs; `None`: it has no such call."""
    return _threads.get(task)


def waits_for_thread(task: "asyncio.Task[None]") -> bool:
    """Return whether a task waits for a call on a thread. Call it on the task's loop."""
    return task in _waiting


class _Thread:
    """A thread that runs calls, one at a time."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="stepwave-action", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.calls.get()()
            with _lock:
                if len(_idle) >= MAX_IDLE:
                    return
                _idle.append(self)


def _thread() -> _Thread:
    with _lock:
        return _idle.pop() if _idle else _Thread()
