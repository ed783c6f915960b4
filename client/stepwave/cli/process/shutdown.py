"""How a process ends in which actions ran: what they left behind gets a moment, and then holds nothing up."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from types import FrameType
from typing import Any, NoReturn, TypeAlias, TypeVar

from stepwave._client.drive import close, drive, new_loop
from stepwave.cli.exit_codes import ExitCode

from .forks import watch_forks
from .standard_streams import answers

__all__ = ["end_process", "run_with_actions", "unheld"]

_PATIENCE = 1.0  # seconds that tasks and processes get to end, once they are told to
_EXIT_PATIENCE = 10.0  # seconds that exit handlers get
_HASTE = 0.2  # seconds that processes get when nobody waits any more

_STARTS = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})

T = TypeVar("T")
_Handler: TypeAlias = Callable[[int, FrameType | None], object]

_clinging: set[asyncio.Task[Any]] = set()
_ran = False  # whether actions may have run in this process


def run_with_actions(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, on a loop that no action can stop.

    It waits only a moment for other tasks to end, and then ends the processes that actions left. An action may swallow
    its cancellation for ever. Its loop is left open then, and `unheld` ends the process.
    """
    global _ran
    _ran = True
    watch_forks()
    if _has_children():
        from .children import note_strangers

        note_strangers()
    loop = new_loop()
    task = loop.create_task(work)
    with _interruptible(loop, task):
        try:
            return drive(loop, task)
        finally:
            _clinging.update(drive(loop, _unended()))
            _end_children(_PATIENCE, orderly=True)
            if not _clinging:
                close(loop)


@contextmanager
def _interruptible(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> Iterator[None]:
    """Let SIGINT cancel a task at first, then end the process; SIGTERM ends it, and what actions started with it.

    No handler raises: a `KeyboardInterrupt` on the loop is an action's.

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
        _handled(signal.SIGINT, signal.default_int_handler, interrupt),
        _handled(signal.SIGTERM, signal.SIG_DFL, _end_by_signal),
    ):
        try:
            yield
        except asyncio.CancelledError:
            if interrupted and task.uncancel() == 0:
                raise KeyboardInterrupt from None
            raise


@contextmanager
def _handled(number: signal.Signals, usual: _Handler | signal.Handlers, handler: _Handler) -> Iterator[None]:
    """Handle a signal in the body, if its handler is the usual one; another is somebody's wish."""
    if signal.getsignal(number) is not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(number, handler)
    try:
        yield
    finally:
        if signal.getsignal(number) is handler:
            signal.signal(number, usual)


def _end_by_signal(number: int, _frame: FrameType | None) -> None:
    """End by a signal as if it were not handled, without the processes that actions started."""
    _kill_children()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _end_children(patience: float, *, orderly: bool) -> None:
    """End the processes that actions started; an interrupt meanwhile, which could leave some, is ignored."""
    if not _has_children():
        return
    from .children import end_children

    if threading.current_thread() is not threading.main_thread():
        end_children(patience, orderly=orderly)
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        end_children(patience, orderly=orderly)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _kill_children() -> None:
    """End the processes that actions started, pools and all, while no thread can start another."""
    this = threading.current_thread()

    def hold(event: str, _args: object) -> None:
        if event in _STARTS and threading.current_thread() is not this:
            threading.Event().wait()

    sys.addaudithook(hold)
    with suppress(Exception):
        _end_children(_HASTE, orderly=False)


def _has_children() -> bool:
    """Say whether this process has children, ended or not; where no server is installed, none are an action's."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    except AttributeError:  # a system without it
        pass
    return find_spec("psutil") is not None


async def _unended() -> set[asyncio.Task[Any]]:
    """Cancel every other task, and return those that go on all the same."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    return (await asyncio.wait(others, timeout=_PATIENCE))[1] if others else set()


@contextmanager
def unheld() -> Iterator[None]:
    """Let the exit that ends the body be at once, if tasks were left behind: no order of ending would reach them.

    Else threads are joined and exit handlers run, which may wait for what actions left behind, but not for ever.
    """
    try:
        yield
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else bool(end.code)
        if _clinging:
            end_process(code)
        if _ran:
            threading.Thread(target=_end_late, args=(code,), daemon=True).start()
        raise


def _end_late(code: int) -> None:
    time.sleep(_EXIT_PATIENCE)
    end_process(code)


def end_process(code: int) -> NoReturn:
    """End without waiting for more than a moment: neither tasks nor threads of actions can be stopped."""
    _kill_children()
    with suppress(Exception):
        answers().flush()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
