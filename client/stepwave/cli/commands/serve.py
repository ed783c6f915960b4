"""`stepwave serve`: run a server in the foreground until a signal stops it."""

import asyncio
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwave._files import WorkflowFileError
from stepwave.cli.display.output import flush_output, print_line, print_message
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import LogFormatOption, choice_metavar, choice_parser, parse_seconds
from stepwave.cli.process.forks import close_sockets_on_fork
from stepwave.cli.process.log_formats import LogFormat, start_logging
from stepwave.cli.process.reloaded import ReloadedServer, take_variables
from stepwave.cli.process.shutdown import end_before_finalization, run_with_actions
from stepwave.cli.process.standard_streams import reserve_stdout
from stepwave.cli.process.watched_files import WatchedFiles
from stepwave.cli.server import (
    JOURNAL_FORMS,
    JOURNAL_HELP,
    ChunksOption,
    LogLevel,
    MetricsListenOption,
    TemporalAddressOption,
    TemporalNamespaceOption,
    TemporalTaskQueueOption,
    TemporalWaitOption,
    choose_journal,
    make_settings,
    refuse_settings_of_other_engine,
    require_server_extra,
    require_temporal_extra,
)

if TYPE_CHECKING:
    from stepwave_server.config import Settings

__all__ = ["serve"]

_RELOAD_DRAIN = 1.0  # seconds for runs to end before a restart; the restarted server continues the others
_STOP_TIMEOUT = 5.0  # seconds after the drain for a server to stop before a restart


class EngineName(StrEnum):
    """The engine that runs workflows."""

    LOCAL = "local"
    TEMPORAL = "temporal"


class Synchronous(StrEnum):
    """The durability of commits. `full` survives a power cut, `normal` a crash of the process."""

    FULL = "full"
    NORMAL = "normal"


class TraceDetail(StrEnum):
    """What has spans in traces: also steps and attempts, or runs and waves alone."""

    ATTEMPTS = "attempts"
    WAVES = "waves"


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
    engine: Annotated[
        EngineName | None,
        typer.Option(
            parser=choice_parser(EngineName),
            metavar=choice_metavar(EngineName),
            help="What runs workflows: this process, or a Temporal cluster. Default: local.",
        ),
    ] = None,
    temporal_address: TemporalAddressOption = None,
    temporal_namespace: TemporalNamespaceOption = None,
    temporal_task_queue: TemporalTaskQueueOption = None,
    temporal_wait: TemporalWaitOption = None,
    chunks: ChunksOption = None,
    slots: Annotated[
        int | None,
        typer.Option(help="With Temporal, the largest number of attempts of one action at once, here. Default: 1000."),
    ] = None,
    drain_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long runs may continue after the server is stopped. Default: 30s; with --reload 1s.",
        ),
    ] = None,
    step_timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The longest time of an attempt. Default: 10m."),
    ] = None,
    idle_timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="The longest that an open run waits for steps. Default: 10m."),
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
    metrics_listen: MetricsListenOption = None,
    trace_detail: Annotated[
        TraceDetail | None,
        typer.Option(
            parser=choice_parser(TraceDetail),
            metavar=choice_metavar(TraceDetail),
            help="What has spans in traces: also steps and attempts, or runs and waves alone. Default: attempts.",
        ),
    ] = None,
    no_tracebacks: Annotated[
        bool, typer.Option("--no-tracebacks", help="Leave tracebacks of actions out of failures and logs.")
    ] = False,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow unencrypted connections from other machines.")
    ] = False,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="For development: restart when a module with actions or its package, another imported module under "
            "the working directory, a workflow file or the limits file changes. Needs a journal on disk.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only check the modules with actions, the limits file and the workflow files. Print what was found, "
            "or all problems, and exit. No server starts, and no journal is opened.",
        ),
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
    log_format: LogFormatOption = LogFormat.CONSOLE,
) -> None:
    """Run a server until Ctrl-C or SIGTERM. Then it accepts no new runs, and lets the unfinished runs end.

    The address is the first line of standard output. Once it is printed, calls succeed, and unfinished runs of an
    earlier server continue. Every setting also has an environment variable: STEPWAVE_MAX_RUNS=50, for example.

    With --reload, a restart keeps the address. It interrupts steps that do not end in time (--drain-timeout), and the
    new server runs them again; at the fourth interruption, a step fails. If a module cannot be imported, even at the
    first start, the error is shown, and the next change is waited for.

    ```
    stepwave serve --actions tools
    stepwave serve --actions tools --reload
    stepwave serve --listen 127.0.0.1:0 --actions tools --workflows flows/
    stepwave serve --check --actions tools --workflows flows/
    stepwave serve --journal memory
    stepwave serve --engine temporal --temporal-address 127.0.0.1:7233
    ```
    """
    require_server_extra()
    reloader, address = take_variables()
    options = {
        "listen": address or listen,
        "workflows": workflows,
        "limits": limits,
        "journal": journal,
        "synchronous": synchronous,
        "recover": recover,
        "engine": engine,
        "temporal_address": temporal_address,
        "temporal_namespace": temporal_namespace,
        "temporal_task_queue": temporal_task_queue,
        "temporal_wait": parse_seconds("--temporal-wait", temporal_wait),
        "chunks": chunks,
        "slots": slots,
        "drain_timeout": _choose_drain(parse_seconds("--drain-timeout", drain_timeout), reload=reload),
        "step_timeout": parse_seconds("--step-timeout", step_timeout),
        "idle_timeout": parse_seconds("--idle-timeout", idle_timeout),
        "max_attempts": max_attempts,
        "max_runs": max_runs,
        "max_steps": max_steps,
        "keep_runs": keep_runs,
        "keep_age": parse_seconds("--keep-age", keep_age),
        "keep_bytes": keep_bytes,
        "metrics_listen": metrics_listen,
        "trace_detail": trace_detail,
        "tracebacks": False if no_tracebacks else None,
        "insecure": insecure or None,
    }
    settings = _make_settings(options, journal)
    if check:
        _check(settings, actions or [], reload=reload)
        return
    if reload and reloader is None:
        raise typer.Exit(_serve_with_reload(settings, actions or []))
    start_logging(log_level, log_format)
    _serve(settings, actions or [], reloader)


def _check(settings: "Settings", actions: list[str], *, reload: bool) -> None:
    """Check what a server would serve, and print what was found.

    Raises:
        CommandError: There are problems, or a server that is to be restarted was asked for.
    """
    from stepwave_server.check import CheckFailed
    from stepwave_server.check import check as check_server

    if reload:
        raise CommandError("--check starts no server: leave out --reload")
    try:
        with reserve_stdout():  # modules with actions may print
            checked = run_with_actions(check_server(settings, actions))
    except CheckFailed as error:
        raise CommandError(str(error)) from error
    for warning in checked.warnings:
        print_message(f"warning: {warning}")
    print_line(checked.summary)


def _make_settings(options: Mapping[str, object], journal: str | None) -> "Settings":
    """Make settings for the engine that they name.

    Raises:
        CommandError: A setting is invalid, or has no meaning with the engine, or the engine needs another package.
    """
    settings = make_settings(options)
    refuse_settings_of_other_engine(settings, options)
    if settings.engine == "temporal":
        require_temporal_extra()
        return settings
    return make_settings({**options, "journal": choose_journal(journal)})


def _choose_drain(seconds: float | None, *, reload: bool) -> float | None:
    """Return the drain of the option, else `None` for that of the environment, or a short one with `--reload`."""
    if seconds is None and reload and not os.environ.get("STEPWAVE_DRAIN_TIMEOUT"):
        return _RELOAD_DRAIN
    return seconds


def _serve_with_reload(settings: "Settings", actions: list[str]) -> int:
    """Run the server in a process of its own, restart it after changes, and return its exit code.

    Raises:
        CommandError: The journal is in memory, or an option has a problem that no change of a Python file fixes.
    """
    from stepwave.cli.process.reloader import Reloader

    if settings.engine == "local" and settings.journal_path() is None:
        raise CommandError("--reload needs a journal on disk: a restart would lose the runs of a journal in memory")
    _check_names(settings, actions)
    reloader = Reloader(
        WatchedFiles(Path.cwd(), modules=actions, workflows=settings.workflows, limits=settings.limits),
        stop_timeout=settings.drain_timeout + _STOP_TIMEOUT,
        announce=_announce,
        report=print_message,
    )
    return asyncio.run(reloader.run())


def _check_names(settings: "Settings", actions: list[str]) -> None:
    """Check what no change of a Python file fixes.

    Raises:
        CommandError: A module is given by its path, or there is no such folder of workflows.
    """
    from stepwave_server.actions import ActionsError, check_module_name
    from stepwave_server.rpc.workflows import check_folder

    try:
        for name in actions:
            check_module_name(name)
        if settings.workflows is not None:
            check_folder(settings.workflows)
    except (ActionsError, ValueError) as error:
        raise CommandError(str(error)) from error


def _serve(settings: "Settings", actions: list[str], reloader: int | None) -> None:
    """Run the server in this process.

    Args:
        settings: The settings.
        actions: The names of the modules with actions.
        reloader: The process id of the reloader that has started this process, if one has.
    """
    from stepwave_server.actions import ActionsError
    from stepwave_server.app import serve as run_server
    from stepwave_server.journal import JournalError
    from stepwave_server.rpc.server import ListenError
    from stepwave_server.telemetry import TelemetryUnavailable

    unavailable: tuple[type[Exception], ...] = (JournalError, ListenError, TelemetryUnavailable)
    if settings.engine == "temporal":
        from stepwave_server.temporal import TemporalUnavailable, prepare_process

        unavailable += (TemporalUnavailable,)
        end_before_finalization()
        prepare_process()
    close_sockets_on_fork(settings.listen)  # resumed runs start actions before the address is announced
    close_sockets_on_fork(settings.metrics_listen)
    reloaded = None if reloader is None else ReloadedServer(reloader, settings.drain_timeout + _STOP_TIMEOUT)
    announce = _announce if reloaded is None else reloaded.announce
    try:
        with reserve_stdout():  # only the address goes to standard output
            if reloaded is not None:
                reloaded.start()
            run_with_actions(run_server(settings, actions, announce, ignore_interrupts=reloaded is not None))
    except unavailable as error:
        if reloaded is not None:
            reloaded.fail()
        raise CommandError(str(error)) from error
    except (ActionsError, WorkflowFileError, ValueError) as error:
        raise CommandError(str(error)) from error


def _announce(address: str) -> None:
    close_sockets_on_fork(address)
    print_line(address)
    flush_output()
