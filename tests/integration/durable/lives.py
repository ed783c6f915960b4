"""One server after the other on one journal, each in the test's loop: what the next does is all that it can read there.

A server that is left is stopped: what its runs had under way is not committed, as if it had been killed. The journal
notes all the same that it stopped in order.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from integration.server.caller import Caller
from integration.server.stage import Stage
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry import Telemetry

__all__ = ["Life", "Lives"]


class Life:
    """One server, its caller, and the stage where its steps are met.

    Attributes:
        server: The server.
        caller: A channel to it.
        stage: The steps of this life alone.
    """

    def __init__(self, server: Server, caller: Caller, stage: Stage) -> None:
        self.server = server
        self.caller = caller
        self.stage = stage


class Lives:
    """Servers on one journal.

    Attributes:
        path: The journal's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @asynccontextmanager
    async def next(
        self,
        *actions: Callable[..., object],
        without: str = "",
        telemetry: Telemetry | None = None,
        path: Path | None = None,
        **settings: object,
    ) -> AsyncIterator[Life]:
        """Let a server live while inside.

        Args:
            actions: What steps can do, beside the stage's actions.
            without: One of the stage's actions that it lacks.
            telemetry: Where spans go.
            path: Another file than the others'.
            settings: What else it is told.
        """
        usual = {"listen": "127.0.0.1:0", "entry_points": False, "journal": f"sqlite:{path or self.path}"}
        told = Settings.model_validate({**usual, **settings})
        stage = Stage()
        known = [action for action in stage.actions() if action.__name__ != without]
        async with Server(told, actions=[*known, *actions], telemetry=telemetry) as server:
            caller = Caller(server.address)
            try:
                yield Life(server, caller, stage)
            finally:
                await caller.close()
