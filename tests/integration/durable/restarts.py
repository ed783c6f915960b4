"""One server after the other on one journal, each in the event loop of the test.

A server that is left is stopped: what its runs have under way is not committed, as if it had been killed. The journal
records a clean stop all the same.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry import Telemetry

__all__ = ["Restarts", "RunningServer"]


class RunningServer:
    """A server that runs, its client and its controlled actions.

    Attributes:
        server: The server.
        client: A client connected to it.
        controlled: The controlled actions of this server alone.
    """

    def __init__(self, server: Server, client: RawClient, controlled: ControlledActions) -> None:
        self.server = server
        self.client = client
        self.controlled = controlled


class Restarts:
    """Servers that follow one another on one journal.

    Attributes:
        path: The journal's file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @asynccontextmanager
    async def start(
        self,
        *actions: Callable[..., object],
        without: str = "",
        telemetry: Telemetry | None = None,
        path: Path | None = None,
        **settings: object,
    ) -> AsyncIterator[RunningServer]:
        """Run a server while inside.

        Args:
            actions: Actions of the server, beside the controlled ones.
            without: A controlled action that the server lacks.
            telemetry: Where spans are exported to.
            path: The journal's file, if not the common one.
            settings: Settings of the server.
        """
        usual = {"listen": "127.0.0.1:0", "entry_points": False, "journal": f"sqlite:{path or self.path}"}
        controlled = ControlledActions()
        known = [action for action in controlled.actions() if action.__name__ != without]
        async with Server(
            Settings.model_validate({**usual, **settings}), actions=[*known, *actions], telemetry=telemetry
        ) as server:
            client = RawClient(server.address)
            try:
                yield RunningServer(server, client, controlled)
            finally:
                await client.close()
