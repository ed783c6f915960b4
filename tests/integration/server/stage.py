"""Actions that a test steers: they say when they are there, and go on when they are let."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import cast

from integration.server.caller import GUARD
from stepwave import Context, action

__all__ = ["Stage"]


class Stage:
    """Where a test meets its steps.

    Attributes:
        invoked: The steps whose actions were called, in order.
        cancelled: Those of them that were interrupted while they waited, in order.
        cleaned: Those of them whose clean-up came to its end.
    """

    def __init__(self) -> None:
        self.invoked: list[str] = []
        self.cancelled: list[str] = []
        self.cleaned: list[str] = []
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._all_let = False

    async def here(self, *step_ids: str) -> None:
        """Wait until the steps have arrived."""
        async with asyncio.timeout(GUARD):
            for step_id in step_ids:
                await self._arrived[step_id].wait()

    def let(self, *step_ids: str) -> None:
        """Let steps go on, now or when they arrive."""
        for step_id in step_ids:
            self._gates[step_id].set()

    def let_all(self) -> None:
        """Let every step go on."""
        self._all_let = True
        for gate in self._gates.values():
            gate.set()

    async def enter(self, step_id: str) -> None:
        """Arrive, and wait to be let on."""
        self.invoked.append(step_id)
        self._arrived[step_id].set()
        if self._all_let:
            return
        try:
            await self._gates[step_id].wait()
        except asyncio.CancelledError:
            self.cancelled.append(step_id)
            raise

    def actions(self) -> list[Callable[..., object]]:
        """Return the actions of the stage, as they are named here."""

        @action
        async def noop(context: Context, input: object = None) -> None:
            """Do nothing, with any input."""
            self.invoked.append(context.step_id)

        @action
        async def gated(context: Context, value: object = None) -> object:
            """Wait for the test, then answer with the value, or else the step's id."""
            await self.enter(context.step_id)
            return context.step_id if value is None else value

        @action
        async def stubborn(context: Context) -> str:
            """Swallow cancellation until the test lets it go."""
            name = context.step_id
            self.invoked.append(name)
            self._arrived[name].set()
            while not self._gates[name].is_set():
                try:
                    await self._gates[name].wait()
                except asyncio.CancelledError:
                    self.cancelled.append(name)
                    self._arrived[f"{name}/cancelled"].set()
            self.cleaned.append(name)
            return "late"

        @action
        async def fails(context: Context, message: str = "no luck") -> None:
            """Wait for the test, then raise."""
            await self.enter(context.step_id)
            raise ValueError(message)

        @action
        async def stumbles(context: Context, times: int = 1) -> dict[str, object]:
            """Fail so many times, then say which attempt this is, and the key that it has."""
            await self.enter(context.step_id)
            if context.attempt <= times:
                raise ConnectionError(f"attempt {context.attempt}")
            return {"attempt": context.attempt, "key": context.idempotency_key}

        @action
        async def bulk(size: int) -> str:
            """Answer with so many characters."""
            return "x" * size

        meeting = asyncio.Barrier(2)

        @action
        async def meets() -> str:
            """Wait for another step to do the same."""
            async with asyncio.timeout(GUARD):
                await meeting.wait()
            return "met"

        threads = threading.Barrier(2)

        @action
        def meets_on_thread() -> str:
            """Wait, blocking, for another step to do the same."""
            threads.wait(GUARD)
            return threading.current_thread().name

        found = [noop, gated, stubborn, fails, stumbles, bulk, meets, meets_on_thread]
        return cast("list[Callable[..., object]]", found)
