"""The check of what a server or host would serve. It starts nothing, writes nothing and connects to nothing."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from stepwave_server.access.access_file import load_access
from stepwave_server.actions import ActionsError, Registry
from stepwave_server.assembly import (
    TEMPORAL,
    check_for_temporal,
    count_text,
    hosted_actions,
    importable,
    open_mcp_servers,
    open_runnables,
    tls_files,
)
from stepwave_server.config import Settings
from stepwave_server.engine.admission.limits import Limit
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.local import LocalEngine
from stepwave_server.engine.secrets.store import PlaceholderSecrets, Secrets
from stepwave_server.files.limits import LimitsError, load_limits, unmatched_limits
from stepwave_server.files.mcp_servers import mcp_secret_warnings
from stepwave_server.files.secrets import SecretsError, load_secrets, secret_warnings
from stepwave_server.journal import JournalError, MemoryJournal, check_place
from stepwave_server.rpc.listening import (
    ListenError,
    check_address,
    check_metrics_address,
    check_protection,
    is_address,
)
from stepwave_server.rpc.requests import Preparer
from stepwave_server.rpc.workflows import Workflows
from stepwave_server.temporal_tls import load_credentials

__all__ = ["CheckFailed", "Checked", "check", "check_host"]

T = TypeVar("T")


class CheckFailed(ValueError):
    """Raised when a server or host could not start. The message has a line for each problem."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of a check: what a server or host would serve.

    Attributes:
        summary: What was checked: `6 actions, 1 named workflow, address 127.0.0.1:50051, journal runs.db`.
        warnings: What would be logged as a warning at the start.
    """

    summary: str
    warnings: tuple[str, ...]


async def check(settings: Settings) -> Checked:
    """Check the actions, the files that settings name, the named workflows, and the places that a server uses.

    Raises:
        CheckFailed: There are problems. All of them are listed.
    """
    problems: list[str] = []
    secrets = _try(problems, lambda: load_secrets(settings.secrets) if settings.secrets else Secrets())
    runnables = _try(problems, lambda: open_runnables(settings))
    mcp = _try(problems, lambda: open_mcp_servers(settings, secrets or Secrets()))
    elsewhere = [action for it in (runnables, mcp) if it is not None for action in it.actions()]
    registry = _try(
        problems, lambda: Registry(importable([*settings.actions, *elsewhere]), entry_points=settings.entry_points)
    )
    limits = _try(problems, lambda: load_limits(settings.limits) if settings.limits else ())
    workflows = _try(problems, lambda: Workflows.load(settings.workflows) if settings.workflows else Workflows())
    if limits and settings.engine == TEMPORAL:
        _try(problems, lambda: _check_rates(limits))
    if workflows is not None:
        options = replace(settings.engine_options(), secrets=PlaceholderSecrets() if secrets is None else secrets)
        known = registry or Registry(entry_points=False)
        problems += await _workflow_problems(
            options, known, workflows, complete=None not in (runnables, mcp) and _knows_actions(settings, registry)
        )
    places = _check_places(settings, problems)
    if registry is None or mcp is None or limits is None or secrets is None or workflows is None or problems:
        raise CheckFailed("\n".join(problems))
    names = [action.name for action in registry]
    found = [count_text(len(names), "action"), count_text(len(list(workflows)), "named workflow")]
    if settings.limits is not None:
        found.append(count_text(len(limits), "limit"))
    warnings = secret_warnings(secrets, names, all_known=settings.engine != TEMPORAL)
    warnings += mcp_secret_warnings(mcp.servers, secrets)
    return Checked(", ".join([*found, *places]), (*unmatched_limits(limits, names), *warnings))


async def check_host(settings: Settings, *, listening: bool = False) -> Checked:
    """Check the actions, the files of limits and secrets, and the places that a host uses.

    Args:
        settings: The settings.
        listening: Whether servers call the host, and it needs no Temporal.

    Raises:
        CheckFailed: There are problems. All of them are listed.
    """
    problems: list[str] = []
    actions = _try(problems, lambda: _load_hosted(settings))
    limits = _try(problems, lambda: load_limits(settings.limits) if settings.limits else ())
    secrets = _try(problems, lambda: load_secrets(settings.secrets) if settings.secrets else Secrets())
    if limits and not listening:
        _try(problems, lambda: _check_rates(limits))
    places = _check_host_places(settings, problems, listening=listening)
    if actions is None or limits is None or secrets is None or problems:
        raise CheckFailed("\n".join(problems))
    found = [count_text(len(actions), "action")]
    if settings.limits is not None:
        found.append(count_text(len(limits), "limit"))
    warnings = secret_warnings(secrets, actions, all_known=False)
    return Checked(", ".join([*found, *places]), (*unmatched_limits(limits, actions), *warnings))


def _load_hosted(settings: Settings) -> list[str]:
    """Return the names of the actions that a host would run."""
    registry = Registry(importable(settings.actions), entry_points=settings.entry_points)
    return [action.name for action in hosted_actions(registry)]


def _check_rates(limits: Iterable[Limit]) -> None:
    from stepwave_server.engine.temporal.rates import rates_of

    rates_of(limits)


def _check_host_places(settings: Settings, problems: list[str], *, listening: bool) -> list[str]:
    """Check the addresses of a host, add their problems to the others, and return what was checked."""
    places = []
    if settings.access is not None:
        _try(problems, partial(load_access, settings.access))
        places.append(f"access {settings.access}")
    if settings.health:
        _try(problems, lambda: check_address(settings.health))
        places.append(f"health checks at {settings.health}")
    _try(problems, lambda: check_metrics_address(settings.metrics_listen, insecure=settings.insecure))
    if listening:
        _try(problems, lambda: _check_listen(settings))
        return [*places, f"address {settings.listen}"]
    return [*places, _check_connections(settings, problems)]


def _check_places(settings: Settings, problems: list[str]) -> list[str]:
    """Check the addresses and the journal, add their problems to the others, and return what was checked."""
    _try(problems, lambda: _check_listen(settings))
    places = [f"address {settings.listen}"]
    if settings.access is not None:
        _try(problems, partial(_check_access, settings.access, on_temporal=settings.engine == TEMPORAL))
        places.append(f"access {settings.access}")
    if settings.engine == TEMPORAL:
        return [*places, _check_connections(settings, problems)]
    path = settings.journal_path()
    if path is None:
        return places
    _try(problems, lambda: check_place(path))
    return [*places, f"journal {path}"]


def _check_connections(settings: Settings, problems: list[str]) -> str:
    """Check the addresses of Temporal and Redis, and the files for Temporal. Return what was checked."""
    _try(problems, lambda: _check_temporal(settings.temporal_address))
    _try(problems, lambda: load_credentials(settings))
    if settings.chunks:
        _try(problems, lambda: _check_redis(settings.chunks))
    return f"Temporal's address {settings.temporal_address}"


def _check_access(path: Path, *, on_temporal: bool) -> None:
    access = load_access(path)
    if on_temporal:
        check_for_temporal(access)


def _check_listen(settings: Settings) -> None:
    check_address(settings.listen)
    check_protection(settings.listen, encrypted=settings.tls_cert is not None, insecure=settings.insecure)
    if settings.health:
        check_address(settings.health)
    if (files := tls_files(settings)) is not None:
        files.load()
    folder = Path(settings.listen.removeprefix("unix:")).parent
    if settings.listen.startswith("unix:") and not folder.is_dir():
        raise ListenError(f"cannot listen at {settings.listen}: there is no folder {folder}")


def _check_temporal(address: str) -> None:
    if address.startswith("unix:") or not is_address(address):
        raise ValueError(f"{address!r} is not the address of Temporal: expected HOST:PORT")


def _check_redis(url: str) -> None:
    from stepwave_server.engine.temporal.redis.connection import RedisUnavailable, client_of

    try:
        client_of(url)
    except RedisUnavailable as error:
        raise ValueError(str(error)) from error


def _knows_actions(settings: Settings, registry: Registry | None) -> bool:
    """Return whether all actions are known here. With Temporal, hosts may have others."""
    return registry is not None and settings.engine != TEMPORAL


async def _workflow_problems(
    options: EngineOptions, actions: Registry, workflows: Workflows, *, complete: bool
) -> list[str]:
    """Return the problems of named workflows. Unless the actions are `complete`, an unknown action is none."""
    engine = LocalEngine(journal=MemoryJournal(time.time_ns), actions=actions, clock=time.time_ns, options=options)
    try:
        preparer = Preparer(engine=engine, workflows=workflows, options=options)
        return await preparer.named_problems(unknown_actions=complete)
    finally:
        await engine.close()


def _try(problems: list[str], load: Callable[[], T]) -> T | None:
    """Load something, and add its problem to the others; `None`: there is one."""
    try:
        return load()
    except (ActionsError, JournalError, LimitsError, ListenError, SecretsError, ValueError) as error:
        problems.append(str(error))
        return None
