"""The host of actions that needs no cluster: a process that serves `RunnableService` to servers elsewhere."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace

from stepwave_server.access.authenticator import Authenticator
from stepwave_server.actions import Registry
from stepwave_server.actions.logs import capture_logs
from stepwave_server.assembly import count_text, hosted_actions, importable, open_metrics, tls_files
from stepwave_server.config import Settings
from stepwave_server.core.info import Load
from stepwave_server.engine.attempts.hosted import AttemptHost
from stepwave_server.engine.attempts.lag import LagMonitor
from stepwave_server.engine.base import EngineOptions
from stepwave_server.rpc.health import served
from stepwave_server.rpc.runnables import RunnableServer
from stepwave_server.stopping import StopSignals, drain_or_stop, tune_garbage_collector
from stepwave_server.telemetry import Metrics, Telemetry

__all__ = ["serve_runnables"]

logger = logging.getLogger(__name__)

CALL_GRACE = 5.0
"""Seconds for calls to deliver what the last attempts came to."""


class _RunnableHost:
    """The host of this process.

    Args:
        settings: The settings.
        telemetry: Exports the spans that actions make.
        metrics: Exports metrics; `None`: nothing is measured.

    Raises:
        AccessError: The access file is malformed.
        ActionsError: An action cannot be loaded, or there are none.
        ListenError: The address is malformed, or not loopback without TLS.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry | None, metrics: Metrics | None) -> None:
        self._settings = settings
        self._telemetry = telemetry
        self._metrics = metrics
        self._authenticator = Authenticator(settings.access) if settings.access else None
        registry = Registry(importable(settings.actions), entry_points=settings.entry_points)
        measures = metrics.measures if metrics is not None else None
        self.attempts = AttemptHost(
            hosted_actions(registry), slots=settings.slots, options=self._options(), measures=measures
        )
        self._lag = LagMonitor(
            asyncio.get_running_loop(), settings.lag_warning, measures.lagged if measures is not None else None
        )
        self.server = RunnableServer(
            self.attempts, settings.listen, tls=tls_files(settings), insecure=settings.insecure
        )

    def _options(self) -> EngineOptions:
        """Return the options of attempts. The access file says which actions a namespace may call."""
        options = self._settings.engine_options()
        return options if self._authenticator is None else replace(options, may_call=self._authenticator.may_call)

    async def start(self) -> str:
        """Start to accept attempts, and return the address.

        Raises:
            ListenError: The address cannot be bound.
            TelemetryUnavailable: The address of the metrics cannot be bound.
            TlsError: The files for TLS cannot be used.
        """
        if self._metrics is not None:
            self._metrics.start(lambda: Load(attempts=self.attempts.attempts))
        if self._authenticator is not None:
            self._authenticator.start()
        self._lag.start()
        return await self.server.start()

    async def drain(self) -> None:
        """Stop accepting attempts, let those under way end within `drain_timeout`, and interrupt the rest."""
        self.server.health.close()
        await self.attempts.drain(self._settings.drain_timeout)
        await self._close()

    async def stop(self) -> None:
        """Interrupt all attempts now, and wait for their clean-up."""
        self.attempts.interrupt()
        await self.drain()

    async def _close(self) -> None:
        await self.server.stop(CALL_GRACE)
        if self._authenticator is not None:
            await self._authenticator.close()
        self._lag.stop()
        for telemetry in (self._telemetry, self._metrics):
            if telemetry is not None:
                await asyncio.to_thread(telemetry.shutdown)


async def serve_runnables(settings: Settings, ready: Callable[[str], None]) -> None:
    """Serve `RunnableService` until SIGTERM or SIGINT, then drain; a second signal interrupts attempts at once.

    Args:
        settings: The settings.
        ready: Called with the address, once attempts are taken.

    Raises:
        AccessError, ActionsError, ListenError, TelemetryUnavailable, TlsError: The host cannot start.
    """
    telemetry = Telemetry.from_environment()
    if telemetry is not None:
        trace.set_tracer_provider(telemetry.provider())
    metrics = open_metrics(settings, own_process=True)
    if metrics is not None:
        otel_metrics.set_meter_provider(metrics.provider)
    host = _RunnableHost(settings, telemetry, metrics)
    with capture_logs():
        async with served(host.server.health, settings.health):
            await _run(host, settings, ready)


async def _run(host: _RunnableHost, settings: Settings, ready: Callable[[str], None]) -> None:
    """Run attempts until a signal, then drain."""
    signals = StopSignals()
    try:
        address = await host.start()
        tune_garbage_collector()
        ready(address)
        names = ", ".join(action.name for action in host.attempts.actions)
        logger.info("hosting %s at %s (%d slots for each)", names, address, settings.slots)
        await signals.drain.wait()
    except BaseException:
        await host.stop()
        raise
    running = count_text(host.attempts.in_flight, "attempt")
    logger.info(
        "draining: no new attempts; %s under way, with %g s to end; Ctrl-C again stops at once",
        running,
        settings.drain_timeout,
    )
    began = time.monotonic()
    await drain_or_stop(host.drain(), host.stop, signals.stop, host.attempts.interrupt)
    logger.info("drained after %.1f s", time.monotonic() - began)
