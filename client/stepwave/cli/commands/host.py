"""`stepwave host`: run attempts of actions for the servers of a Temporal cluster, until a signal stops it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stepwave.cli.display.output import flush_output, print_line
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import LogFormatOption, choice_metavar, choice_parser
from stepwave.cli.process.forks import close_sockets_on_fork
from stepwave.cli.process.log_formats import start_logging
from stepwave.cli.process.shutdown import end_before_finalization, run_with_actions
from stepwave.cli.process.standard_streams import reserve_stdout
from stepwave.cli.server import (
    ChunksOption,
    ConfigOption,
    LogLevel,
    MetricsListenOption,
    SecretsOption,
    TemporalAddressOption,
    TemporalApiKeyFileOption,
    TemporalNamespaceOption,
    TemporalTaskQueueOption,
    TemporalTlsCaOption,
    TemporalTlsCertOption,
    TemporalTlsKeyOption,
    TemporalTlsOption,
    TemporalWaitOption,
    require_server_extra,
    require_temporal_extra,
)
from stepwave.cli.settings import find_settings, log_loaded, print_checked, require_valid

if TYPE_CHECKING:
    from stepwave_server.config import Settings

__all__ = ["host"]


def host(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE…", help="The modules with the actions.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    engine: Annotated[str, typer.Option(metavar="temporal", help="The engine whose attempts run here.")] = "temporal",
    temporal_address: TemporalAddressOption = None,
    temporal_namespace: TemporalNamespaceOption = None,
    temporal_task_queue: TemporalTaskQueueOption = None,
    temporal_tls: TemporalTlsOption = False,
    temporal_tls_ca: TemporalTlsCaOption = None,
    temporal_tls_cert: TemporalTlsCertOption = None,
    temporal_tls_key: TemporalTlsKeyOption = None,
    temporal_api_key_file: TemporalApiKeyFileOption = None,
    temporal_wait: TemporalWaitOption = None,
    chunks: ChunksOption = None,
    slots: Annotated[
        int | None, typer.Option(help="The largest number of attempts of one action at once, here. Default: 1000.")
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file with limits for actions: the rate of one action, over all hosts."),
    ] = None,
    secrets: SecretsOption = None,
    drain_timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long attempts may continue after the host is stopped. Default: 30s."
        ),
    ] = None,
    cancel_grace: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long the clean-up of an interrupted attempt may take. Default: 10s."
        ),
    ] = None,
    health: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where to answer health checks, as stepwave health asks for; or unix:PATH. Default: nowhere.",
        ),
    ] = None,
    metrics_listen: MetricsListenOption = None,
    no_tracebacks: Annotated[
        bool, typer.Option("--no-tracebacks", help="Leave tracebacks of actions out of failures and logs.")
    ] = False,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow other machines to read the metrics.")] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            parser=choice_parser(LogLevel),
            metavar=choice_metavar(LogLevel),
            help="The lowest level of log messages to show. Default: info.",
            show_default=False,
        ),
    ] = None,
    log_format: LogFormatOption = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Only check the settings, the modules with actions, the files of limits and secrets, those for "
            "Temporal, and the addresses. Print what was found, or all problems, and exit. No connection is made.",
        ),
    ] = False,
) -> None:
    """Run attempts of actions for the servers of a Temporal cluster, until Ctrl-C or SIGTERM.

    A host runs the actions of its modules and those of installed packages. Servers have the built-in ones. Once
    attempts are taken, one line on standard output says so. Several hosts may have the same actions or different ones.

    With --health, it answers health checks: it is healthy while it takes attempts.

    Once it is stopped, it takes no more attempts. Those under way may continue (--drain-timeout). Then they are
    interrupted, and run again on another host. A second Ctrl-C interrupts them at once. Every setting also has an
    environment variable: STEPWAVE_TEMPORAL_ADDRESS, for example. A file (--config) can set them, too. It may be that of
    `stepwave serve`: settings that only a server needs are checked, and not used.

    ```
    stepwave host tools --temporal-address 127.0.0.1:7233
    stepwave host tools models --slots 20 --limits limits.yaml
    stepwave host --config stepwave.toml
    stepwave host tools --check --config stepwave.toml
    ```
    """
    if engine != "temporal":
        raise CommandError(f"--engine {engine}: hosts are for temporal only; stepwave serve runs actions itself")
    require_server_extra()
    options = {
        "actions": modules or None,
        "engine": engine,
        "temporal_address": temporal_address,
        "temporal_namespace": temporal_namespace,
        "temporal_task_queue": temporal_task_queue,
        "temporal_tls": temporal_tls or None,
        "temporal_tls_ca": temporal_tls_ca,
        "temporal_tls_cert": temporal_tls_cert,
        "temporal_tls_key": temporal_tls_key,
        "temporal_api_key_file": temporal_api_key_file,
        "temporal_wait": temporal_wait,
        "chunks": chunks,
        "slots": slots,
        "limits": limits,
        "secrets": secrets,
        "drain_timeout": drain_timeout,
        "cancel_grace": cancel_grace,
        "health": health,
        "metrics_listen": metrics_listen,
        "insecure": insecure or None,
        "tracebacks": False if no_tracebacks else None,
        "log_level": log_level,
        "log_format": log_format,
    }
    loaded, problems = find_settings(options, config, names={"actions": "MODULE…"})
    if check:
        from stepwave_server.check import check_host

        require_temporal_extra()
        print_checked(loaded, problems, check_host)
        return
    loaded = require_valid(loaded, problems)
    require_temporal_extra()
    start_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_loaded(loaded)
    _host(loaded.settings)


def _host(settings: "Settings") -> None:
    """Run the host in this process.

    Raises:
        CommandError: It cannot start.
    """
    from stepwave_server.actions import ActionsError
    from stepwave_server.hosting import host as run_host
    from stepwave_server.rpc.listening import ListenError
    from stepwave_server.telemetry import TelemetryUnavailable
    from stepwave_server.temporal import TemporalUnavailable, prepare_process

    end_before_finalization()
    prepare_process()
    if settings.health:
        close_sockets_on_fork(settings.health)
    if settings.metrics_listen:
        close_sockets_on_fork(settings.metrics_listen)
    try:
        with reserve_stdout():
            run_with_actions(run_host(settings, _announce))
    except (ActionsError, ListenError, TelemetryUnavailable, TemporalUnavailable, ValueError) as error:
        raise CommandError(str(error)) from error


def _announce(line: str) -> None:
    print_line(line)
    flush_output()
