"""The server: assembly from settings, start, drain and stop."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry import metrics as otel_metrics
from opentelemetry import trace

from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.access.audit import AuditLog
from stepwave_server.access.authenticator import Authenticator
from stepwave_server.actions import Registry
from stepwave_server.actions.logs import capture_logs
from stepwave_server.actions.outbound import AllowList, Outbound
from stepwave_server.assembly import (
    TEMPORAL,
    bounded,
    count_text,
    importable,
    open_journal,
    open_mcp_servers,
    open_metrics,
    open_runnables,
    tls_files,
)
from stepwave_server.config import Settings
from stepwave_server.core.info import DEFAULT_NAMESPACE, Load
from stepwave_server.engine.attempts.lag import LagMonitor
from stepwave_server.engine.base import Engine, EngineOptions, Recover
from stepwave_server.engine.local import LocalEngine
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.files.limits import load_limits, unmatched_limits
from stepwave_server.files.mcp_servers import mcp_secret_warnings
from stepwave_server.files.secrets import load_secrets, secret_warnings
from stepwave_server.journal import Journal
from stepwave_server.rpc.attachments import Attachments
from stepwave_server.rpc.handlers import Bounds
from stepwave_server.rpc.listening import check_metrics_address
from stepwave_server.rpc.permissions import Permissions
from stepwave_server.rpc.requests import Preparer
from stepwave_server.rpc.server import GrpcServer
from stepwave_server.rpc.servicer import Orchestrator
from stepwave_server.rpc.shared_attachments import SharedAttachments
from stepwave_server.rpc.workflows import Workflows
from stepwave_server.stopping import StopSignals, drain_or_stop, raise_file_limit, tune_garbage_collector
from stepwave_server.telemetry import Measures, Metrics, Telemetry, telemetry_of_process
from stepwave_server.wire.responses.server_info import CAPABILITIES, to_limits, to_server_info

if TYPE_CHECKING:
    from stepwave_server.engine.temporal.host import Host

__all__ = ["Server", "serve"]

logger = logging.getLogger(__name__)

RECOVERY_VERBS = {Recover.RESUME: "resumed", Recover.PAUSE: "left alone", Recover.FAIL: "failed"}

STREAM_GRACE = 5.0
"""Seconds for streams to deliver the remaining events after the last run has ended."""


class Server:
    """A Stepwave server in this process: `async with Server(settings, actions=[…]) as server: server.address`.

    Args:
        settings: The settings; by default from the environment.
        actions: Actions beside the built-in ones, those of installed packages and those that the settings name: marked
            functions or classes, modules, or names of modules.
        telemetry: Exports spans; by default as the standard `OTEL_…` variables say, else through the tracer provider
            that the process has set, if any.
        metrics: Exports metrics; by default as the standard `OTEL_…` variables and `metrics_listen` say.
        journal: The journal, closed with the server; by default the one that the settings name.

    Attributes:
        settings: The settings.
        address: The address; empty before the start.
        registry: The actions. More can be added while the server runs.

    Raises:
        ActionsError: An action cannot be loaded.
        AccessError: The access file is malformed, or the audit log cannot be opened.
        LimitsError: The limits file is malformed.
        McpServersError: The file of MCP servers is malformed, or MCP cannot be used.
        RunnablesError: The file of runnables is malformed.
        SecretsError: The secrets file is malformed.
        ValueError: The folder of workflows does not exist.
        ListenError: An address is malformed or not allowed.
        TelemetryUnavailable: An exporter of spans is missing or cannot be set up.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        actions: Iterable[object] = (),
        telemetry: Telemetry | None = None,
        metrics: Metrics | None = None,
        journal: Journal | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.address = ""
        self._telemetry = telemetry or telemetry_of_process(self.settings.trace_detail)
        check_metrics_address(self.settings.metrics_listen, insecure=self.settings.insecure)
        self._metrics = metrics
        self._journal = journal
        self._host: Host | None = None
        self._attachments: Attachments | SharedAttachments
        self._health_updates: set[asyncio.Task[None]] = set()
        self._authenticator = Authenticator(self.settings.access) if self.settings.access else None
        self._audit = AuditLog(self.settings.audit_log)
        self._limits = load_limits(self.settings.limits) if self.settings.limits else ()
        self._secrets = load_secrets(self.settings.secrets) if self.settings.secrets else Secrets()
        self._runnables = open_runnables(self.settings)
        self._mcp = open_mcp_servers(self.settings, self._secrets)
        self._outbound = Outbound(AllowList.of(self.settings.http_allow), max_bytes=self.settings.max_payload_bytes)
        self.registry = Registry(
            importable([*self.settings.actions, *actions, *self._runnables.actions(), *self._mcp.actions()]),
            entry_points=self.settings.entry_points,
            outbound=self._outbound,
        )
        self._workflows = Workflows.load(self.settings.workflows) if self.settings.workflows else Workflows()

    async def __aenter__(self) -> Self:
        """Start the server. Calls succeed from now on."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Stop the server at once. Runs under way are cancelled; a durable journal keeps them for the next server."""
        await self.stop()

    async def start(self) -> None:
        """Recover the runs that an earlier server left under way, and start serving at `address`.

        Raises:
            JournalError: The journal cannot be opened.
            ListenError: The address cannot be bound.
            TlsError: The files for TLS cannot be used.
            TelemetryUnavailable: The address of the metrics cannot be bound, or an exporter cannot be set up.
            WorkflowsError: Named workflows cannot run here. All problems of all files are listed.
        """
        options = replace(self.settings.engine_options(), limits=self._limits, secrets=self._secrets)
        if self._authenticator is not None:
            options = bounded(options, self._authenticator, on_temporal=self.settings.engine == TEMPORAL)
        self._metrics = self._metrics or open_metrics(self.settings, own_process=False)
        try:
            preparer = self._assemble(await self._open_engine(options))
        except BaseException:
            await self._close_storage()
            await self._stop_telemetry()
            raise
        try:
            if self._metrics is not None:
                self._metrics.start(self._load)
            # With Temporal, the hosts of actions may start later.
            await preparer.check_named(unknown_actions=self.settings.engine != TEMPORAL)
            self.address = self._grpc.bind()
            await self._recover()
            await self._grpc.start()
        except BaseException:
            await self._stop_serving()
            raise
        self.engine.listen(self._on_journal_trouble)
        self._lag.start()
        if self._authenticator is not None:
            self._authenticator.start()

    async def _open_engine(self, options: EngineOptions) -> Engine:
        """Return the engine that the settings name."""
        names = [action.name for action in self.registry]
        warnings = secret_warnings(self._secrets, names, all_known=self.settings.engine != TEMPORAL)
        warnings += mcp_secret_warnings(self._mcp.servers, self._secrets)
        for problem in (*unmatched_limits(self._limits, names), *warnings):
            logger.warning("%s", problem)
        if self.settings.engine == TEMPORAL:
            return await self._open_temporal(options)
        self._journal = self._journal or open_journal(self.settings)
        engine = LocalEngine(
            journal=self._journal,
            actions=self.registry,
            clock=time.time_ns,
            options=options,
            named=self._named_workflow,
            telemetry=self._telemetry,
            measures=self._measures,
        )
        if self._authenticator is not None:
            self._authenticator.listeners.append(engine.apply_attempt_bounds)
        if self._measures is not None:
            self._journal.commits.listener = self._measures.committed
        self._attachments = Attachments(engine.cancel)
        return engine

    async def _open_temporal(self, options: EngineOptions) -> Engine:
        """Connect to Temporal. This server hosts the actions that it has."""
        from stepwave_server import temporal

        rates = temporal.rates_of(self._limits)
        options = replace(options, limits=())
        client = await temporal.connect(self.settings)
        await temporal.check_ready(client, self.settings)
        engine = temporal.open_engine(client, self.settings, self.registry, options, self._telemetry, self._measures)
        self._host = temporal.open_host(client, self.settings, engine, self._named_workflow, rates, self._measures)
        attachments = SharedAttachments(engine.hold)
        engine.presence.on_loss = attachments.lose
        self._attachments = attachments
        return engine

    def _assemble(self, engine: Engine) -> Preparer:
        """Create the parts of the server without starting them."""
        settings = self.settings
        self.engine = engine
        preparer = Preparer(engine=self.engine, workflows=self._workflows, options=engine.options)
        orchestrator = Orchestrator(
            engine=self.engine,
            preparer=preparer,
            attachments=self._attachments,
            info=self._info(),
            load=self._load,
        )
        bounds = Bounds(
            calls=settings.max_calls, streams=settings.max_streams, message_bytes=settings.max_message_bytes
        )
        measures = self._measures
        self._grpc = GrpcServer(
            orchestrator,
            settings.listen,
            bounds,
            permissions=Permissions(self._authenticator, self._audit),
            tls=tls_files(settings),
            insecure=settings.insecure,
            max_connection_streams=settings.max_connection_streams,
            max_connection_age=settings.max_connection_age,
            health=settings.health,
            on_call=measures.call_ended if measures is not None else None,
        )
        on_lag = measures.lagged if measures is not None else None
        self._lag = LagMonitor(asyncio.get_running_loop(), settings.lag_warning, on_lag)
        return preparer

    @property
    def metrics_address(self) -> str:
        """The address of the Prometheus endpoint; empty: there is none."""
        return self._metrics.address if self._metrics is not None else ""

    @property
    def _measures(self) -> Measures | None:
        """The numbers that metrics are made of; `None`: nothing is measured."""
        return self._metrics.measures if self._metrics is not None else None

    def _load(self) -> Load:
        """Return what this server does now."""
        load = self.engine.load()
        return load if self._host is None else replace(load, attempts=self._host.attempts)

    def _named_workflow(self, name: str) -> workflow_pb2.Workflow:
        workflow = self._workflows.get(name)
        if workflow is None:
            raise LookupError(self._workflows.unknown(name))
        return workflow

    async def _recover(self) -> None:
        """Recover the runs that an earlier server left under way, before calls can ask for them."""
        how = self.settings.recover
        recovery = await self.engine.recover(how)
        if self._host is not None:
            self._host.serve(self.registry, self.settings.drain_timeout)
        journal = self._journal
        if journal is None:
            logger.info("runs are on Temporal at %s", self.settings.temporal_address)
            return
        for key, window in recovery.attached.items():
            self._attachments.recover(key, window, crashed=not journal.clean)
        if journal.durable:
            logger.info("journal: %s", journal.location)
        if recovery.runs:
            runs, attempts = count_text(recovery.runs, "run"), count_text(recovery.attempts, "running attempt")
            logger.info("%s %s, with %s that the end of an earlier server cut off", RECOVERY_VERBS[how], runs, attempts)
        for run_id, reason in recovery.unsupported.items():
            logger.error("run %s cannot continue on this server, and is left unchanged: %s", run_id, reason)

    def _on_journal_trouble(self, trouble: str) -> None:
        """Log that commits fail or succeed again, and update the health checks.

        Args:
            trouble: Why commits fail; empty once they succeed again.
        """
        temporal = self._journal is None
        if trouble:
            end = "it answers" if temporal else "commits succeed"
            logger.error("%s; no new runs are accepted until %s again", trouble, end)
        else:
            what = (
                f"Temporal at {self.settings.temporal_address} answers"
                if temporal
                else "commits to the journal succeed"
            )
            logger.info("%s again", what)
        serving = not trouble and not self.engine.draining
        update = asyncio.get_running_loop().create_task(self._grpc.set_serving(serving=serving))
        self._health_updates.add(update)
        update.add_done_callback(self._health_updates.discard)

    def summary(self) -> str:
        """Return what the server has, and the command that lists it."""
        actions = count_text(sum(1 for _ in self.registry), "action")
        workflows = count_text(sum(1 for _ in self._workflows), "named workflow")
        return f"{actions}, {workflows}; list the actions: stepwave actions --server {self.address}"

    async def drain(self) -> None:
        """Accept no new runs, let those under way end within `drain_timeout`, cancel the rest, then stop."""
        await self._grpc.set_serving(serving=False)
        self._attachments.close()
        await self.engine.drain(self.settings.drain_timeout)
        await self._stop_serving()

    async def stop(self) -> None:
        """Stop at once. Runs under way are cancelled; a durable journal keeps them for the next server."""
        await self._grpc.set_serving(serving=False)
        self._attachments.close()
        self.interrupt()
        await self.engine.drain(0)
        await self._stop_serving()

    def interrupt(self) -> None:
        """Interrupt the attempts that this server runs for Temporal. They run again on another server or host."""
        if self._host is not None:
            self._host.interrupt()

    async def _stop_serving(self) -> None:
        self._lag.stop()
        if self._authenticator is not None:
            await self._authenticator.close()
        try:
            if self._host is not None:  # first, as attempts under way need the engine: it may be the only one
                await self._host.stop()
            await self.engine.close()
        finally:
            await self._outbound.close()
            await self._grpc.stop(STREAM_GRACE)
            self._audit.close()
            await self._close_storage()
        await self._stop_telemetry()

    async def _stop_telemetry(self) -> None:
        """Export what waits for export."""
        for telemetry in (self._telemetry, self._metrics):
            if telemetry is not None:
                await asyncio.to_thread(telemetry.shutdown)

    async def _close_storage(self) -> None:
        if self._host is not None:
            await self._host.stop()
        await self._runnables.close()
        await self._mcp.close()
        if self._journal is not None:
            await self._journal.close()

    def _info(self) -> orchestrator_pb2.ServerInfo:
        settings, options = self.settings, self.engine.options
        limits = to_limits(
            max_steps=options.run.limits.max_steps,
            max_edges=options.run.limits.max_edges,
            max_payload_bytes=options.max_payload_bytes,
            max_message_bytes=settings.max_message_bytes,
            max_runs=options.max_runs,
            max_attempts_in_flight=options.max_attempts_in_flight,
            step_timeout=options.run.step_timeout,
            idle_timeout=options.idle_timeout,
        )
        return to_server_info(
            version=version("stepwave"),
            engine=settings.engine,
            journal=self._journal.name if self._journal is not None else settings.engine,
            limits=limits,
            start_time=time.time_ns(),
            capabilities=self._capabilities(),
        )

    def _capabilities(self) -> list[str]:
        """Return the parts of the contract that the server serves.

        On Temporal, the state of limits is not known, and chunks and logs of hosts need Redis.
        """
        without: set[str] = set()
        if self._authenticator is None or self._authenticator.access.namespaces.keys() == {DEFAULT_NAMESPACE}:
            without = {"namespaces"}
        if self.settings.engine == TEMPORAL:
            without |= {"limits"} if self.settings.chunks else {"limits", "chunks", "logs"}
        return [capability for capability in CAPABILITIES if capability not in without]


async def serve(settings: Settings, ready: Callable[[str], None], *, ignore_interrupts: bool = False) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal stops at once.

    Args:
        settings: The server's settings.
        ready: Called with the address once calls succeed.
        ignore_interrupts: Whether SIGINT has no effect: a parent process gets it too, and sends SIGTERM.

    Raises:
        ActionsError, JournalError, ListenError, TelemetryUnavailable, ValueError: The server cannot start.
    """
    telemetry = Telemetry.from_environment(settings.trace_detail)
    if telemetry is not None:  # spans that actions make go the same way
        trace.set_tracer_provider(telemetry.provider())
    metrics = open_metrics(settings, own_process=True)
    if metrics is not None:
        otel_metrics.set_meter_provider(metrics.provider)
    server = Server(settings, telemetry=telemetry, metrics=metrics)
    await asyncio.sleep(0)  # an interrupt during the imports ends this here, before runs of an earlier server continue
    with capture_logs():  # before the start, which continues runs of an earlier server
        await _serve(server, ready, ignore_interrupts=ignore_interrupts)


async def _serve(server: Server, ready: Callable[[str], None], *, ignore_interrupts: bool) -> None:
    """Start a server, serve until the first signal, and drain."""
    await server.start()
    try:
        stop_requested = await _serve_until_signal(server, ready, ignore_interrupts=ignore_interrupts)
    except BaseException:
        await server.stop()
        raise
    under_way = "attempts under way here" if server.settings.engine == TEMPORAL else "those under way"
    timeout = server.settings.drain_timeout
    logger.info("draining: no new runs; %s get %g s; Ctrl-C again stops at once", under_way, timeout)
    await drain_or_stop(server.drain(), server.stop, stop_requested, server.interrupt)


async def _serve_until_signal(
    server: Server, ready: Callable[[str], None], *, ignore_interrupts: bool
) -> asyncio.Event:
    """Serve until the first signal, and return the event that the second signal sets."""
    tune_garbage_collector()
    raise_file_limit()
    signals = StopSignals(ignore_interrupts=ignore_interrupts)
    ready(server.address)
    logger.info("%s", server.summary())
    await signals.drain.wait()
    return signals.stop
