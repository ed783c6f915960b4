"""Actions that fork, leave processes behind, and end or stop the process's event loop."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Event

from stepwave import Context, action

FORK = multiprocessing.get_context("fork")
POOLS: list[Pool] = []
READY: list[Event] = []
OPENED: list[int] = []
TASKS: list[asyncio.Task[None]] = []


def _pool() -> None:
    with FORK.Pool(2) as pool:  # leaving the body ends its workers by SIGTERM
        assert pool.map(abs, [-1, -2]) == [1, 2]


def _terminate() -> None:
    child = FORK.Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    # The exit code would be a race: another thread that starts processes may reap the child first.
    assert wait([child.sentinel], 30), "it ignored SIGTERM"
    child.join()


def _break_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        pool.submit(_kill_self).result()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _break_pools(rounds: int) -> None:
    for _ in range(rounds - 1):
        try:
            _break_pool()
        except BrokenProcessPool:
            continue
        raise AssertionError("a pool outlived its worker")
    _break_pool()


def _repeat(work: Callable[[], None], rounds: int) -> int:
    for _ in range(rounds):
        work()
    return rounds


@action
def pools(rounds: int) -> int:
    """Use pools of forked processes, on a thread."""
    return _repeat(_pool, rounds)


@action
async def pools_on_loop(rounds: int) -> int:
    """Use pools of forked processes, on the event loop."""
    return _repeat(_pool, rounds)


@action
def terminates(rounds: int) -> int:
    """Terminate forked processes right after their start, on a thread."""
    return _repeat(_terminate, rounds)


@action
async def terminates_on_loop(rounds: int) -> int:
    """Terminate forked processes right after their start, on the event loop."""
    return _repeat(_terminate, rounds)


@action
def breaks(rounds: int) -> None:
    """Break pools by killing their workers, and raise the last error, on a thread."""
    _break_pools(rounds)


@action
async def breaks_on_loop(rounds: int) -> None:
    """Break pools by killing their workers, and raise the last error, on the event loop."""
    _break_pools(rounds)


@action
def forks(end: str) -> int:
    """Fork on a thread, let the child end the action too, and return its exit code."""
    return _fork(end)


@action
async def forks_on_loop(end: str) -> int:
    """Fork on the event loop, let the child end the action too, and return its exit code."""
    return _fork(end)


def _fork(end: str) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if end == "exit":
        sys.exit(7)
    if end == "raise":
        raise LookupError("in the child")
    return 0


@action
def leave_process(fifo: str, ignore_sigterm: bool = False) -> None:
    """Leave a forked process behind, which keeps a FIFO open."""
    _start_process(fifo, ignore_sigterm)


@action
def leave_pools(fifo: str) -> None:
    """Leave two pools behind, an idle one and a busy one."""
    ready = FORK.Event()
    idle, busy = FORK.Pool(2), FORK.Pool(2, _set_ready, (ready,))
    idle.map(abs, [-1, -2])
    busy.apply_async(_keep_open, (fifo,))
    ready.wait()
    POOLS.extend((idle, busy))


@action
async def leave_processes_and_end_late(fifo: str, context: Context) -> None:
    """Leave a process that ignores SIGTERM and an idle pool behind, and end ten minutes after the cancellation."""
    POOLS.append(FORK.Pool(1, _open, (fifo,)))
    POOLS[-1].apply(abs, (-1,))
    _start_process(fifo, True)
    context.progress(None, "waiting for the end")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(600)


@action
def leave_command(fifo: str, session: bool = False) -> None:
    """Leave a shell and its child behind, which keep a FIFO open, optionally in a session of their own."""
    start_command(fifo, session)


def start_command(fifo: str, session: bool = False) -> None:
    script = 'exec 3>"$1"; echo $$ >&3; echo ready; exec >/dev/null 2>&1; sleep 600; true'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", fifo], start_new_session=session, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        command.returncode = 0  # so that the context manager does not wait for it


def _start_process(fifo: str, ignore_sigterm: bool) -> None:
    ready = FORK.Event()
    _set_ready(ready)
    FORK.Process(target=_keep_open, args=(fifo, ignore_sigterm)).start()
    ready.wait()


def _set_ready(ready: Event) -> None:
    READY[:] = [ready]


def _open(fifo: str) -> None:
    OPENED.append(os.open(fifo, os.O_WRONLY))


def _keep_open(fifo: str, ignore_sigterm: bool = False) -> None:
    if ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _open(fifo)
    os.write(OPENED[-1], b"%d\n" % os.getpid())
    READY[0].set()
    time.sleep(600)


async def _exit() -> None:
    sys.exit(3)


async def _interrupt() -> None:
    raise KeyboardInterrupt


@action
async def exits_in_task() -> None:
    """Await a task that raises `SystemExit`."""
    await asyncio.create_task(_exit())


@action
async def interrupts_in_task() -> None:
    """Await a task that raises `KeyboardInterrupt`."""
    await asyncio.create_task(_interrupt())


@action
async def stops_loop() -> int:
    """Exit in a callback and in a task that is not awaited, and stop the event loop."""
    loop = asyncio.get_running_loop()
    loop.call_soon(sys.exit, 3)
    TASKS.append(loop.create_task(_exit()))
    loop.stop()
    await asyncio.sleep(0)
    return 1


@action
async def exits_when_cancelled() -> int:
    """Leave a task behind that raises `SystemExit` when it is cancelled."""

    async def exit_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            sys.exit(3)

    TASKS.append(asyncio.create_task(exit_when_cancelled()))
    await asyncio.sleep(0)
    return 1
