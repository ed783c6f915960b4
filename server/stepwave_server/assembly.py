"""The parts of servers and hosts, made as the settings say."""

import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace

from stepwave_server.access.access_file import Access
from stepwave_server.access.authenticator import Authenticator
from stepwave_server.access.roles import AccessError
from stepwave_server.actions import Action, ActionsError
from stepwave_server.actions.mcp import McpServers
from stepwave_server.actions.runnables import Runnables
from stepwave_server.config import Settings
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.secrets.store import Secrets
from stepwave_server.files.mcp_servers import load_mcp_servers
from stepwave_server.files.runnables import load_runnables
from stepwave_server.journal import Journal, MemoryJournal, SqliteJournal
from stepwave_server.rpc.listening import check_metrics_address
from stepwave_server.rpc.tls import TlsFiles
from stepwave_server.telemetry import Metrics, prometheus_address

__all__ = [
    "TEMPORAL",
    "bounded",
    "check_for_temporal",
    "count_text",
    "hosted_actions",
    "importable",
    "open_journal",
    "open_mcp_servers",
    "open_metrics",
    "open_runnables",
    "tls_files",
]

TEMPORAL = "temporal"

BUILT_IN = "built-in"
"""The source of the actions that servers have."""

ONE_SERVER = ("max_runs", "max_attempts", "weight", "max_kept_bytes")
"""Bounds of namespaces that one server can hold."""


def count_text(count: int, name: str) -> str:
    """Return a number with the name of what is counted: `1 action`, `3 actions`."""
    return f"{count:,} {name}" if count == 1 else f"{count:,} {name}s"


def importable(actions: Iterable[object]) -> list[object]:
    """Return the actions as a list. If modules are named, make those of the working directory importable."""
    listed = list(actions)
    if any(isinstance(action, str) for action in listed) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return listed


def hosted_actions(actions: Iterable[Action]) -> list[Action]:
    """Return the actions that a host runs: servers have the built-in ones.

    Raises:
        ActionsError: There are none.
    """
    hosted = [action for action in actions if action.source != BUILT_IN]
    if not hosted:
        raise ActionsError("there are no actions to host: name a module with actions")
    return hosted


def bounded(options: EngineOptions, authenticator: Authenticator, *, on_temporal: bool) -> EngineOptions:
    """Return options with the rules of namespaces. On Temporal, later rules are checked for it, too.

    Raises:
        AccessError: A namespace has a bound that needs the memory of one server, and there is none with Temporal.
    """
    if on_temporal:
        authenticator.require(check_for_temporal)
    return replace(
        options,
        may_call=authenticator.may_call,
        max_runs_of=authenticator.max_runs_of,
        max_kept_bytes_of=authenticator.max_kept_bytes_of,
        attempt_bounds=authenticator.attempt_bounds,
        weight_of=authenticator.weight_of,
    )


def check_for_temporal(access: Access) -> None:
    """Check that no namespace has a bound that needs the memory of one server.

    Raises:
        AccessError: One has. All such bounds are listed.
    """
    rules = access.namespaces.items()
    bounds = [f"namespaces.{name}.{key}" for name, it in rules for key in ONE_SERVER if getattr(it, key) is not None]
    if bounds:
        raise AccessError(f"{', '.join(bounds)}: one server must know all runs; with Temporal, none does")


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return the files for TLS that the settings name; `None`: plain text."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(certificate=settings.tls_cert, key=settings.tls_key, client_authority=settings.tls_client_ca)


def open_metrics(settings: Settings, *, own_process: bool) -> Metrics | None:
    """Return metrics as the environment and the settings say; `None`: nothing asks for them.

    Args:
        settings: The settings.
        own_process: Whether the process only serves. Otherwise an endpoint that the environment asks for is not ours.

    Raises:
        ListenError: The address of the metrics is malformed or not allowed.
        TelemetryUnavailable: An exporter is missing or cannot be set up.
    """
    listen = settings.metrics_listen or (prometheus_address() if own_process else "")
    check_metrics_address(listen, insecure=settings.insecure)
    return Metrics.from_environment(listen)


def open_runnables(settings: Settings) -> Runnables:
    """Return the services of actions that the settings name. Connections are made with the first calls.

    Raises:
        RunnablesError: The file is malformed.
    """
    found = load_runnables(settings.runnables) if settings.runnables else ()
    return Runnables(found, settings.max_payload_bytes)


def open_mcp_servers(settings: Settings, secrets: Secrets) -> McpServers:
    """Return the MCP servers that the settings name, and the sessions with them, opened by the first calls.

    Args:
        settings: The settings.
        secrets: The secrets that the servers get.

    Raises:
        McpServersError: The file is malformed, or MCP cannot be used.
    """
    found = load_mcp_servers(settings.mcp_servers) if settings.mcp_servers else ()
    return McpServers(found, secrets.values, settings.max_payload_bytes)


def open_journal(settings: Settings) -> Journal:
    """Return the journal that the settings name.

    Raises:
        JournalError: It cannot be opened.
    """
    path, retention = settings.journal_path(), settings.retention()
    if path is None:
        return MemoryJournal(time.time_ns, retention)
    return SqliteJournal.open(path, clock=time.time_ns, retention=retention, synchronous=settings.synchronous)
