"""The processes that actions start: what a fork must not share with this process, and how they end with it.

A fork copies this process whole: the handlers of its signals, the descriptor by which a signal wakes its event loop,
its sockets. A signal to the child would reach this process's loop, and the child itself would ignore it. So a child
gets back what was there before the command began, and keeps nothing of what the command holds for itself.
"""

import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import psutil

__all__ = ["adopt_children", "end_children", "withhold", "withhold_sockets"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_CHILD_SUBREAPER = 36
_POLL = 0.01  # seconds between two looks at whether processes have ended

_Handler: TypeAlias = "Callable[[int, FrameType | None], object] | int | None"

_handlers: dict[signal.Signals, _Handler] = {}  # those before the command; none: no fork is looked after
_strangers: set[int] = set()  # processes that were there before the command
_withheld: set[int] = set()
_bound: set[object] = set()  # ports and paths
_masks = threading.local()


def adopt_children() -> None:
    """Look after the processes that are started from now on; called before the command handles signals."""
    if not hasattr(os, "register_at_fork"):  # no system without it forks
        return
    if not _handlers:
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_become_child)
    _handlers.update({number: signal.getsignal(number) for number in _SIGNALS})
    _strangers.update(child.pid for child in _descendants())


def withhold(descriptor: int) -> None:
    """Let children that are forked from now on have nothing in the place of a descriptor."""
    _withheld.add(descriptor)


def withhold_sockets(address: str) -> None:
    """Let children that are forked from now on have none of the sockets by which this process serves at an address.

    A child that outlives a killed server would else keep its port, and its clients waiting. Port 0 is no port yet.
    """
    if address.startswith("unix:"):
        _bound.add(address.removeprefix("unix:"))
    elif (port := address.rpartition(":")[2]).isdecimal() and int(port):
        _bound.add(int(port))


def end_children(patience: float) -> None:
    """End the processes that this one and its children have started: by SIGTERM, `patience` seconds later by SIGKILL.

    A process in a session of its own is left alone: it is meant to outlive the command.
    """
    asked = _descendants()
    if not asked:
        return
    _adopt_orphans()
    _signal(asked, signal.SIGTERM)
    _wait(asked, patience)
    deadline = time.monotonic() + patience
    # What has ended may have been replaced meanwhile, as by a pool.
    while (left := [*_alive(asked), *_descendants()]) and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(_POLL)


def _adopt_orphans() -> None:
    """Become the parent of what a child starts just before it ends, where the system can do that."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _before_fork() -> None:
    """Let no signal come to a child before it can handle it."""
    if _handlers:
        _masks.former = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _after_fork() -> None:
    if _handlers:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.former)


def _become_child() -> None:
    if not _handlers:
        return
    try:
        signal.set_wakeup_fd(-1)
        for number, handler in _handlers.items():
            _restore(number, handler)
        _handlers.clear()  # what the child forks is its own
        with suppress(OSError):  # there are no descriptors left, or no list of them
            _let_go()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, _masks.former)


def _restore(number: signal.Signals, handler: _Handler) -> None:
    is_waiting = number in signal.sigpending() and handler is not signal.SIG_IGN
    # What a handler raises within a fork is lost, so a signal that has come already is not left to one.
    signal.signal(number, signal.SIG_DFL if is_waiting or handler is None else handler)


def _let_go() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in {*_withheld, *_sockets()}:
        os.dup2(nothing, descriptor, inheritable=False)
    os.close(nothing)


def _sockets() -> Iterator[int]:
    """Yield the descriptors of the sockets that are bound where this process serves."""
    for name in os.listdir("/dev/fd") if _bound else ():
        with suppress(OSError):  # the one that lists them is closed by now
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode) and _serves(int(name)):
                yield int(name)


def _serves(descriptor: int) -> bool:
    its = socket.socket(fileno=descriptor)
    try:
        bound = its.getsockname()
        return its.type == socket.SOCK_STREAM and (bound[1] if isinstance(bound, tuple) else bound) in _bound
    finally:
        its.detach()


def _descendants() -> list["psutil.Process"]:
    """Return the processes of this session that this one and its children have started, and that have not ended."""
    if not _has_children():
        return []
    try:
        import psutil
    except ModuleNotFoundError:  # no server can run here, and so no action
        return []
    found = psutil.Process().children(recursive=True)
    strangers = [process for process in found if process.pid in _strangers]
    for process in tuple(strangers):
        with suppress(psutil.Error):
            strangers += process.children(recursive=True)
    session, pooled = os.getsid(0), _pooled(found)
    ours = [process for process in found if process not in strangers and process.pid not in pooled]
    return [process for process in _alive(ours) if _session(process.pid) == session and not _is_helper(process)]


def _pooled(processes: list["psutil.Process"]) -> set[int]:
    """Return the idle ones of the processes that `multiprocessing` ends as this process does.

    A worker that waits for work holds a lock that its pool needs to end: who kills it lets the pool's own end hang.
    """
    if "multiprocessing" not in sys.modules:
        return set()
    from multiprocessing import active_children

    busy = {parent for process in processes if (parent := _parent(process)) is not None}
    return {child.pid for child in active_children() if child.daemon and child.pid is not None} - busy


def _has_children() -> bool:
    if not hasattr(os, "waitid"):
        return True
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _parent(process: "psutil.Process") -> int | None:
    import psutil

    try:
        return process.ppid()
    except psutil.Error:
        return None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:  # it has ended
        return None


def _is_helper(process: "psutil.Process") -> bool:
    """Say whether a process frees what others share, once all of them have ended, and then ends."""
    import psutil

    try:
        return any("resource_tracker" in word for word in process.cmdline())
    except psutil.Error:
        return False


def _alive(processes: list["psutil.Process"]) -> list["psutil.Process"]:
    return [process for process in processes if _is_alive(process)]


def _is_alive(process: "psutil.Process") -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(processes: list["psutil.Process"], number: signal.Signals) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.Error):
            process.send_signal(number)


def _wait(processes: list["psutil.Process"], patience: float) -> None:
    """Wait until processes have ended; their parents still learn how."""
    deadline = time.monotonic() + patience
    while _alive(processes) and time.monotonic() < deadline:
        time.sleep(_POLL)
