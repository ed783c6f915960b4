"""Actions that a test controls: each reports when it has started, and waits until the test releases it."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import cast

from integration.server.raw_client import GUARD
from stepwave import Context, action

__all__ = ["ControlledActions"]


class ControlledActions:
    """Actions that wait for the test, and a record of what happened to them.

    Attributes:
        invoked: The steps whose actions were called, in order.
        cancelled: The steps that were cancelled while they waited for the test, in order.
        cleaned: The steps whose clean-up ended.
    """

    def __init__(self) -> None:
        self.invoked: list[str] = []
        self.cancelled: list[str] = []
        self.cleaned: list[str] = []
        self._started: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._all_released = False

    async def wait_started(self, *step_ids: str) -> None:
        """Wait until the actions of these steps have started."""
        async with asyncio.timeout(GUARD):
            for step_id in step_ids:
                await self._started[step_id].wait()

    def release(self, *step_ids: str) -> None:
        """Release steps, whether they have started or not."""
        for step_id in step_ids:
            self._released[step_id].set()

    def release_all(self) -> None:
        """Release all steps, those that start later too."""
        self._all_released = True
        for released in self._released.values():
            released.set()

    async def wait_released(self, step_id: str) -> None:
        """Report that a step has started, and wait until the test releases it."""
        self.invoked.append(step_id)
        self._started[step_id].set()
        if self._all_released:
            return
        try:
            await self._released[step_id].wait()
        except asyncio.CancelledError:
            self.cancelled.append(step_id)
            raise

    def actions(self) -> list[Callable[..., object]]:
        """Return the actions, to be registered with a server."""

        @action
        async def noop(context: Context, input: object = None) -> None:
            """Do nothing, with any input."""
            self.invoked.append(context.step_id)

        @action
        async def controlled(context: Context, value: object = None) -> object:
            """Wait for the test, then answer with the value, by default the step's id."""
            await self.wait_released(context.step_id)
            return context.step_id if value is None else value

        @action
        async def stubborn(context: Context) -> str:
            """Ignore cancellation until the test releases the step."""
            name = context.step_id
            self.invoked.append(name)
            self._started[name].set()
            while not self._released[name].is_set():
                try:
                    await self._released[name].wait()
                except asyncio.CancelledError:
                    self.cancelled.append(name)
                    self._started[f"{name}/cancelled"].set()
            self.cleaned.append(name)
            return "late"

        @action
        async def fails(context: Context, message: str = "no luck") -> None:
            """Wait for the test, then raise."""
            await self.wait_released(context.step_id)
            raise ValueError(message)

        @action
        async def fails_first(context: Context, times: int = 1) -> dict[str, object]:
            """Fail in the first attempts, then answer with the attempt's number and idempotency key."""
            await self.wait_released(context.step_id)
            if context.attempt <= times:
                raise ConnectionError(f"attempt {context.attempt}")
            return {"attempt": context.attempt, "key": context.idempotency_key}

        @action
        async def large_output(size: int) -> str:
            """Answer with a text of this length."""
            return "x" * size

        meeting = asyncio.Barrier(2)

        @action
        async def meets() -> str:
            """Wait until another step does the same."""
            async with asyncio.timeout(GUARD):
                await meeting.wait()
            return "met"

        threads = threading.Barrier(2)

        @action
        def meets_on_thread() -> str:
            """Block the thread until another step does the same."""
            threads.wait(GUARD)
            return threading.current_thread().name

        found = [noop, controlled, stubborn, fails, fails_first, large_output, meets, meets_on_thread]
        return cast("list[Callable[..., object]]", found)
