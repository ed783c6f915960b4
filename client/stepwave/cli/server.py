"""Support for commands that run a server or read its journal: the `server` extra, settings, and the log."""

import logging
import os
import sys
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from .exit_codes import CommandError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from stepwave_server.config import Settings

__all__ = [
    "JOURNAL_FORMS",
    "JOURNAL_HELP",
    "ChunksOption",
    "LogLevel",
    "MetricsListenOption",
    "TemporalAddressOption",
    "TemporalNamespaceOption",
    "TemporalTaskQueueOption",
    "TemporalWaitOption",
    "capture_action_logs",
    "choose_journal",
    "make_settings",
    "refuse_settings_of_other_engine",
    "require_server_extra",
    "require_temporal_extra",
    "settings_problems",
]

JOURNAL_FORMS = "memory|sqlite|sqlite:PATH"
JOURNAL_HELP = "Default: $STEPWAVE_JOURNAL, else sqlite: a file in your data folder."

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
    "temporal_wait",
    "temporal_heartbeat_timeout",
    "slots",
    "chunks",
)


class LogLevel(StrEnum):
    """The lowest level of log messages that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


TemporalAddressOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="The address of Temporal. Default: 127.0.0.1:7233.")
]
TemporalNamespaceOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="The namespace in Temporal. Default: default.")
]
TemporalTaskQueueOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The task queue of runs, and the prefix of those of actions. Default: stepwave."),
]
MetricsListenOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where to serve metrics for Prometheus, at /metrics. Default: nowhere."),
]
ChunksOption: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="redis://HOST:PORT", help="Where chunks and logs go from hosts to servers, with Temporal."),
]
TemporalWaitOption: TypeAlias = Annotated[
    str | None, typer.Option(metavar="DURATION", help="How long to wait for Temporal at the start. Default: 0s.")
]


def require_server_extra() -> None:
    """Check that a server can run in this process.

    Raises:
        CommandError: A package of the `server` extra is not installed.
    """
    try:
        import_module("stepwave_server.app")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        raise CommandError("running a server needs the server extra: pip install 'stepwave[server]'") from error


def require_temporal_extra() -> None:
    """Check that this process can work with Temporal.

    Raises:
        CommandError: A package of the `temporal` extra is not installed.
    """
    try:
        import_module("stepwave_server.temporal")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        raise CommandError("the Temporal engine needs: pip install 'stepwave[temporal]'") from error


def choose_journal(option: str | None) -> str | None:
    """Return the journal of the option, else `None` if the environment names one, else the one on disk."""
    return option or (None if os.environ.get("STEPWAVE_JOURNAL") else "sqlite")


def make_settings(options: Mapping[str, object]) -> "Settings":
    """Make settings from the command's options, the environment and the defaults, in this order.

    Args:
        options: Values by the name of the setting; `None`: the option was not given.

    Raises:
        CommandError: A setting is invalid. The message names its option or its environment variable.
    """
    from pydantic import ValidationError

    from stepwave_server.config import Settings

    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise CommandError(settings_problems(error, given)) from error


def refuse_settings_of_other_engine(settings: "Settings", options: Mapping[str, object]) -> None:
    """Check that no setting was given that has no meaning with the engine.

    Args:
        settings: The settings.
        options: Values by the name of the setting; `None`: the option was not given.

    Raises:
        CommandError: Settings have no meaning. The message has a line for each.
    """
    given = [name for name in type(settings).model_fields if name in settings.model_fields_set]
    if settings.engine == "local":
        foreign = dict.fromkeys(_TEMPORAL_ONLY, "it is for --engine temporal")
    else:
        foreign = {name: f"it has no meaning with --engine temporal: {why}" for name, why in _LOCAL_ONLY.items()}
    from_options = {name for name, value in options.items() if value is not None}
    if lines := [f"{_setting_name(name, from_options)}: {foreign[name]}" for name in given if name in foreign]:
        raise CommandError("\n".join(lines))


def settings_problems(error: "ValidationError", options: Container[str] = ()) -> str:
    """Return a line for each problem.

    Args:
        error: The error with all problems.
        options: The settings that come from options; the others come from the environment.
    """
    return "\n".join(_problem_line(problem, options) for problem in error.errors())


def _problem_line(problem: "ErrorDetails", options: Container[str]) -> str:
    setting = str(problem["loc"][0])
    name = _setting_name(setting, options)
    # Errors of the settings' own validators have a full message. pydantic's message would put "Value error" before it.
    message = problem.get("ctx", {}).get("error", problem["msg"])
    return f"{name}: {message}"


def _setting_name(setting: str, options: Container[str]) -> str:
    """Return the option or the variable that a setting comes from."""
    return f"--{setting.replace('_', '-')}" if setting in options else f"STEPWAVE_{setting.upper()}"


@contextmanager
def capture_action_logs() -> Iterator[None]:
    """Show what actions in this process log as events of their run, and nowhere else, while inside.

    Handlers that write to a standard stream leave these records out. If no module of actions has configured logging,
    records of level INFO and above are taken. The warnings of other code still go to standard error, as they do by
    default.
    """
    from stepwave_server.actions.logs import capture_logs, is_captured

    def is_for_stream(record: logging.LogRecord) -> bool:
        return not is_captured(record)

    root = logging.getLogger()
    level, last_resort = root.level, None if root.handlers else _LastResort(logging.WARNING)
    handlers = [handler for handler in _handlers() if _writes_to_standard_stream(handler)]
    if last_resort is not None:
        root.addHandler(last_resort)
        handlers.append(last_resort)
        if level == logging.WARNING:  # the default
            root.setLevel(logging.INFO)
    for handler in handlers:
        handler.addFilter(is_for_stream)
    try:
        with capture_logs():
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(is_for_stream)
        if last_resort is not None:
            root.removeHandler(last_resort)
            root.setLevel(level)


class _LastResort(logging.Handler):
    """Writes records that no other handler gets, as `logging` does if the root logger has no handler."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = logging.getLogger(record.name)
        while logger.parent is not None:
            if logger.handlers:
                return
            logger = logger.parent
        if logging.lastResort is not None:
            logging.lastResort.handle(record)


def _handlers() -> Iterator[logging.Handler]:
    """Yield the handlers of all loggers."""
    loggers = [logging.getLogger(), *logging.getLogger().manager.loggerDict.values()]
    for logger in loggers:
        if isinstance(logger, logging.Logger):
            yield from logger.handlers


def _writes_to_standard_stream(handler: logging.Handler) -> bool:
    """Return whether a handler of `logging` or of rich writes to standard output or standard error."""
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)
    return stream is not None and stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
