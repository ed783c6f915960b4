"""Servers of one cluster on Temporal, for tests of what is transient, and an action that shows what it is told to."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Self, TypeVar
from uuid import uuid4

from stepwave import AsyncClient, Context, Retry, Workflow, action
from stepwave._model.events import Event
from stepwave_server.app import Server
from stepwave_server.config import Settings
from temporal_server import TemporalServer

__all__ = ["SECONDS", "Noted", "Replicas", "Script", "first", "one_step"]

SECONDS = 20
"""Seconds within which anything that is awaited must have happened."""

E = TypeVar("E", bound=Event)


class Replicas:
    """Servers that share a task queue of their own, for as long as the block.

    Args:
        temporal: The server of Temporal.
        chunks: The address of Redis; empty: none.
        slots: Attempts of one action that a server runs at once.
    """

    def __init__(self, temporal: TemporalServer, chunks: str = "", slots: int = 100) -> None:
        self.settings = Settings(
            listen="127.0.0.1:0",
            engine="temporal",
            temporal_address=temporal.address,
            temporal_task_queue=f"test-{uuid4().hex}",
            chunks=chunks,
            slots=slots,
            entry_points=False,
        )
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def server(self, *actions: object) -> Server:
        """Start a server that hosts some actions."""
        return await self._stack.enter_async_context(Server(self.settings, actions=actions))

    async def client(self, *actions: object) -> AsyncClient:
        """Start a server that hosts some actions, and return a client of it."""
        return await self.client_of(await self.server(*actions))

    async def client_of(self, server: Server) -> AsyncClient:
        """Return a client of a server."""
        return await self._stack.enter_async_context(AsyncClient(server.address))


class Script:
    """An action `act` whose attempts do what the test tells them, one call after the other.

    Attributes:
        begun: Counts the attempts that have begun.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self._calls: asyncio.Queue[Callable[[Context], object]] = asyncio.Queue()

    def tell(self, *calls: Callable[[Context], object]) -> None:
        """Tell an attempt what to do next. An attempt ends when a call returns `True`."""
        for call in calls:
            self._calls.put_nowait(call)

    def end(self) -> None:
        """Let an attempt end."""
        self.tell(lambda _: True)

    @property
    def action(self) -> object:
        """The action."""

        @action("act")
        async def act(context: Context) -> str:
            self.begun.release()
            while (await self._calls.get())(context) is not True:
                pass
            return "done"

        return act


def one_step(action: str = "act", retry: Retry | None = None) -> Workflow:
    """Return a workflow of one step, `s`."""
    workflow = Workflow("one")
    workflow.step("s", action, retry=retry)
    return workflow


async def first(events: AsyncIterator[Event], kind: type[E], *, count: int = 1) -> list[E]:
    """Return the first events of a kind from a stream."""
    found: list[E] = []
    async for event in events:
        if isinstance(event, kind):
            found.append(event)
            if len(found) == count:
                break
    return found


class Noted(logging.Handler):
    """Notes the lines of the server's log that begin with a text, while inside.

    Attributes:
        noted: Set when there was one.
        count: Their count.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.noted = asyncio.Event()
        self.count = 0
        self._text = text

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self._text):
            self.count += 1
            self.noted.set()

    def __enter__(self) -> Self:
        logging.getLogger("stepwave_server").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("stepwave_server").removeHandler(self)
