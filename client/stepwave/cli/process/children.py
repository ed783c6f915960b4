"""The end of the child processes that actions started. Imported only when there are children: it needs psutil."""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress

import psutil

__all__ = ["end_children", "exclude_current_children"]

_POLL_INTERVAL = 0.01  # seconds between two checks whether processes have ended
_PR_SET_CHILD_SUBREAPER = 36

_excluded_pids: set[int] = set()


def exclude_current_children() -> None:
    """Exclude the present children of this process from `end_children`."""
    with suppress(OSError, psutil.Error):
        _excluded_pids.update(child.pid for child in psutil.Process().children())


def end_children(timeout: float, *, normal_exit: bool) -> None:
    """End the descendants of this process: by SIGTERM, then by SIGKILL.

    A process in a session of its own continues, because it is meant to outlive the command.

    Args:
        timeout: Seconds between SIGTERM and SIGKILL, and the longest time to wait after SIGKILL.
        normal_exit: Whether this process runs its exit handlers afterwards. Then idle workers of pools continue:
            a worker that waits for work holds a lock, and `multiprocessing` needs that lock to end the pool. Exit
            codes of direct children are left to the code that started them.
    """
    targets = _descendants(normal_exit)
    if not targets:
        return
    reaped_elsewhere = {child.pid for child in psutil.Process().children()} if normal_exit else set()
    _adopt_orphans()
    _send_signal(targets, signal.SIGTERM)
    _wait(targets, timeout)
    deadline = time.monotonic() + timeout
    # A pool may have replaced workers that ended, so there can be new processes.
    while (alive := [*filter(_is_alive, targets), *_descendants(normal_exit)]) and time.monotonic() < deadline:
        _send_signal(alive, signal.SIGKILL)
        targets += alive
        time.sleep(_POLL_INTERVAL)
    for pid in {process.pid for process in targets} - reaped_elsewhere:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def _adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends, on Linux. Otherwise they would not be descendants."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _descendants(normal_exit: bool) -> list[psutil.Process]:
    """Return the processes to end; none if the system does not list processes."""
    try:
        found = psutil.Process().children(recursive=True)
    except (OSError, psutil.Error):
        return []
    excluded = [process for process in found if process.pid in _excluded_pids]
    for process in tuple(excluded):
        with suppress(psutil.Error):
            excluded += process.children(recursive=True)
    if normal_exit:
        excluded += _idle_workers(found)
    return [process for process in found if process not in excluded and _is_of_command(process) and _is_alive(process)]


def _idle_workers(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the workers of this process's pools that have no children."""
    if "multiprocessing" not in sys.modules:
        return []
    from multiprocessing import active_children

    worker_pids = {child.pid for child in active_children() if child.daemon and "PoolWorker" in child.name}
    parent_pids = {_parent_pid(process) for process in processes}
    return [process for process in processes if process.pid in worker_pids - parent_pids]


def _parent_pid(process: psutil.Process) -> int | None:
    try:
        return process.ppid()
    except psutil.Error:
        return None


def _is_of_command(process: psutil.Process) -> bool:
    """Return whether a process is in this session, and is not the resource tracker of multiprocessing.

    The tracker ends by itself, after it has freed what the other processes shared.
    """
    try:
        return os.getsid(process.pid) == os.getsid(0) and not any(
            "resource_tracker" in argument for argument in process.cmdline()
        )
    except (OSError, psutil.Error):  # it has ended
        return False


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _send_signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _wait(processes: list[psutil.Process], timeout: float) -> None:
    """Wait until processes have ended, without reaping them: their parents still get the exit codes."""
    deadline = time.monotonic() + timeout
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(_POLL_INTERVAL)
