"""The settings of commands that run a server or read its journal: from options, the environment and a file."""

import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from .display.output import print_line, print_message
from .exit_codes import CommandError
from .process.shutdown import run_with_actions
from .process.standard_streams import reserve_stdout
from .server import require_temporal_extra

if TYPE_CHECKING:
    from pydantic import ValidationError

    from stepwave_server.check import Checked
    from stepwave_server.config import Settings
    from stepwave_server.config_loading import LoadedSettings

__all__ = [
    "find_serve_settings",
    "find_settings",
    "log_loaded",
    "make_settings",
    "print_checked",
    "require_valid",
    "settings_problems",
    "unused_settings",
]

logger = logging.getLogger(__name__)

_DEFAULTS: Mapping[str, object] = {"journal": "sqlite"}
_OPTION_NAMES = {"tracebacks": "--no-tracebacks"}

_LOCAL_ONLY = {
    "journal": "the journal is Temporal",
    "synchronous": "the journal is Temporal",
    "recover": "runs continue on any server",
    "keep_runs": "the retention of the namespace says how long ended runs are kept",
    "keep_age": "the retention of the namespace says how long ended runs are kept",
    "keep_bytes": "the retention of the namespace says how long ended runs are kept",
    "max_runs": "Temporal bounds its runs",
    "max_attempts": "attempts are bounded for each action and host: --slots",
}
_TEMPORAL_ONLY = (
    "temporal_address",
    "temporal_namespace",
    "temporal_task_queue",
    "temporal_tls",
    "temporal_tls_ca",
    "temporal_tls_cert",
    "temporal_tls_key",
    "temporal_api_key_file",
    "temporal_wait",
    "temporal_heartbeat_timeout",
    "slots",
    "chunks",
)


def find_settings(
    options: Mapping[str, object],
    file: Path | None,
    *,
    defaults: Mapping[str, object] | None = None,
    names: Mapping[str, str] | None = None,
) -> tuple["LoadedSettings | None", list[str]]:
    """Load settings from options, else the environment, else a file, else the defaults.

    Args:
        options: Values of options by the name of the setting; `None`: the option was not given.
        file: The file; `None`: no file is read.
        defaults: More defaults of the command. The journal of commands is on disk.
        names: What the user types for settings whose option has another name.

    Returns:
        The settings that are valid, or `None` if they are invalid together; and a line for each problem.
    """
    from stepwave_server.config_loading import SettingsInvalid, load_settings

    try:
        loaded = load_settings(
            options,
            file=file,
            defaults={**_DEFAULTS, **(defaults or {})},
            option_names={**_OPTION_NAMES, **(names or {})},
        )
    except SettingsInvalid as error:
        return error.usable, list(error.problems)
    return loaded, []


def find_serve_settings(
    options: Mapping[str, object], file: Path | None, *, defaults: Mapping[str, object] | None = None
) -> tuple["LoadedSettings | None", list[str]]:
    """Load the settings of a server as `find_settings` does. Those without a meaning with the engine are problems.

    Raises:
        CommandError: The engine needs another package.
    """
    loaded, problems = find_settings(options, file, defaults=defaults)
    if loaded is None:
        return None, problems
    problems += _problems_of_engine(loaded)
    if loaded.settings.engine == "temporal" and not problems:
        require_temporal_extra()
    return loaded, problems


def make_settings(
    options: Mapping[str, object], file: Path | None, *, names: Mapping[str, str] | None = None
) -> "LoadedSettings":
    """Load settings as `find_settings` does.

    Raises:
        CommandError: Settings are invalid. The message has a line for each problem.
    """
    return require_valid(*find_settings(options, file, names=names))


def require_valid(loaded: "LoadedSettings | None", problems: list[str]) -> "LoadedSettings":
    """Return settings that have no problems.

    Raises:
        CommandError: There are problems. The message has a line for each.
    """
    if problems or loaded is None:
        raise CommandError("\n".join(problems))
    return loaded


def print_checked(
    loaded: "LoadedSettings | None",
    problems: list[str],
    check: Callable[["Settings"], Coroutine[None, None, "Checked"]],
) -> None:
    """Check what a server or host would serve, and print what was found.

    Args:
        loaded: The settings that are valid; `None`: they are invalid together, and nothing else can be checked.
        problems: The problems of the settings.
        check: Checks what the settings name.

    Raises:
        CommandError: There are problems.
    """
    from stepwave_server.check import CheckFailed

    if loaded is None:
        raise CommandError("\n".join(problems))
    for warning in loaded.warnings:
        print_message(f"warning: {warning}")
    try:
        with reserve_stdout():  # modules with actions may print
            checked = run_with_actions(check(loaded.settings))
    except CheckFailed as error:
        raise CommandError("\n".join([*problems, str(error)])) from error
    require_valid(loaded, problems)
    for warning in checked.warnings:
        print_message(f"warning: {warning}")
    file = f"{loaded.file.path}, " if loaded.file is not None else ""
    print_line(f"ok: {file}{checked.summary}")


def log_loaded(loaded: "LoadedSettings") -> None:
    """Log which file was read, and what is probably misspelt in the environment."""
    if loaded.file is not None:
        logger.info("settings are from %s; show them: stepwave config --config %s", *2 * [quote(str(loaded.file.path))])
    for warning in loaded.warnings:
        logger.warning("%s", warning)


def unused_settings(settings: "Settings") -> dict[str, str]:
    """Return the names of the settings that have no meaning with the engine, and why."""
    if settings.engine == "local":
        return dict.fromkeys(_TEMPORAL_ONLY, "it is for --engine temporal")
    return {name: f"it has no meaning with --engine temporal: {why}" for name, why in _LOCAL_ONLY.items()}


def _problems_of_engine(loaded: "LoadedSettings") -> list[str]:
    """Return a line for each setting that was given, and has no meaning with the engine."""
    unused = unused_settings(loaded.settings)
    given = [name for name in type(loaded.settings).model_fields if name in loaded.origins]
    return [f"{loaded.origins[name].name}: {unused[name]}" for name in given if name in unused]


def settings_problems(error: "ValidationError") -> str:
    """Return a line for each problem of settings that come from the environment."""
    from stepwave_server.config_loading import problem_lines

    return "\n".join(problem_lines(error, {}))
