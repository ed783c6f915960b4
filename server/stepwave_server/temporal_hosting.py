"""The host for the servers of a Temporal cluster."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from stepwave_server import temporal
from stepwave_server.assembly import count_text
from stepwave_server.config import Settings
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.files.limits import load_limits, unmatched_limits
from stepwave_server.files.secrets import load_secrets, secret_warnings
from stepwave_server.hosting import HostProcess
from stepwave_server.rpc.health import Health
from stepwave_server.telemetry import Metrics, Telemetry

__all__ = ["TemporalHost"]

logger = logging.getLogger(__name__)


class TemporalHost(HostProcess):
    """Runs attempts that Temporal gives it; see `HostProcess`.

    Raises:
        LimitsError: The limits file is malformed.
        SecretsError: The secrets file is malformed.
        UnsupportedLimits: Temporal cannot enforce a limit.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry | None, metrics: Metrics | None) -> None:
        super().__init__(settings, telemetry, metrics)
        self.health = Health("")
        self._known = False
        self._limits = load_limits(settings.limits) if settings.limits else ()
        self._rates = temporal.rates_of(self._limits)
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
        self._host = temporal.open_host(client, settings, self._engine, _no_named_workflow, self._rates, self._measures)
        self._begin()
        self.resources.push_async_callback(self._engine.close)
        self._engine.follow()
        self._engine.listen(self._on_trouble)
        self._host.serve(self.actions, settings.drain_timeout)

    def _options(self) -> EngineOptions:
        return replace(super()._options(), secrets=self._secrets)

    async def announcement(self, stop: asyncio.Event) -> str:
        """Return the line that says that Temporal gives attempts to this host, once it does."""
        known = asyncio.create_task(self._host.wait_until_known())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({known, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        known.cancel()
        self._known = not stop.is_set()
        self.health.set_serving(serving=self._known)
        if not self._known:
            return ""
        return f"hosting {count_text(len(self.actions), 'action')} for Temporal at {self._settings.temporal_address}"

    @property
    def place(self) -> str:
        """The namespace and the task queue in Temporal."""
        return f"namespace {self._settings.temporal_namespace}, task queue {self._settings.temporal_task_queue}"

    @property
    def attempts(self) -> Mapping[str, int]:
        """Number of attempts that run here, by action."""
        return self._host.attempts

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

    def interrupt(self) -> None:
        """Interrupt all attempts now."""
        self._host.interrupt()


def _no_named_workflow(name: str) -> NoReturn:
    """Refuse any name. Steps of `core.workflow` come to servers alone: a host serves no built-in action."""
    raise LookupError(f'no workflow "{name}" on this host')
