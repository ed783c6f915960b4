"""The host: a process that runs attempts of actions for the servers of a Temporal cluster."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace

from stepwave_server import temporal
from stepwave_server.access.authenticator import Authenticator
from stepwave_server.actions import Registry
from stepwave_server.actions.logs import capture_logs
from stepwave_server.assembly import count_text, hosted_actions, importable, open_metrics
from stepwave_server.config import Settings
from stepwave_server.core.info import Load
from stepwave_server.engine.attempts.lag import LagMonitor
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.files.limits import load_limits, unmatched_limits
from stepwave_server.files.secrets import load_secrets, secret_warnings
from stepwave_server.rpc.health import Health, served
from stepwave_server.stopping import StopSignals, drain_or_stop, tune_garbage_collector
from stepwave_server.telemetry import Metrics, Telemetry

__all__ = ["host"]

logger = logging.getLogger(__name__)


class _HostProcess:
    """The host of this process.

    Attributes:
        health: Whether attempts are taken. It is not served until `host` does so.

    Args:
        settings: The settings.
        telemetry: Exports the spans that actions make.
        metrics: Exports metrics; `None`: nothing is measured.

    Raises:
        AccessError: The access file is malformed.
        ActionsError: An action cannot be loaded, or there are none.
        LimitsError: The limits file is malformed.
        SecretsError: The secrets file is malformed.
        UnsupportedLimits: Temporal cannot enforce a limit.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry | None, metrics: Metrics | None) -> None:
        self.health = Health("")
        self._known = False
        self._settings = settings
        self._telemetry = telemetry
        self._registry = Registry(importable(settings.actions), entry_points=settings.entry_points)
        self._metrics = metrics
        self.actions = hosted_actions(self._registry)
        self._limits = load_limits(settings.limits) if settings.limits else ()
        self._rates = temporal.rates_of(self._limits)
        self._authenticator = Authenticator(settings.access) if settings.access else None
        self._secrets = load_secrets(settings.secrets) if settings.secrets else Secrets()

    async def start(self) -> None:
        """Connect to Temporal, and start to accept attempts.

        Raises:
            TemporalUnavailable: Temporal does not answer, or lacks the namespace.
            TelemetryUnavailable: The address of the metrics cannot be bound.
        """
        settings, names = self._settings, [action.name for action in self.actions]
        warnings = secret_warnings(self._secrets, names, all_known=False)
        for problem in (*unmatched_limits(self._limits, names), *warnings):
            logger.warning("%s", problem)
        client = await temporal.connect(settings)
        await temporal.check_ready(client, settings, attributes=False)
        self._engine = temporal.open_engine(client, settings, self._registry, self._options())
        measures = self._metrics.measures if self._metrics is not None else None
        self._host = temporal.open_host(client, settings, self._engine, _no_named_workflow, self._rates, measures)
        self._lag = LagMonitor(
            asyncio.get_running_loop(), settings.lag_warning, measures.lagged if measures is not None else None
        )
        if self._metrics is not None:
            self._metrics.start(lambda: Load(attempts=self._host.attempts))
        self._engine.follow()
        if self._authenticator is not None:
            self._authenticator.start()
        self._engine.listen(self._on_trouble)
        self._host.serve(self.actions, settings.drain_timeout)
        self._lag.start()

    def _options(self) -> EngineOptions:
        """Return the options of attempts. The access file says which actions a namespace may call."""
        options = replace(self._settings.engine_options(), secrets=self._secrets)
        return options if self._authenticator is None else replace(options, may_call=self._authenticator.may_call)

    async def known(self, stop: asyncio.Event) -> bool:
        """Wait until Temporal gives attempts to this host, and report so. Return false if a signal comes first."""
        known = asyncio.create_task(self._host.wait_until_known())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({known, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        known.cancel()
        self._known = not stop.is_set()
        self.health.set_serving(serving=self._known)
        return self._known

    def _on_trouble(self, trouble: str) -> None:
        """Log that Temporal does not answer, or answers again."""
        self.health.set_serving(serving=self._known and not trouble)
        if trouble:
            logger.error("%s; attempts under way go on, and new ones start when it answers again", trouble)
        else:
            logger.info("Temporal at %s answers again", self._settings.temporal_address)

    async def drain(self) -> None:
        """Stop accepting attempts, let those under way end within `drain_timeout`, and interrupt the rest."""
        self.health.close()
        await self._host.stop()
        await self._close()

    def interrupt(self) -> None:
        """Interrupt all attempts now."""
        self._host.interrupt()

    async def stop(self) -> None:
        """Interrupt all attempts now, and wait for their clean-up."""
        self.interrupt()
        await self.drain()

    async def _close(self) -> None:
        if self._authenticator is not None:
            await self._authenticator.close()
        self._lag.stop()
        await self._engine.close()
        for telemetry in (self._telemetry, self._metrics):
            if telemetry is not None:
                await asyncio.to_thread(telemetry.shutdown)

    @property
    def in_flight(self) -> int:
        """Number of attempts that run here."""
        return self._host.in_flight


def _no_named_workflow(name: str) -> NoReturn:
    """Refuse any name. Steps of `core.workflow` come to servers alone: a host serves no built-in action."""
    raise LookupError(f'no workflow "{name}" on this host')


async def host(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run attempts until SIGTERM or SIGINT, then drain; a second signal interrupts them at once.

    Args:
        settings: The settings.
        ready: Called once attempts are taken, with a line that says so.

    Raises:
        ActionsError, LimitsError, ListenError, UnsupportedLimits, TelemetryUnavailable, TemporalUnavailable: The host
            cannot start.
    """
    telemetry = Telemetry.from_environment()
    if telemetry is not None:
        trace.set_tracer_provider(telemetry.provider())
    metrics = open_metrics(settings, own_process=True)
    if metrics is not None:
        otel_metrics.set_meter_provider(metrics.provider)
    process = _HostProcess(settings, telemetry, metrics)
    with capture_logs():
        async with served(process.health, settings.health):
            await _run(process, settings, ready)


async def _run(process: _HostProcess, settings: Settings, ready: Callable[[str], None]) -> None:
    """Run attempts until a signal, then drain."""
    await process.start()
    try:
        tune_garbage_collector()
        signals = StopSignals()
        if await process.known(signals.drain):
            ready(f"hosting {count_text(len(process.actions), 'action')} for Temporal at {settings.temporal_address}")
            _log(process, settings)
        await signals.drain.wait()
    except BaseException:
        await process.stop()
        raise
    await _drain(process, settings, signals)


async def _drain(process: _HostProcess, settings: Settings, signals: StopSignals) -> None:
    """Drain. A second signal interrupts the attempts under way."""
    running = count_text(process.in_flight, "attempt")
    logger.info(
        "draining: no new attempts; %s under way, with %g s to end; Ctrl-C again stops at once",
        running,
        settings.drain_timeout,
    )
    began = time.monotonic()
    await drain_or_stop(process.drain(), process.stop, signals.stop, process.interrupt)
    logger.info("drained after %.1f s", time.monotonic() - began)


def _log(process: _HostProcess, settings: Settings) -> None:
    """Log what is hosted, and where."""
    names = ", ".join(action.name for action in process.actions)
    where = f"namespace {settings.temporal_namespace}, task queue {settings.temporal_task_queue}"
    logger.info("hosting %s (%s, %d slots for each)", names, where, settings.slots)
