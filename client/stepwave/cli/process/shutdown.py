"""The end of a command: interrupts, and an exit that tasks, threads and processes of actions cannot delay."""

import asyncio
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from types import FrameType
from typing import Any, NoReturn, TypeAlias, TypeVar

from stepwave._client.drive import close, drive, new_loop
from stepwave.cli.exit_codes import ExitCode

from .forks import reset_forked_children
from .standard_streams import output_stream

__all__ = [
    "SIGNALLED",
    "bounded_exit",
    "end_before_finalization",
    "end_process",
    "on_interrupt",
    "run_with_actions",
    "until_interrupted",
    "until_signal",
]

_END_TIMEOUT = 1.0  # seconds for tasks to end after their cancellation, and for processes after SIGTERM
_EXIT_TIMEOUT = 10.0  # seconds for exit handlers
_FORCED_END_TIMEOUT = 0.2  # seconds for processes after SIGTERM, if the command has to end at once

SIGNALLED = 128
"""The exit code after a signal is this and its number."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_START_EVENTS = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})

T = TypeVar("T")
_Handler: TypeAlias = Callable[[int, FrameType | None], object]

_unfinished_tasks: set[asyncio.Task[Any]] = set()
_exit_code = 0  # of the exit under way
_may_have_actions = False  # whether actions may have run in this process


def run_with_actions(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, on a loop that no action can stop.

    At the end it cancels other tasks, waits at most a second for them, and ends the child processes that actions
    started. If an action ignores its cancellation, its loop stays open and `bounded_exit` ends the process.
    """
    global _may_have_actions
    _may_have_actions = True
    reset_forked_children()
    if _has_children():
        from .children import exclude_current_children

        exclude_current_children()
    loop = new_loop()
    task = loop.create_task(work)
    with _handle_signals(loop, task):
        try:
            return drive(loop, task)
        finally:
            _unfinished_tasks.update(drive(loop, _cancel_tasks()))
            _end_children(_END_TIMEOUT, normal_exit=True)
            if not _unfinished_tasks:
                close(loop)


@contextmanager
def _handle_signals(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> Iterator[None]:
    """Cancel a task at the first SIGINT. End the process and its children at the second, and at SIGTERM.

    The handlers do not raise. So a `KeyboardInterrupt` on the loop comes from an action.

    Raises:
        KeyboardInterrupt: The task was cancelled by SIGINT.
    """
    interrupted = False

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted or task.done():
            end_process(ExitCode.CANCELLED)
        interrupted = True
        task.cancel()
        loop.call_soon_threadsafe(lambda: None)  # wakes the loop

    with (
        _signal_handler(signal.SIGINT, interrupt, default=signal.default_int_handler),
        _signal_handler(signal.SIGTERM, _end_by_signal, default=signal.SIG_DFL),
    ):
        try:
            yield
        except asyncio.CancelledError:
            if interrupted and task.uncancel() == 0:
                raise KeyboardInterrupt from None
            raise


@contextmanager
def _signal_handler(
    number: signal.Signals, handler: _Handler, *, default: _Handler | signal.Handlers
) -> Iterator[None]:
    """Set a signal's handler in the body. A handler that other code has set is kept."""
    if signal.getsignal(number) is not default or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        if signal.getsignal(number) is handler:
            signal.signal(number, default)


def _end_by_signal(number: int, _frame: FrameType | None) -> None:
    """End the children, then end this process by the signal's default action."""
    _kill_children()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _cancelled_code(_number: int) -> int:
    return ExitCode.CANCELLED


@contextmanager
def on_interrupt(
    first: Callable[[int], None],
    before_exit: Callable[[], None] = lambda: None,
    code_of: Callable[[int], int] = _cancelled_code,
) -> Iterator[None]:
    """Handle SIGINT and SIGTERM in the body: call a function at the first, and end the process at the second.

    Args:
        first: Called on the running loop at the first interrupt, with the number of the signal.
        before_exit: Called at the second interrupt, before the process ends: it restores the terminal.
        code_of: Returns the exit code at the second interrupt, by the number of the signal.
    """
    loop = asyncio.get_running_loop()
    count = 0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count == 1:
            loop.call_soon_threadsafe(first, number)
        else:
            with suppress(Exception):
                before_exit()
            end_process(code_of(number))

    # Handlers of the loop would wait for the loop, and an action in this process may block it.
    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


async def until_interrupted(work: Coroutine[Any, Any, T], before_exit: Callable[[], None]) -> T | None:
    """Return the result of a coroutine; `None` if an interrupt came first.

    Args:
        work: The coroutine. An interrupt cancels it.
        before_exit: Called at a second interrupt, before the process ends: it restores the terminal.
    """
    return (await _until(work, lambda stop: on_interrupt(stop, before_exit)))[0]


async def until_signal(work: Coroutine[Any, Any, T]) -> tuple[T | None, int]:
    """Return the result of a coroutine and 0, or `None` and the number of the signal that interrupted it.

    A second signal ends the process, with `SIGNALLED` and its number as the exit code.

    Args:
        work: The coroutine. An interrupt cancels it.
    """
    return await _until(work, lambda stop: on_interrupt(stop, code_of=SIGNALLED.__add__))


async def _until(
    work: Coroutine[Any, Any, T], handling: Callable[[Callable[[int], None]], AbstractContextManager[None]]
) -> tuple[T | None, int]:
    task = asyncio.create_task(work)
    received = 0

    def stop(number: int) -> None:
        nonlocal received
        received = number
        task.cancel()

    try:
        with handling(stop):
            await asyncio.wait({task})
    finally:
        task.cancel()
    return (None, received) if task.cancelled() else (task.result(), 0)


def _end_children(timeout: float, *, normal_exit: bool) -> None:
    """End the processes that actions started. Interrupts are ignored meanwhile: they could leave some processes."""
    if not _has_children():
        return
    from .children import end_children

    if threading.current_thread() is not threading.main_thread():
        end_children(timeout, normal_exit=normal_exit)
        return
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        end_children(timeout, normal_exit=normal_exit)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _kill_children() -> None:
    """End all processes that actions started, pools included. Other threads cannot start new ones meanwhile."""
    this_thread = threading.current_thread()

    def block_start(event: str, _args: object) -> None:
        if event in _START_EVENTS and threading.current_thread() is not this_thread:
            threading.Event().wait()

    sys.addaudithook(block_start)
    with suppress(Exception):
        _end_children(_FORCED_END_TIMEOUT, normal_exit=False)


def _has_children() -> bool:
    """Return whether actions may have left children, running or ended. Without psutil there is no server: false."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:  # a system without waitid
        pass
    return find_spec("psutil") is not None


async def _cancel_tasks() -> set[asyncio.Task[Any]]:
    """Cancel all other tasks, and return those that have not ended after `_END_TIMEOUT`."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return (await asyncio.wait(others, timeout=_END_TIMEOUT))[1] if others else set()


@contextmanager
def bounded_exit() -> Iterator[None]:
    """Limit the time of the exit that ends the body.

    The process ends at once if tasks are unfinished, because no normal exit could end them. Otherwise threads are
    joined and exit handlers run, for at most ten seconds if actions may have run.
    """
    global _exit_code
    try:
        yield
    except SystemExit as exit_request:
        code = _exit_code = exit_request.code if isinstance(exit_request.code, int) else bool(exit_request.code)
        if _unfinished_tasks:
            end_process(code)
        if _may_have_actions:
            threading.Thread(target=_end_after_timeout, args=(code,), daemon=True).start()
        raise


def end_before_finalization() -> None:
    """End this process after its exit handlers, before the interpreter is finalized.

    Threads of Temporal's client would abort the process then, in some of its exits. Call this before other code
    registers exit handlers: the last handlers run first.
    """
    atexit.register(lambda: end_process(_exit_code))


def _end_after_timeout(code: int) -> None:
    time.sleep(_EXIT_TIMEOUT)
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End the process with its children, without waiting for tasks or threads: those of actions cannot be stopped."""
    _kill_children()
    with suppress(Exception):
        output_stream().flush()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
