"""Signals that stop a process: the first drains it, the second stops it at once."""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

__all__ = ["StopSignals", "drain_or_stop", "raise_file_limit", "tune_garbage_collector"]

OPEN_FILES = 65_536
"""Files and connections that a process of a server may have open, if the system allows it."""


class StopSignals:
    """Handles SIGTERM and SIGINT from now on.

    Attributes:
        drain: Set by the first signal.
        stop: Set by the second signal.

    Args:
        ignore_interrupts: Whether SIGINT has no effect: a parent process gets it too, and sends SIGTERM.
    """

    def __init__(self, *, ignore_interrupts: bool = False) -> None:
        self.drain = asyncio.Event()
        self.stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_signal)
        loop.add_signal_handler(signal.SIGINT, (lambda: None) if ignore_interrupts else self._on_signal)

    def _on_signal(self) -> None:
        (self.stop if self.drain.is_set() else self.drain).set()


async def drain_or_stop(
    drain: Coroutine[Any, Any, None],
    stop: Callable[[], Coroutine[Any, Any, None]],
    requested: asyncio.Event,
    interrupt: Callable[[], None],
) -> None:
    """Drain. If a stop is requested meanwhile, cancel the drain, and stop.

    Args:
        drain: Lets the work under way end.
        stop: Ends the work under way at once.
        requested: Set when a stop is requested.
        interrupt: Interrupts what the clean-up of a cancelled drain waits for.
    """
    draining = asyncio.create_task(drain)
    waiting = asyncio.create_task(requested.wait())
    await asyncio.wait({draining, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if waiting.done() and not draining.done():
        interrupt()
        draining.cancel()
        await asyncio.wait({draining})
        await stop()
    else:
        waiting.cancel()
        await draining


def tune_garbage_collector() -> None:
    """Run the garbage collector less often.

    A run makes many small objects that are freed by their reference counts. Scanning them took a third of the time of a
    wide run.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def raise_file_limit() -> None:
    """Allow this process more open files than the usual 1,024. A server without a free one accepts no connections."""
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS may allow fewer than its hard limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
