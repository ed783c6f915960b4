"""`stepwave serve`: run a server in the foreground until a signal stops it."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwave._files import WorkflowFileError
from stepwave.cli.display.output import flush_output, print_line
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import choice_metavar, choice_parser, parse_seconds
from stepwave.cli.process.forks import close_sockets_on_fork
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.process.standard_streams import reserve_stdout
from stepwave.cli.server import (
    JOURNAL_FORMS,
    JOURNAL_HELP,
    choose_journal,
    make_settings,
    require_server_extra,
    start_logging,
)

if TYPE_CHECKING:
    from stepwave_server.config import Settings

__all__ = ["serve"]


class LogLevel(StrEnum):
    """The lowest level of log messages that are shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Synchronous(StrEnum):
    """The durability of commits. `full` survives a power cut, `normal` a crash of the process."""

    FULL = "full"
    NORMAL = "normal"


class RecoverMode(StrEnum):
    """The treatment of unfinished runs of an earlier server."""

    RESUME = "resume"
    PAUSE = "pause"
    FAIL = "fail"


def serve(
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The address to listen at, or unix:PATH. Default: 127.0.0.1:50051."),
    ] = None,
    actions: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="A module with actions. Repeatable.", show_default=False)
    ] = None,
    workflows: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder of workflow files, which can be run by name.")
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with limits for actions: concurrency and rates, also by key."),
    ] = None,
    journal: Annotated[
        str | None, typer.Option(metavar=JOURNAL_FORMS, help=f"Where runs are stored. {JOURNAL_HELP}")
    ] = None,
    synchronous: Annotated[
        Synchronous | None,
        typer.Option(
            help="What a commit survives: a power cut (full) or a crash of the process (normal). Default: full."
        ),
    ] = None,
    recover: Annotated[
        RecoverMode | None,
        typer.Option(help="What to do with unfinished runs of an earlier server. Default: resume."),
    ] = None,
    engine: Annotated[str, typer.Option(metavar="local", help="The engine that runs workflows.")] = "local",
    drain_timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long runs may continue after the server is stopped. Default: 30s."),
    ] = None,
    step_timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The longest time of an attempt. Default: 10m."),
    ] = None,
    max_attempts: Annotated[
        int | None, typer.Option(help="The largest number of attempts in flight. Default: 1000.")
    ] = None,
    max_runs: Annotated[int | None, typer.Option(help="The largest number of unfinished runs. Default: 10000.")] = None,
    max_steps: Annotated[
        int | None, typer.Option(help="The largest number of steps in a workflow. Default: 200000.")
    ] = None,
    keep_runs: Annotated[
        int | None, typer.Option(help="The number of ended runs to keep. Default: 10000; in memory 1000.")
    ] = None,
    keep_age: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long to keep an ended run. Default: 30d; in memory 1d.")
    ] = None,
    keep_bytes: Annotated[
        int | None,
        typer.Option(help="The size of ended runs to keep, in bytes of events. Default: 10 GiB; in memory 1 GiB."),
    ] = None,
    no_tracebacks: Annotated[
        bool, typer.Option("--no-tracebacks", help="Leave tracebacks of actions out of failures and logs.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow unencrypted connections from other machines.")
    ] = False,
    log_level: Annotated[
        LogLevel,
        typer.Option(
            parser=choice_parser(LogLevel),
            metavar=choice_metavar(LogLevel),
            help="The lowest level of log messages to show. Below it, stepwave logs has only the messages of "
            "`context.logger`, from info on.",
        ),
    ] = LogLevel.INFO,
) -> None:
    """Run a server until Ctrl-C or SIGTERM. Then it accepts no new runs, and lets the unfinished runs end.

    The address is the first line of standard output. Once it is printed, calls succeed, and unfinished runs of an
    earlier server continue. Every setting also has an environment variable: STEPWAVE_MAX_RUNS=50, for example.

    ```
    stepwave serve --actions tools
    stepwave serve --listen 127.0.0.1:0 --actions tools --workflows flows/
    stepwave serve --journal memory
    ```
    """
    _check_engine(engine)
    require_server_extra()
    options = {
        "listen": listen,
        "workflows": workflows,
        "limits": limits,
        "journal": choose_journal(journal),
        "synchronous": synchronous,
        "recover": recover,
        "drain_timeout": parse_seconds("--drain-timeout", drain_timeout),
        "step_timeout": parse_seconds("--step-timeout", step_timeout),
        "max_attempts": max_attempts,
        "max_runs": max_runs,
        "max_steps": max_steps,
        "keep_runs": keep_runs,
        "keep_age": parse_seconds("--keep-age", keep_age),
        "keep_bytes": keep_bytes,
        "tracebacks": False if no_tracebacks else None,
        "insecure": insecure or None,
    }
    settings = make_settings(options)
    start_logging(log_level)
    _serve(settings, actions or [])


def _check_engine(engine: str) -> None:
    if engine != "local":
        raise CommandError(f"--engine {engine}: this version has the local engine only")


def _serve(settings: "Settings", actions: list[str]) -> None:
    from stepwave_server.actions import ActionsError
    from stepwave_server.app import serve as run_server
    from stepwave_server.journal import JournalError
    from stepwave_server.rpc.server import ListenError
    from stepwave_server.telemetry import TelemetryUnavailable

    close_sockets_on_fork(settings.listen)  # resumed runs start actions before the address is announced
    try:
        with reserve_stdout():  # only the address goes to standard output
            run_with_actions(run_server(settings, actions, _announce))
    except (ActionsError, JournalError, ListenError, TelemetryUnavailable, WorkflowFileError, ValueError) as error:
        raise CommandError(str(error)) from error


def _announce(address: str) -> None:
    close_sockets_on_fork(address)
    print_line(address)
    flush_output()
