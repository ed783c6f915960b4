"""An event loop in virtual time: when only a timer is left to wait for, the clock jumps to it.

An asyncio loop runs what is ready, then its selector waits for sockets until the next timer is due. This selector
advances the clock instead of waiting. So hours of pauses take no time, and the order of events does not depend on the
speed of the machine.

Threads and connections take real time, during which the virtual clock stands still. Plain functions run on a thread,
one at a time, and only when nothing else can happen at this moment of virtual time. So their order is fixed too.
"""

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar

from stepwave._client.drive import drive
from stepwave._values.time import NANOS_PER_SECOND

from .script import RunStuck

__all__ = ["VirtualLoop"]

T = TypeVar("T")

_MAX_TURNS = 1_000_000
"""Turns of the loop without an advance of the clock. A run of ten thousand simultaneous steps takes a tenth of it."""

_SHUTDOWN_TURNS = 1_000
"""Turns of the loop for the remaining tasks when it shuts down."""

_SHUTDOWN_TIMEOUT = 1.0
"""Virtual seconds for the remaining tasks to end."""


class _JumpingSelector(selectors.DefaultSelector):
    """Advances the loop's clock to the next timer instead of waiting."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready. `timeout` is the time until the next timer; `None`: there is none."""
        found = super().select(0)
        if found or timeout == 0:
            self.loop.count_turn()
            return found
        if self.loop.advance(timeout):
            return []
        return self._wait()

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait in real time for threads or connections."""
        patience = self.loop.patience
        found = super().select(None if math.isinf(patience) else patience)
        if not found:
            raise RunStuck(f"for {patience:g} s, {self.loop.blocker()}, and virtual time stands still meanwhile")
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, which begins at zero.

    Args:
        start: The wall clock at the beginning, in nanoseconds since the epoch.
        patience: The longest that a thread or connection may block virtual time, in real seconds.
    """

    def __init__(self, start: int, patience: float) -> None:
        self._elapsed = 0
        self._start = start
        self.patience = patience
        self._turns = 0
        self._max_turns = _MAX_TURNS
        self._closing = False
        self._queue: dict[asyncio.Future[None], str] = {}
        self._in_thread = ""
        self._thread_calls: set[asyncio.Future[Any]] = set()
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        self._watched = selector.get_map()
        self._own_sockets = len(self._watched)

    def time(self) -> float:
        """Return the loop's time, in seconds."""
        return self._elapsed / NANOS_PER_SECOND

    def nanos(self) -> int:
        """Return the wall clock in nanoseconds since the epoch. It advances with the loop's time."""
        return self._start + self._elapsed

    async def in_turn(self, label: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run a call on a thread once nothing else can happen now, and no other such call is under way.

        Args:
            label: The step and action of the call, for error messages.
            work: Makes the call.
        """
        turn = self.create_future()
        self._queue[turn] = label
        try:
            await turn
        finally:
            del self._queue[turn]
        self._in_thread = label
        try:
            return await work()
        finally:
            self._in_thread = ""

    def run_in_executor(  # type: ignore[override]  # typeshed's signature has variadic generics
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Call a function on a thread. Virtual time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._thread_calls.add(future)
        future.add_done_callback(self._thread_calls.discard)
        return future

    def count_turn(self) -> None:
        """Count a turn in which something was ready.

        Raises:
            RunStuck: There were too many turns since the clock advanced.
        """
        self._turns += 1
        if self._turns > self._max_turns:
            raise RunStuck(
                f"the event loop made {self._turns:,} turns without waiting for anything: an action spins, and virtual "
                "time stands still meanwhile"
            )

    def advance(self, timeout: float | None) -> bool:
        """Continue when nothing is ready: with the next queued thread call, else at the next timer.

        Args:
            timeout: The seconds until the next timer; `None`: there is none.

        Returns:
            Whether the loop continues; if not, it must wait for a thread or connection.

        Raises:
            RunStuck: There is nothing to wait for.
        """
        if self.blocker() and not self._closing:
            return False
        waiting = next(iter(self._queue), None)
        if waiting is not None:
            waiting.set_result(None)
        elif timeout is None:
            raise RunStuck("nothing is left to wait for")
        else:  # at least a nanosecond: the timer may be due between two of them
            self._elapsed += max(1, round(timeout * NANOS_PER_SECOND))
            self._turns = 0
        return True

    def blocker(self) -> str:
        """Describe the thread or connection for which virtual time stands still; empty: none."""
        if self._in_thread:
            return f"{self._in_thread} does not leave its thread"
        if self._thread_calls:
            return "an action waits for a thread (`asyncio.to_thread`, `run_in_executor`)"
        if len(self._watched) > self._own_sockets:
            return "an action keeps a connection or a process open: replace it by a script"
        return ""

    def shut_down(self) -> None:
        """Cancel the remaining tasks, wait for them for a moment, and close the loop."""
        self._closing, self._turns, self._max_turns = True, 0, _SHUTDOWN_TURNS
        with suppress(RunStuck):
            tasks = asyncio.all_tasks(self)
            for task in tasks:
                task.cancel()
            if tasks:
                drive(self, asyncio.wait(tasks, timeout=_SHUTDOWN_TIMEOUT), strays=(SystemExit,))
            drive(self, self.shutdown_asyncgens(), strays=(SystemExit,))
        self.close()
