"""`stepwave serve`: a server in the foreground, until it is told to stop."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwave._files import WorkflowFileError
from stepwave.cli.connect import require_server_extra
from stepwave.cli.display.output import flush_answers, print_line
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import choices_of, parse_seconds, parser_of
from stepwave.cli.process.forks import withhold_sockets
from stepwave.cli.process.logs import start_logging
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.process.standard_streams import kept_for_answers
from stepwave.cli.settings import JOURNAL_FORMS, JOURNAL_HELP, chosen_journal, make_settings

if TYPE_CHECKING:
    from stepwave_server.config import Settings

__all__ = ["serve"]


class LogLevel(StrEnum):
    """How much of the log is shown."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Synchronous(StrEnum):
    """What a commit survives."""

    FULL = "full"
    NORMAL = "normal"


class RecoverMode(StrEnum):
    """What becomes of runs that are found under way."""

    RESUME = "resume"
    PAUSE = "pause"
    FAIL = "fail"


def serve(
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where to listen, or unix:PATH. Default: 127.0.0.1:50051."),
    ] = None,
    actions: Annotated[
        list[str] | None, typer.Option(metavar="MODULE", help="A module with actions. Repeatable.", show_default=False)
    ] = None,
    workflows: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="A folder of workflow files, to be run by name.")
    ] = None,
    limits: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What actions are allowed: concurrency, rates, by key.")
    ] = None,
    journal: Annotated[
        str | None, typer.Option(metavar=JOURNAL_FORMS, help=f"Where runs are kept. {JOURNAL_HELP}")
    ] = None,
    synchronous: Annotated[
        Synchronous | None,
        typer.Option(help="Whether what is committed survives a power cut, or only the process. Default: full."),
    ] = None,
    recover: Annotated[
        RecoverMode | None,
        typer.Option(help="What to do with runs that an earlier server left under way. Default: resume."),
    ] = None,
    engine: Annotated[str, typer.Option(metavar="local", help="What drives runs.")] = "local",
    drain_timeout: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long runs may go on once it is to stop. Default: 30s.")
    ] = None,
    step_timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="How long an attempt may take. Default: 10m."),
    ] = None,
    max_attempts: Annotated[int | None, typer.Option(help="Attempts in flight at once. Default: 1000.")] = None,
    max_runs: Annotated[int | None, typer.Option(help="Runs under way at once. Default: 10000.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Steps in a workflow. Default: 200000.")] = None,
    keep_runs: Annotated[
        int | None, typer.Option(help="Ended runs that are kept. Default: 10000; in memory 1000.")
    ] = None,
    keep_age: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long an ended run is kept. Default: 30d; in memory 1d.")
    ] = None,
    keep_bytes: Annotated[
        int | None,
        typer.Option(help="Bytes of events of ended runs that are kept. Default: 10 GiB; in memory 1 GiB."),
    ] = None,
    no_tracebacks: Annotated[
        bool, typer.Option("--no-tracebacks", help="Keep tracebacks of actions out of failures.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Serve plain text beyond this machine.")] = False,
    log_level: Annotated[
        LogLevel,
        typer.Option(parser=parser_of(LogLevel), metavar=choices_of(LogLevel), help="How much of the log is shown."),
    ] = LogLevel.INFO,
) -> None:
    """Run a server until Ctrl-C or SIGTERM; then take no new runs, and let those under way end.

    The address is the first line of standard output; once it is there, calls succeed, and runs that an earlier server
    left under way go on. Every setting can be given as STEPWAVE_<NAME> too, as in STEPWAVE_MAX_RUNS=50.

    ```
    stepwave serve --actions tools
    stepwave serve --listen 127.0.0.1:0 --actions tools --workflows flows/
    stepwave serve --journal memory
    ```
    """
    _refuse_unserved(engine)
    require_server_extra()
    given = {
        "listen": listen,
        "workflows": workflows,
        "limits": limits,
        "journal": chosen_journal(journal),
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
    settings = make_settings(given)
    start_logging(log_level)
    _serve(settings, actions or [])


def _refuse_unserved(engine: str) -> None:
    if engine != "local":
        raise CommandError(f"--engine {engine}: this version has the local engine only")


def _serve(settings: "Settings", actions: list[str]) -> None:
    from stepwave_server.actions import ActionsError
    from stepwave_server.app import serve as serve_until_told
    from stepwave_server.journal import JournalError
    from stepwave_server.rpc.server import ListenError
    from stepwave_server.telemetry import TelemetryUnavailable

    withhold_sockets(settings.listen)  # runs that an earlier server left go on before the address is announced
    try:
        with kept_for_answers():  # the address alone
            run_with_actions(serve_until_told(settings, actions, _announce))
    except (ActionsError, JournalError, ListenError, TelemetryUnavailable, WorkflowFileError, ValueError) as error:
        raise CommandError(str(error)) from error


def _announce(address: str) -> None:
    withhold_sockets(address)
    print_line(address)
    flush_answers()
