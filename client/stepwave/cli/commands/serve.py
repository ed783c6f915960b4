"""`stepwave serve`: run a server in the foreground until a signal stops it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwave._files import WorkflowFileError
from stepwave._files.folder import check_folder
from stepwave.cli.display.output import flush_output, print_line, print_message
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.process.forks import close_sockets_on_fork
from stepwave.cli.process.log_formats import start_logging
from stepwave.cli.process.reloaded import ReloadedServer, take_variables
from stepwave.cli.process.shutdown import end_before_finalization, run_with_actions
from stepwave.cli.process.standard_streams import reserve_stdout
from stepwave.cli.process.watched_files import WatchedFiles
from stepwave.cli.server import ConfigOption, require_server_extra
from stepwave.cli.settings import find_serve_settings, log_loaded, print_checked, require_valid

from .serve_options import with_serve_options

if TYPE_CHECKING:
    from stepwave_server.config import Settings

__all__ = ["serve"]

_RELOAD_DRAIN = 1.0  # seconds for runs to end before a restart; the restarted server continues the others
_STOP_TIMEOUT = 5.0  # seconds after the drain for a server to stop before a restart


@with_serve_options
def serve(
    options: Mapping[str, object],
    config: ConfigOption = None,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload",
            help="For development: restart when a module with actions or its package, another imported module under "
            "the working directory, a workflow file, the file of limits, secrets, runnables or MCP servers or the "
            "--config file changes. Needs a journal on disk.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only check the settings, the modules with actions, the files of limits, secrets, runnables and "
            "MCP servers, the workflow files and the places of the address and the journal. Print what was found, or "
            "all problems, and exit. No server starts, nothing is written, and no connection is made.",
        ),
    ] = False,
) -> None:
    """Run a server until Ctrl-C or SIGTERM. Then it accepts no new runs, and lets the unfinished runs end.

    The address is the first line of standard output. Once it is printed, calls succeed, and unfinished runs of an
    earlier server continue. Every setting also has an environment variable: STEPWAVE_MAX_RUNS=50, for example. A
    TOML file (--config) can set all of them: `max_runs = 50`. The same file suits `stepwave host`. Options win over the
    environment, and that over the file. `stepwave config` shows what holds, and from where.

    With --reload, a restart keeps the address. It interrupts steps that do not end in time (--drain-timeout), and the
    new server runs them again. If a module cannot be imported, even at the first start, the error is shown, and the
    next change is waited for.

    ```
    stepwave serve --actions tools
    stepwave serve --actions tools --reload
    stepwave serve --listen 127.0.0.1:0 --actions tools --workflows flows/
    stepwave serve --config stepwave.toml
    stepwave serve --check --config stepwave.toml
    stepwave serve --journal memory
    stepwave serve --engine temporal --temporal-address 127.0.0.1:7233
    ```
    """
    require_server_extra()
    reloader, address = take_variables()
    if address:
        options = {**options, "listen": address}
    loaded, problems = find_serve_settings(options, config, defaults={"drain_timeout": _RELOAD_DRAIN} if reload else {})
    if check:
        from stepwave_server.check import check as check_server

        if reload:
            raise CommandError("--check starts no server: leave out --reload")
        print_checked(loaded, problems, check_server)
        return
    loaded = require_valid(loaded, problems)
    if reload and reloader is None:
        raise typer.Exit(_serve_with_reload(loaded.settings, config))
    start_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_loaded(loaded)
    _serve(loaded.settings, reloader)


def _serve_with_reload(settings: "Settings", config: Path | None) -> int:
    """Run the server in a process of its own, restart it after changes, and return its exit code.

    Raises:
        CommandError: The journal is in memory, or an option has a problem that no change of a Python file fixes.
    """
    from stepwave.cli.process.reloader import Reloader

    if settings.engine == "local" and settings.journal_path() is None:
        raise CommandError("--reload needs a journal on disk: a restart would lose the runs of a journal in memory")
    _check_names(settings)
    files = (settings.limits, settings.secrets, settings.runnables, settings.mcp_servers, config)
    named = [file for file in files if file is not None]
    reloader = Reloader(
        WatchedFiles(Path.cwd(), modules=settings.actions, workflows=settings.workflows, named=named),
        stop_timeout=settings.drain_timeout + _STOP_TIMEOUT,
        announce=_announce,
        report=print_message,
    )
    return asyncio.run(reloader.run())


def _check_names(settings: "Settings") -> None:
    """Check what no change of a Python file fixes.

    Raises:
        CommandError: A module is given by its path, or there is no such folder of workflows.
    """
    from stepwave_server.actions import ActionsError, check_module_name

    try:
        for name in settings.actions:
            check_module_name(name)
        if settings.workflows is not None:
            check_folder(settings.workflows)
    except (ActionsError, ValueError) as error:
        raise CommandError(str(error)) from error


def _serve(settings: "Settings", reloader: int | None) -> None:
    """Run the server in this process.

    Args:
        settings: The settings.
        reloader: The process id of the reloader that has started this process, if one has.
    """
    from stepwave_server.actions import ActionsError
    from stepwave_server.app import serve as run_server
    from stepwave_server.journal import JournalError
    from stepwave_server.rpc.listening import ListenError
    from stepwave_server.telemetry import TelemetryUnavailable

    unavailable: tuple[type[Exception], ...] = (JournalError, ListenError, TelemetryUnavailable)
    if settings.engine == "temporal":
        from stepwave_server.temporal import TemporalUnavailable, prepare_process

        unavailable += (TemporalUnavailable,)
        end_before_finalization()
        prepare_process()
    if settings.health:
        close_sockets_on_fork(settings.health)
    close_sockets_on_fork(settings.listen)  # resumed runs start actions before the address is announced
    close_sockets_on_fork(settings.metrics_listen)
    reloaded = None if reloader is None else ReloadedServer(reloader, settings.drain_timeout + _STOP_TIMEOUT)
    announce = _announce if reloaded is None else reloaded.announce
    try:
        with reserve_stdout():  # only the address goes to standard output
            if reloaded is not None:
                reloaded.start()
            run_with_actions(run_server(settings, announce, ignore_interrupts=reloaded is not None))
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
