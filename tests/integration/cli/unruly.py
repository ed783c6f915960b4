"""Actions that do to their process what others keep from theirs: they fork, and leave processes behind."""

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
THERE: list[Event] = []
TAKEN: list[int] = []
LEFT: list[asyncio.Task[None]] = []


def _pool() -> None:
    with FORK.Pool(2) as pool:  # it is ended by SIGTERM
        assert pool.map(abs, [-1, -2]) == [1, 2]


def _terminate() -> None:
    child = FORK.Process(target=time.sleep, args=(600,))
    child.start()
    child.terminate()
    # Not its exit code, which another thread that starts processes may be about to learn first.
    assert wait([child.sentinel], 30), "it ignored SIGTERM"
    child.join()


def _break_pool() -> None:
    with ProcessPoolExecutor(1, mp_context=FORK) as pool:
        pool.submit(_die).result()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _breaks(rounds: int) -> None:
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
    """Terminate forked processes the moment they are there, on a thread."""
    return _repeat(_terminate, rounds)


@action
async def terminates_on_loop(rounds: int) -> int:
    """Terminate forked processes the moment they are there, on the event loop."""
    return _repeat(_terminate, rounds)


@action
def breaks(rounds: int) -> None:
    """Lose workers of pools, and fail by the last, on a thread."""
    _breaks(rounds)


@action
async def breaks_on_loop(rounds: int) -> None:
    """Lose workers of pools, and fail by the last, on the event loop."""
    _breaks(rounds)


@action
def forks(end: str) -> int:
    """Fork on a thread, and let the child come back from the action as well; answer what it exits with."""
    return _fork(end)


@action
async def forks_on_loop(end: str) -> int:
    """Fork on the event loop, and let the child come back from the action as well; answer what it exits with."""
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
def leave(fifo: str, stubborn: bool = False) -> None:
    """Leave a forked process behind, which holds a FIFO open while it lives."""
    _start_holding(fifo, stubborn)


@action
def leave_pools(fifo: str) -> None:
    """Leave two pools behind for others to use, one of them at work."""
    there = FORK.Event()
    idle, busy = FORK.Pool(2), FORK.Pool(2, _use, (there,))
    idle.map(abs, [-1, -2])
    busy.apply_async(_hold, (fifo,))
    there.wait()
    POOLS.extend((idle, busy))


@action
async def leave_and_cling(fifo: str, context: Context) -> None:
    """Leave a process that ignores SIGTERM and an idle pool behind, and hold on for longer than anybody waits."""
    POOLS.append(FORK.Pool(1, _open, (fifo,)))
    POOLS[-1].apply(abs, (-1,))
    _start_holding(fifo, True)
    context.progress(None, "clinging")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(600)


@action
def leave_command(fifo: str, session: bool = False) -> None:
    """Leave a shell and its child behind, which hold a FIFO open; `session` asks for a session of their own."""
    start_command(fifo, session)


def start_command(fifo: str, session: bool = False) -> None:
    script = 'exec 3>"$1"; echo $$ >&3; echo there; exec >/dev/null 2>&1; sleep 600; true'
    with subprocess.Popen(
        ["sh", "-c", script, "sh", fifo], start_new_session=session, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as command:
        assert command.stdout is not None
        command.stdout.readline()
        command.returncode = 0  # so that nobody waits for it


def _start_holding(fifo: str, stubborn: bool) -> None:
    there = FORK.Event()
    _use(there)
    FORK.Process(target=_hold, args=(fifo, stubborn)).start()
    there.wait()


def _use(there: Event) -> None:
    THERE[:] = [there]


def _open(fifo: str) -> None:
    TAKEN.append(os.open(fifo, os.O_WRONLY))


def _hold(fifo: str, stubborn: bool = False) -> None:
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _open(fifo)
    os.write(TAKEN[-1], b"%d\n" % os.getpid())
    THERE[0].set()
    time.sleep(600)


async def _exit() -> None:
    sys.exit(3)


async def _interrupt() -> None:
    raise KeyboardInterrupt


@action
async def exits_in_task() -> None:
    """Await a task that leaves the process."""
    await asyncio.create_task(_exit())


@action
async def interrupts_in_task() -> None:
    """Await a task that raises what Ctrl-C does."""
    await asyncio.create_task(_interrupt())


@action
async def stops_loop() -> int:
    """Exit in a callback, exit in a task that nobody awaits, and stop the event loop."""
    loop = asyncio.get_running_loop()
    loop.call_soon(sys.exit, 3)
    LEFT.append(loop.create_task(_exit()))
    loop.stop()
    await asyncio.sleep(0)
    return 1


@action
async def exits_at_the_end() -> int:
    """Leave a task behind that leaves the process when it is cancelled."""

    async def exit_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            sys.exit(3)

    LEFT.append(asyncio.create_task(exit_when_cancelled()))
    await asyncio.sleep(0)
    return 1
