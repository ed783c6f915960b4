"""The processes that actions started, and how they end with their command; imported only when there are some."""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

import psutil

__all__ = ["end_children", "note_strangers"]

_POLL = 0.01  # seconds between two looks at whether processes have ended
_PR_SET_CHILD_SUBREAPER = 36

_strangers: set[int] = set()


def note_strangers() -> None:
    """Remember the children that this process has now. `end_children` leaves them alone."""
    with suppress(OSError, psutil.Error):
        _strangers.update(child.pid for child in psutil.Process().children())


def end_children(patience: float, *, orderly: bool) -> None:
    """End the processes that this one and its children have started: by SIGTERM, `patience` seconds later by SIGKILL.

    A process in a session of its own is left alone: it is meant to outlive the command.

    Args:
        patience: How long they get, in seconds.
        orderly: Whether this process ends its way after that, and not at once. Then idle workers of pools are left to
            `multiprocessing`: one that waits for work holds a lock that its pool's end needs. Who started a process
            still learns how it ended.
    """
    ended = _descendants(orderly)
    if not ended:
        return
    awaited = {child.pid for child in psutil.Process().children()} if orderly else set()
    _adopt_orphans()
    _signal(ended, signal.SIGTERM)
    _wait(ended, patience)
    deadline = time.monotonic() + patience
    # What has ended may have been replaced meanwhile, as by a pool.
    while (left := [*filter(_is_alive, ended), *_descendants(orderly)]) and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        ended += left
        time.sleep(_POLL)
    for process in {process.pid for process in ended} - awaited:
        with suppress(ChildProcessError):
            os.waitpid(process, os.WNOHANG)


def _adopt_orphans() -> None:
    """Become the parent of what a child starts just before it ends, where the system can do that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants(orderly: bool) -> list[psutil.Process]:
    """Return the processes that are to end; none where the system does not tell of processes."""
    try:
        found = psutil.Process().children(recursive=True)
    except (OSError, psutil.Error):
        return []
    spared = [process for process in found if process.pid in _strangers]
    for process in tuple(spared):
        with suppress(psutil.Error):
            spared += process.children(recursive=True)
    if orderly:
        spared += _idle_workers(found)
    return [process for process in found if process not in spared and _is_of_command(process) and _is_alive(process)]


def _idle_workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return those of these processes that are workers of pools in this process, and that have started none."""
    if "multiprocessing" not in sys.modules:
        return []
    from multiprocessing import active_children

    workers = {child.pid for child in active_children() if child.daemon and "PoolWorker" in child.name}
    busy = {_parent(process) for process in processes}
    return [process for process in processes if process.pid in workers - busy]


def _parent(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _is_of_command(process: psutil.Process) -> bool:
    """Return whether the command has to end a process.

    It has to be in this session. Multiprocessing's resource tracker is left alone: it ends by itself, after it has
    freed what the other processes shared.
    """
    try:
        return os.getsid(process.pid) == os.getsid(0) and not any("resource_tracker" in it for it in process.cmdline())
    except (OSError, psutil.Error):  # it has ended
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _wait(processes: list[psutil.Process], patience: float) -> None:
    """Wait until processes have ended; their parents still learn how."""
    deadline = time.monotonic() + patience
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL)
