"""The host: a process that runs attempts of actions, wherever they come from, until a signal stops it."""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace

from stepwave_server.access.authenticator import Authenticator
from stepwave_server.actions import Registry
from stepwave_server.actions.logs import capture_logs
from stepwave_server.assembly import count_text, hosted_actions, importable, open_metrics
from stepwave_server.config import Settings
from stepwave_server.core.info import Load
from stepwave_server.engine.attempts.lag import LagMonitor
from stepwave_server.engine.base import EngineOptions
from stepwave_server.rpc.health import Health, served
from stepwave_server.stopping import StopSignals, drain_or_stop, tune_garbage_collector
from stepwave_server.telemetry import Metrics, Telemetry

__all__ = ["HostProcess", "run_host"]

logger = logging.getLogger(__name__)


class HostProcess(ABC):
    """The host of this process.

    Attributes:
        actions: Its actions.
        health: Whether attempts are taken.
        resources: What it closes at its end, the last one first.

    Args:
        settings: The settings.
        telemetry: Exports the spans that actions make; `None`: they are not traced.
        metrics: Exports metrics; `None`: nothing is measured.

    Raises:
        AccessError: The access file is malformed.
        ActionsError: An action cannot be loaded, or there are none.
    """

    health: Health

    def __init__(self, settings: Settings, telemetry: Telemetry | None, metrics: Metrics | None) -> None:
        self.resources = AsyncExitStack()
        self._settings = settings
        self._metrics = metrics
        self._measures = metrics.measures if metrics is not None else None
        self._registry = Registry(importable(settings.actions), entry_points=settings.entry_points)
        self.actions = hosted_actions(self._registry)
        self._authenticator = Authenticator(settings.access) if settings.access else None
        for exporter in (metrics, telemetry):
            if exporter is not None:
                self.resources.push_async_callback(asyncio.to_thread, exporter.shutdown)

    def _options(self) -> EngineOptions:
        """Return the options of attempts. The access file says which actions a namespace may call."""
        options = self._settings.engine_options()
        return options if self._authenticator is None else replace(options, may_call=self._authenticator.may_call)

    def _begin(self) -> None:
        """Begin to measure, and to follow the access file.

        Raises:
            TelemetryUnavailable: The address of the metrics cannot be bound.
        """
        if self._metrics is not None:
            self._metrics.start(lambda: Load(attempts=self.attempts))
        if self._authenticator is not None:
            self._authenticator.start()
            self.resources.push_async_callback(self._authenticator.close)
        on_lag = self._measures.lagged if self._measures is not None else None
        lag = LagMonitor(asyncio.get_running_loop(), self._settings.lag_warning, on_lag)
        lag.start()
        self.resources.callback(lag.stop)

    @abstractmethod
    async def start(self) -> None:
        """Start to accept attempts."""

    @abstractmethod
    async def announcement(self, stop: asyncio.Event) -> str:
        """Return the line that says that attempts come, once they do; empty if a stop is requested first."""

    @property
    @abstractmethod
    def place(self) -> str:
        """The place from where attempts come, for the log."""

    @property
    @abstractmethod
    def attempts(self) -> Mapping[str, int]:
        """Number of attempts that run here, by action."""

    @abstractmethod
    async def drain(self) -> None:
        """Stop accepting attempts, let those under way end within `drain_timeout`, and interrupt the rest."""

    @abstractmethod
    def interrupt(self) -> None:
        """Interrupt all attempts now."""

    async def stop(self) -> None:
        """Interrupt all attempts now, and wait for their clean-up."""
        self.interrupt()
        await self.drain()


async def run_host(kind: type[HostProcess], settings: Settings, ready: Callable[[str], None]) -> None:
    """Run attempts until SIGTERM or SIGINT, then drain; a second signal interrupts them at once.

    Args:
        kind: The kind of host.
        settings: The settings.
        ready: Called with the line that says so, once attempts come.

    Raises:
        AccessError, ActionsError, ListenError, TelemetryUnavailable: The host cannot start. A kind has further reasons.
    """
    telemetry = Telemetry.from_environment()
    if telemetry is not None:
        trace.set_tracer_provider(telemetry.provider())
    metrics = open_metrics(settings, own_process=True)
    if metrics is not None:
        otel_metrics.set_meter_provider(metrics.provider)
    process = kind(settings, telemetry, metrics)
    with capture_logs():
        async with served(process.health, settings.health), process.resources:
            await process.start()
            tune_garbage_collector()
            signals = StopSignals()
            try:
                await _run(process, settings, ready, signals)
            except BaseException:
                await process.stop()
                raise
            await _drain(process, settings, signals)


async def _run(process: HostProcess, settings: Settings, ready: Callable[[str], None], signals: StopSignals) -> None:
    """Run attempts until a signal."""
    line = await process.announcement(signals.drain)
    if line:
        ready(line)
        names = ", ".join(action.name for action in process.actions)
        logger.info("hosting %s (%s, %d slots for each)", names, process.place, settings.slots)
    await signals.drain.wait()


async def _drain(process: HostProcess, settings: Settings, signals: StopSignals) -> None:
    """Drain. A second signal interrupts the attempts under way."""
    logger.info(
        "draining: no new attempts; %s under way, with %g s to end; Ctrl-C again stops at once",
        count_text(sum(process.attempts.values()), "attempt"),
        settings.drain_timeout,
    )
    began = time.monotonic()
    await drain_or_stop(process.drain(), process.stop, signals.stop, process.interrupt)
    logger.info("drained after %.1f s", time.monotonic() - began)
