"""Ctrl-C with two meanings: the first asks the command to end its way, the second ends the process at once."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from stepwave.cli.exit_codes import ExitCode

from .shutdown import end_process

__all__ = ["on_interrupt"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_interrupt(first: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """Handle interrupts while the body runs.

    Args:
        first: Called on the running loop at the first one.
        leave: Called at the second one, before the process ends: put the terminal in order.
    """
    loop = asyncio.get_running_loop()
    seen = 0

    def handle(_signal: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        if seen == 1:
            loop.call_soon_threadsafe(first)
        else:
            with suppress(Exception):
                leave()
            end_process(ExitCode.CANCELLED)

    # Not the loop's own handlers: they would wait for a loop that an action of this process may be blocking.
    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
