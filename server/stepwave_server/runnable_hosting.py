"""The host that needs no cluster: it serves `RunnableService` to servers elsewhere."""

import asyncio
from collections.abc import Mapping

from stepwave_server.assembly import tls_files
from stepwave_server.config import Settings
from stepwave_server.engine.attempts.hosted import AttemptHost
from stepwave_server.hosting import HostProcess
from stepwave_server.rpc.runnables import RunnableServer
from stepwave_server.telemetry import Metrics, Telemetry

__all__ = ["RunnableHost"]

CALL_GRACE = 5.0
"""Seconds for calls to deliver what the last attempts came to."""


class RunnableHost(HostProcess):
    """Runs attempts that servers call; see `HostProcess`.

    Raises:
        ListenError: The address is malformed, or not loopback without TLS.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry | None, metrics: Metrics | None) -> None:
        super().__init__(settings, telemetry, metrics)
        self._host = AttemptHost(self.actions, slots=settings.slots, options=self._options(), measures=self._measures)
        self._server = RunnableServer(self._host, settings.listen, tls=tls_files(settings), insecure=settings.insecure)
        self.health = self._server.health
        self._address = ""

    async def start(self) -> None:
        """Start to accept attempts.

        Raises:
            ListenError: The address cannot be bound.
            TelemetryUnavailable: The address of the metrics cannot be bound.
            TlsError: The files for TLS cannot be used.
        """
        self._begin()
        self.resources.push_async_callback(self._server.stop, CALL_GRACE)
        self._address = await self._server.start()

    async def announcement(self, stop: asyncio.Event) -> str:
        """Return the address."""
        return self._address

    @property
    def place(self) -> str:
        """The address."""
        return self._address

    @property
    def attempts(self) -> Mapping[str, int]:
        """Number of attempts that run here, by action."""
        return self._host.attempts

    async def drain(self) -> None:
        """Stop accepting attempts, let those under way end within `drain_timeout`, and interrupt the rest."""
        self.health.close()
        await self._host.drain(self._settings.drain_timeout)

    def interrupt(self) -> None:
        """Interrupt all attempts now."""
        self._host.interrupt()
