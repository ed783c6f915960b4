"""What the fixtures give: how a test starts servers, and how it calls them."""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeAlias

from integration.server.caller import GUARD, Caller
from stepwave_server.app import Server
from stepwave_server.journal import Journal
from stepwave_server.telemetry import Telemetry

__all__ = ["Call", "Serve", "settles"]


class Serve(Protocol):
    """Starts a server with the stage's actions and others, that stops with the test; what is not said is as usual."""

    async def __call__(
        self,
        *actions: Callable[..., object],
        journal: Journal | None = None,
        telemetry: Telemetry | None = None,
        **settings: object,
    ) -> Server: ...


Call: TypeAlias = Callable[[Server], Caller]
"""Opens a channel to a server, that closes with the test."""


async def settles(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds that no event tells, as that a server has noticed who has gone."""
    async with asyncio.timeout(GUARD):
        while not holds():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
