"""Reset of forked children: the usual signal handlers, and no socket or lock of the server.

A fork copies this process whole: the handlers of its signals, the descriptor by which a signal wakes its event loop,
its sockets. A signal to the child would reach this process's loop, and the child itself would ignore it. So a child
gets back what was there before the command began, and keeps nothing of what the command holds for itself.
"""

import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType
from typing import TypeAlias

__all__ = ["watch_forks", "withhold", "withhold_sockets"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None

_handlers: dict[signal.Signals, _Handler] = {}  # those before the command; none: forks are not watched
_withheld: set[int] = set()
_bound: set[object] = set()  # ports and paths
_masks = threading.local()


def watch_forks() -> None:
    """Look after children that are forked from now on; called before the command handles signals."""
    if not hasattr(os, "register_at_fork"):  # no system without it forks
        return
    if not _handlers:
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_become_child)
    _handlers.update({number: signal.getsignal(number) for number in _SIGNALS})


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
