"""Types of the fixtures that start servers and connect to them, and a wait for states that no event reports."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeAlias

from integration.server.raw_client import GUARD, RawClient
from stepwave_server.app import Server
from stepwave_server.journal import Journal
from stepwave_server.telemetry import Telemetry

__all__ = ["Connect", "Serve", "eventually"]


class Serve(Protocol):
    """Starts a server with the controlled actions and any others. The server stops when the test ends.

    Settings that are not given have the defaults of the fixture.
    """

    async def __call__(
        self,
        *actions: Callable[..., object],
        journal: Journal | None = None,
        telemetry: Telemetry | None = None,
        **settings: object,
    ) -> Server: ...


Connect: TypeAlias = Callable[[Server], RawClient]
"""Connects a client to a server. The channel closes when the test ends."""


async def eventually(condition: Callable[[], bool]) -> None:
    """Run the event loop until a condition holds that no event reports, such as a server's count of watchers."""
    async with asyncio.timeout(GUARD):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
