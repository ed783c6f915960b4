"""Support for commands that run a server or read its journal: extras, shared options, and the log."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from .exit_codes import CommandError

__all__ = [
    "JOURNAL_FORMS",
    "JOURNAL_HELP",
    "ChunksOption",
    "ConfigOption",
    "LogLevel",
    "MetricsListenOption",
    "SecretsOption",
    "TemporalAddressOption",
    "TemporalApiKeyFileOption",
    "TemporalNamespaceOption",
    "TemporalTaskQueueOption",
    "TemporalTlsCaOption",
    "TemporalTlsCertOption",
    "TemporalTlsKeyOption",
    "TemporalTlsOption",
    "TemporalWaitOption",
    "capture_action_logs",
    "require_server_extra",
    "require_temporal_extra",
]

JOURNAL_FORMS = "memory|sqlite|sqlite:PATH"
JOURNAL_HELP = "Default: $STEPWAVE_JOURNAL, else sqlite: a file in your data folder."


class LogLevel(StrEnum):
    """The lowest level of log messages that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="STEPWAVE_CONFIG",
        show_envvar=False,
        help="A TOML file with settings. Options and environment variables override it. Default: $STEPWAVE_CONFIG, "
        "else none: no other file is read.",
        show_default=False,
    ),
]

SecretsOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="A file that says which actions may use which secrets. It has no values."),
]
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
TemporalTlsOption: TypeAlias = Annotated[
    bool, typer.Option("--temporal-tls", help="Encrypt the connection to Temporal.")
]
TemporalTlsCaOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="The authority of Temporal's certificate, in PEM. Default: those that the system trusts."
    ),
]
TemporalTlsCertOption: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The certificate for Temporal, and its chain, in PEM.")
]
TemporalTlsKeyOption: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="The private key of that certificate, in PEM.")
]
TemporalApiKeyFileOption: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with the API key for Temporal.")
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
