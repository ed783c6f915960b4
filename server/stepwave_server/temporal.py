"""Opens the connection to Temporal, the engine on it, and the host of actions."""

import asyncio
import logging
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial

from temporalio.client import Client
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter
from temporalio.service import RPCError, TLSConfig

from stepwave.v1 import workflow_pb2
from stepwave_server.actions import Registry
from stepwave_server.config import Settings
from stepwave_server.engine.attempts.nested import NestedWorkflows
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.temporal.engine import TemporalEngine, TemporalOptions
from stepwave_server.engine.temporal.host import Host, HostServices
from stepwave_server.engine.temporal.rates import UnsupportedLimits, rates_of
from stepwave_server.engine.temporal.redis.connection import RedisUnavailable, check
from stepwave_server.engine.temporal.redis.reader import RedisReader
from stepwave_server.engine.temporal.redis.sink import RedisSink
from stepwave_server.engine.temporal.requirements import what_is_missing
from stepwave_server.engine.temporal.transients import NO_TRANSIENTS
from stepwave_server.telemetry import Measures, ProcessTelemetry, Telemetry
from stepwave_server.temporal_tls import TemporalCredentials, command_options, load_credentials, reason_of

__all__ = [
    "ChunksUnavailable",
    "TemporalNotReady",
    "TemporalUnavailable",
    "UnsupportedLimits",
    "check_ready",
    "connect",
    "open_engine",
    "open_host",
    "prepare_process",
    "rates_of",
]

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.5

WAITING = "Temporal at %s does not answer yet; waiting for it for at most %g s: %s"
"""The warning at the start, once for each reason: a wait would hide a wrong setting."""

SAME_WORKFLOWS = "any server of the cluster may run the step: start all of them with the same --workflows"
"""The advice about a named workflow that one server has, and another one lacks."""

LOST_CONNECTION = ("gRPC call", "Network error while polling", "Error while polling")
"""Beginnings of the messages of Temporal's client about failed requests."""

LARGE_PAYLOAD = "TMPRL1103"
"""The code in messages of Temporal's client about payloads of half of the allowed size."""


class TemporalUnavailable(Exception):
    """Raised when Temporal does not answer at the start. The message names its address."""


class ChunksUnavailable(TemporalUnavailable):
    """Raised when Redis, which carries chunks and logs, cannot be used at the start. The message names its address."""


async def connect(settings: Settings) -> Client:
    """Connect to Temporal. Try again for as long as the settings say. Redis must answer as well, if they name one.

    Raises:
        TemporalUnavailable: Temporal does not answer.
        ChunksUnavailable: Redis does not answer, or its address is malformed.
        TemporalTlsError: The files for the connection cannot be used.
    """
    credentials = load_credentials(settings)
    if settings.chunks:
        try:
            await check(settings.chunks)
        except RedisUnavailable as error:
            raise ChunksUnavailable(str(error)) from error
    address, wait = settings.temporal_address, settings.temporal_wait
    end = time.monotonic() + wait
    logged = ""
    while True:
        try:
            return await _connect_once(settings, credentials)
        except (RuntimeError, RPCError) as error:
            reason = reason_of(error, settings)
            if wait and reason != logged:
                logger.warning(WAITING, address, wait, reason)
                logged = reason
            if time.monotonic() >= end:
                waited = f" within {wait:g} s" if wait else ""
                raise TemporalUnavailable(f"Temporal at {address} did not answer{waited}: {reason}") from error
        await asyncio.sleep(min(RETRY_SECONDS, max(0.0, end - time.monotonic())))


async def _connect_once(settings: Settings, credentials: TemporalCredentials) -> Client:
    tls = TLSConfig(
        server_root_ca_cert=credentials.authority,
        client_cert=credentials.certificate,
        client_private_key=credentials.key,
    )
    return await Client.connect(
        settings.temporal_address,
        namespace=settings.temporal_namespace,
        tls=tls if credentials.encrypted else False,  # with `None`, a key would turn TLS on
        api_key=credentials.api_key,
    )


class TemporalNotReady(TemporalUnavailable):
    """Raised when Temporal lacks something that must be set up. The message says the command that adds it."""


async def check_ready(client: Client, settings: Settings, *, attributes: bool = True) -> None:
    """Check that Temporal has what is needed. Try again for as long as the settings say.

    Args:
        client: The client of Temporal.
        settings: The settings.
        attributes: Whether the search attributes of runs are needed: by servers, and not by hosts.

    Raises:
        TemporalNotReady: It lacks the namespace or a search attribute.
        TemporalUnavailable: It does not answer.
    """
    address = settings.temporal_address
    end = time.monotonic() + settings.temporal_wait
    while True:
        try:
            missing = await what_is_missing(client, address, command_options(settings), attributes=attributes)
        except RPCError as error:
            raise TemporalUnavailable(f"Temporal at {address} does not answer: {error}") from error
        if not missing:
            return
        if time.monotonic() >= end:
            raise TemporalNotReady(missing)
        await asyncio.sleep(RETRY_SECONDS)


def open_engine(
    client: Client,
    settings: Settings,
    actions: Registry,
    options: EngineOptions,
    telemetry: Telemetry | ProcessTelemetry | None = None,
    measures: Measures | None = None,
) -> TemporalEngine:
    """Return the engine of a server or host."""
    temporal = TemporalOptions(
        address=settings.temporal_address,
        task_queue=settings.temporal_task_queue,
        heartbeat_timeout=settings.temporal_heartbeat_timeout,
    )
    return TemporalEngine(
        client=client,
        actions=actions,
        clock=time.time_ns,
        options=options,
        temporal=temporal,
        telemetry=telemetry,
        measures=measures,
        reader=RedisReader(settings.chunks, settings.temporal_task_queue) if settings.chunks else None,
    )


def open_host(
    client: Client,
    settings: Settings,
    engine: TemporalEngine,
    named: Callable[[str], workflow_pb2.Workflow],
    rates: Mapping[str, float],
    measures: Measures | None = None,
) -> Host:
    """Return a host of actions. It serves nothing yet.

    Args:
        client: The client of Temporal.
        settings: The settings.
        engine: Checks workflows, and adds steps to runs.
        named: Returns a named workflow.
        rates: Starts in a second by action, over all hosts.
        measures: The numbers that metrics are made of; `None`: nothing is measured.
    """
    options = engine.options
    nested = NestedWorkflows(
        partial(_named_on_any_server, named),
        partial(engine.check, open_run=False),
        options.max_payload_bytes,
        engine.find_actions,
    )
    sink = RedisSink(settings.chunks, settings.temporal_task_queue) if settings.chunks else NO_TRANSIENTS
    services = HostServices(
        options=options, nested=nested, add_steps=engine.add_action_steps, sink=sink, measures=measures
    )
    return Host(
        client,
        task_queue=settings.temporal_task_queue,
        slots=settings.slots,
        services=services,
        catalog=engine.catalog,
        connection=engine.connection,
        rates=rates.get,
    )


def _named_on_any_server(named: Callable[[str], workflow_pb2.Workflow], name: str) -> workflow_pb2.Workflow:
    """Return a named workflow of this server, which Temporal chose among all servers to run the step.

    Raises:
        LookupError: This server has none of this name. The message says what to do.
    """
    try:
        return named(name)
    except LookupError as error:
        raise LookupError(f"{error.args[0]} ({SAME_WORKFLOWS})") from None


def prepare_process() -> None:
    """Set up the logs of Temporal's client in a process that serves: problems alone, in the format of other logs.

    Call it before `connect`. Failures of actions are events of their runs. Lost connections are logged by the engine,
    once, and not by each request that fails. A cancel may come just after its attempt has ended: the client warns of
    it, and where warnings are errors, its worker would end.
    """
    warnings.filterwarnings("ignore", message="Cannot find activity to cancel")
    logging.getLogger("temporalio").setLevel(logging.WARNING)
    logging.getLogger("temporalio.activity").addFilter(_is_no_failure_of_an_action)
    core = logging.getLogger("temporalio.core")
    core.addFilter(_is_of_substance)
    forwarding = LogForwardingConfig(core, append_target_to_name=False, prepend_target_on_message=False)
    levels = TelemetryFilter(core_level="WARN", other_level="ERROR")
    logs = LoggingConfig(filter=levels, forwarding=forwarding)
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=logs)), error_if_already_set=False)


def _is_no_failure_of_an_action(record: logging.LogRecord) -> bool:
    return getattr(record, "__temporal_error_identifier", None) != "ActivityFailure"


def _is_of_substance(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in (*LOST_CONNECTION, LARGE_PAYLOAD))
