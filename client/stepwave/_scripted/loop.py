"""An event loop whose clock jumps: when nothing is left to do but wait for a timer, its time has come.

A loop of asyncio runs what is ready, then asks its selector to wait for sockets until the next timer is due. Here that
wait takes no time: the selector tells the clock to be there. So what would last hours is over at once, and in the same
order whenever it is repeated, for nothing depends on how fast the machine is.

Only what happens outside the loop takes real time, and the clock stands still meanwhile: threads and connections. Plain
functions have a thread, one of them at a time, and only when nothing else can happen at this point of virtual time. So
even what they do has one order.
"""

import asyncio
import math
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, TypeVar

from stepwave._client.drive import drive

from .script_errors import RunStuck

__all__ = ["VirtualLoop"]

T = TypeVar("T")

_SECOND = 1_000_000_000

_MOST_TURNS = 1_000_000
"""Turns of the loop without a move of the clock; runs of ten thousand steps at one moment take a tenth of it."""

_LAST_TURNS = 1_000
"""Turns that what is left gets at the end."""

_PARTING = 1.0
"""Seconds, by virtual time, that tasks which are left get to end."""


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of waiting until a timer is due, lets the loop's clock be there."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; a timeout is when the next timer is due, from now, and `None`: there is none."""
        found = super().select(0)
        if found or timeout == 0:
            self.loop.spin()
            return found
        if self.loop.idle(timeout):
            return []
        return self._wait()

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait, by real time, for what happens outside the loop."""
        patience = self.loop.patience
        found = super().select(None if math.isinf(patience) else patience)
        if not found:
            raise RunStuck(f"for {patience:g} s, {self.loop.keeper()}, and virtual time stands still meanwhile")
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time, at zero to begin with.

    Args:
        start: The wall clock at that moment, in nanoseconds since the epoch.
        patience: How many seconds of real time threads and connections may take.
    """

    def __init__(self, start: int, patience: float) -> None:
        self._passed = 0
        self._start = start
        self.patience = patience
        self._turns = 0
        self._most_turns = _MOST_TURNS
        self._leaving = False
        self._queue: dict[asyncio.Future[None], str] = {}
        self._working = ""
        self._lent: set[asyncio.Future[Any]] = set()
        selector = _JumpingSelector()
        selector.loop = self
        super().__init__(selector)
        self._watched = selector.get_map()
        self._own_sockets = len(self._watched)

    def time(self) -> float:
        """Return the loop's time, in seconds."""
        return self._passed / _SECOND

    def nanos(self) -> int:
        """Return the wall clock, in nanoseconds since the epoch: it moves with the loop's time."""
        return self._start + self._passed

    async def in_turn(self, who: str, work: Callable[[], Awaitable[T]]) -> T:
        """Do work that needs a thread when nothing else can happen now, and no other such work is under way.

        Args:
            who: Whose work it is, for a person to read.
            work: Starts it.
        """
        turn = self.create_future()
        self._queue[turn] = who
        try:
            await turn
        finally:
            del self._queue[turn]
        self._working = who
        try:
            return await work()
        finally:
            self._working = ""

    def run_in_executor(  # type: ignore[override]  # as typeshed has it, for any function and its arguments
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Call a function on a thread, as `asyncio.to_thread` does; time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._lent.add(future)
        future.add_done_callback(self._lent.discard)
        return future

    def spin(self) -> None:
        """Note a turn in which something was ready.

        Raises:
            RunStuck: There were too many since the clock moved.
        """
        self._turns += 1
        if self._turns > self._most_turns:
            raise RunStuck(
                f"the event loop made {self._turns:,} turns without waiting for anything: an action spins, and virtual "
                "time stands still meanwhile"
            )

    def idle(self, timeout: float | None) -> bool:
        """Go on where nothing is ready: with the work whose turn it is, else at the next timer.

        Args:
            timeout: When that is due, in seconds from now; `None`: there is none.

        Returns:
            Whether it goes on; if not, something outside the loop must happen first.

        Raises:
            RunStuck: Nothing ever will.
        """
        if self.keeper() and not self._leaving:
            return False
        waiting = next(iter(self._queue), None)
        if waiting is not None:
            waiting.set_result(None)
        elif timeout is None:
            raise RunStuck("nothing is left that could happen")
        else:  # at least a nanosecond: a timer may be due between two of them
            self._passed += max(1, round(timeout * _SECOND))
            self._turns = 0
        return True

    def keeper(self) -> str:
        """Say what happens outside the loop, so that time stands still; empty: nothing does."""
        if self._working:
            return f"{self._working} keeps its thread"
        if self._lent:
            return "an action waits for a thread (`asyncio.to_thread`, `run_in_executor`)"
        if len(self._watched) > self._own_sockets:
            return "an action keeps a connection or a process: replace it by a script"
        return ""

    def leave(self) -> None:
        """Cancel what is left, let it end, and close the loop; what clings on is left behind."""
        self._leaving, self._turns, self._most_turns = True, 0, _LAST_TURNS
        with suppress(RunStuck):
            tasks = asyncio.all_tasks(self)
            for task in tasks:
                task.cancel()
            if tasks:
                drive(self, asyncio.wait(tasks, timeout=_PARTING), strays=(SystemExit,))
            drive(self, self.shutdown_asyncgens(), strays=(SystemExit,))
        self.close()
