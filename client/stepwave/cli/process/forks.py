"""Reset of forked children: default signal handlers, and no socket or lock of the server.

A fork copies this process: its signal handlers, the file descriptor by which a signal wakes its event loop, and its
sockets. A signal to the child would wake this process's loop, and the child itself would ignore it. So a child gets
the signal handlers from before the command, and loses the descriptors that belong to the command.
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

__all__ = ["close_on_fork", "close_sockets_on_fork", "reset_forked_children"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None

_handlers: dict[signal.Signals, _Handler] = {}  # the handlers from before the command; empty: forks are not reset
_descriptors: set[int] = set()
_bound: set[object] = set()  # ports, and paths of Unix sockets
_signal_masks = threading.local()


def reset_forked_children() -> None:
    """Reset children that are forked from now on. Call this before the command handles signals."""
    if not hasattr(os, "register_at_fork"):  # a system without fork
        return
    if not _handlers:
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_reset_child)
    _handlers.update({number: signal.getsignal(number) for number in _SIGNALS})


def close_on_fork(descriptor: int) -> None:
    """Replace a descriptor with the null device in children that are forked from now on."""
    _descriptors.add(descriptor)


def close_sockets_on_fork(address: str) -> None:
    """Close the sockets of a server at an address in children that are forked from now on.

    Otherwise a child that outlives a killed server would keep its port, and its clients would wait. With port 0 there
    is nothing to close yet.
    """
    if address.startswith("unix:"):
        _bound.add(address.removeprefix("unix:"))
    elif (port := address.rpartition(":")[2]).isdecimal() and int(port):
        _bound.add(int(port))


def _before_fork() -> None:
    """Block signals until the child can handle them."""
    if _handlers:
        _signal_masks.previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _after_fork() -> None:
    if _handlers:
        signal.pthread_sigmask(signal.SIG_SETMASK, _signal_masks.previous)


def _reset_child() -> None:
    if not _handlers:
        return
    try:
        signal.set_wakeup_fd(-1)
        for number, handler in _handlers.items():
            _restore(number, handler)
        _handlers.clear()  # children of the child are not reset
        with suppress(OSError):  # there are no free descriptors, or they cannot be listed
            _close_descriptors()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, _signal_masks.previous)


def _restore(number: signal.Signals, handler: _Handler) -> None:
    is_pending = number in signal.sigpending() and handler is not signal.SIG_IGN
    # An exception that a handler raises during a fork is lost. So a pending signal gets the default action.
    signal.signal(number, signal.SIG_DFL if is_pending or handler is None else handler)


def _close_descriptors() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in {*_descriptors, *_sockets()}:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def _sockets() -> Iterator[int]:
    """Yield the descriptors of the server's sockets."""
    for name in os.listdir("/dev/fd") if _bound else ():
        with suppress(OSError):  # the descriptor that listed the folder is closed by now
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode) and _is_server_socket(int(name)):
                yield int(name)


def _is_server_socket(descriptor: int) -> bool:
    candidate = socket.socket(fileno=descriptor)
    try:
        name = candidate.getsockname()
        return candidate.type == socket.SOCK_STREAM and (name[1] if isinstance(name, tuple) else name) in _bound
    finally:
        candidate.detach()
