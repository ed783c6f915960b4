"""The check of what a server would serve: its actions, limits, secrets and named workflows. It starts nothing."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from stepwave_server.actions import ActionsError, Registry
from stepwave_server.app import TEMPORAL, count_text, importable
from stepwave_server.config import Settings
from stepwave_server.engine.base import EngineOptions
from stepwave_server.engine.local import LocalEngine
from stepwave_server.engine.secrets.store import PlaceholderSecrets, Secrets
from stepwave_server.journal import MemoryJournal
from stepwave_server.limits_file import LimitsError, load_limits, unmatched_limits
from stepwave_server.rpc.requests import Preparer
from stepwave_server.rpc.workflows import Workflows
from stepwave_server.secrets_file import SecretsError, load_secrets, secret_warnings

__all__ = ["CheckFailed", "Checked", "check"]

T = TypeVar("T")


class CheckFailed(ValueError):
    """Raised when a server could not start. The message has a line for each problem."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a server would serve.

    Attributes:
        summary: The number of actions and named workflows.
        warnings: What would be logged as a warning at the start.
    """

    summary: str
    warnings: tuple[str, ...]


async def check(settings: Settings, actions: Iterable[object]) -> Checked:
    """Check the actions, the files of limits and secrets, and the named workflows that a server would have.

    Raises:
        CheckFailed: There are problems. All of them are listed.
    """
    problems: list[str] = []
    registry = _try(problems, lambda: Registry(importable(actions), entry_points=settings.entry_points))
    limits = _try(problems, lambda: load_limits(settings.limits) if settings.limits else ())
    secrets = _try(problems, lambda: load_secrets(settings.secrets) if settings.secrets else Secrets())
    workflows = _try(problems, lambda: Workflows.load(settings.workflows) if settings.workflows else Workflows())
    if limits and settings.engine == TEMPORAL:
        from stepwave_server.engine.temporal.rates import rates_of

        _try(problems, lambda: rates_of(limits))
    if workflows is not None:
        options = replace(settings.engine_options(), secrets=PlaceholderSecrets() if secrets is None else secrets)
        known = registry or Registry(entry_points=False)
        problems += await _workflow_problems(options, known, workflows, complete=_knows_actions(settings, registry))
    if registry is None or limits is None or secrets is None or workflows is None or problems:
        raise CheckFailed("\n".join(problems))
    names = [action.name for action in registry]
    found = [count_text(len(names), "action"), count_text(len(list(workflows)), "named workflow")]
    warnings = secret_warnings(secrets, names, all_known=settings.engine != TEMPORAL)
    return Checked(", ".join(found), (*unmatched_limits(limits, names), *warnings))


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
    except (ActionsError, LimitsError, SecretsError, ValueError) as error:
        problems.append(str(error))
        return None
