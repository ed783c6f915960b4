"""`stepwave host`: run attempts of actions for servers elsewhere, until a signal stops it."""

from collections.abc import Mapping
from functools import partial
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

_ENGINE = "the engine is the server's: a host with --listen needs none"
_NOT_WITH_LISTEN: Mapping[str, str] = {
    "engine": _ENGINE,
    "temporal_address": _ENGINE,
    "temporal_namespace": _ENGINE,
    "temporal_task_queue": _ENGINE,
    "temporal_wait": _ENGINE,
    "temporal_tls": _ENGINE,
    "temporal_tls_ca": _ENGINE,
    "temporal_tls_cert": _ENGINE,
    "temporal_tls_key": _ENGINE,
    "temporal_api_key_file": _ENGINE,
    "chunks": "chunks go to the server in the answer of its call",
    "limits": "the server that calls this host limits its attempts",
    "secrets": "the server that calls this host fills in secrets",
}
_ONLY_WITH_LISTEN = ("tls_cert", "tls_key", "tls_client_ca")


def host(
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE…", help="The modules with the actions.", show_default=False),
    ] = None,
    config: ConfigOption = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve attempts at this address, or unix:PATH, without Temporal. Port 0 picks one.",
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Serve with TLS: the certificate and its chain, in PEM. For --listen."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate's private key, in PEM. For --listen.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Require certificates of servers that this authority has signed, in PEM. For --listen.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(metavar="temporal", help="The engine whose attempts run here. Default: temporal."),
    ] = None,
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
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Allow other machines to read the metrics, and with --listen plain text."),
    ] = False,
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
    describe: Annotated[
        bool,
        typer.Option(
            "--describe",
            help="Only print what a server's file of --runnables says of this host: its address, and its actions with "
            "their schemas. For --listen.",
        ),
    ] = False,
) -> None:
    """Run attempts of actions for servers elsewhere, until Ctrl-C or SIGTERM.

    Without --listen, the servers are those of a Temporal cluster, which gives attempts to its hosts. Once attempts are
    taken, one line on standard output says so. Several hosts may have the same actions or different ones.

    With --listen, servers call this host over gRPC: it serves RunnableService, and needs no Temporal. The address is
    the first line of standard output. Servers name it in their file of --runnables, which --describe writes.

    A host runs the actions of its modules and those of installed packages. Servers have the built-in ones. With
    --health, it answers health checks: it is healthy while it takes attempts.

    Once it is stopped, it takes no more attempts. Those under way may continue (--drain-timeout). Then they are
    interrupted: on Temporal, they run again on another host. A second Ctrl-C interrupts them at once. Every setting
    also has an environment variable: STEPWAVE_TEMPORAL_ADDRESS, for example. A file (--config) can set them, too. It
    may be that of `stepwave serve`: settings that only a server needs are checked, and not used.

    ```
    stepwave host tools --temporal-address 127.0.0.1:7233
    stepwave host tools models --slots 20 --limits limits.yaml
    stepwave host tools --listen 127.0.0.1:50061
    stepwave host tools --listen 127.0.0.1:50061 --describe > runnables.toml
    stepwave host --config stepwave.toml
    stepwave host tools --check --config stepwave.toml
    ```
    """
    require_server_extra()
    options: dict[str, object] = {
        "actions": modules or None,
        "listen": listen,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
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
    _check_combination(options)
    if describe and (listen is None or listen.endswith(":0")):
        raise CommandError("--describe needs the address that servers call: --listen HOST:PORT or unix:PATH")
    if listen is None:
        options["engine"] = "temporal"
    loaded, problems = find_settings(options, config, names={"actions": "MODULE…"})
    if listen is None:
        require_temporal_extra()
    if check:
        from stepwave_server.check import check_host

        print_checked(loaded, problems, partial(check_host, listening=listen is not None))
        return
    loaded = require_valid(loaded, problems)
    if describe:
        _describe(loaded.settings)
        return
    start_logging(loaded.settings.log_level, loaded.settings.log_format)
    log_loaded(loaded)
    if listen is None:
        _host_for_temporal(loaded.settings)
    else:
        _listen(loaded.settings)


def _check_combination(options: Mapping[str, object]) -> None:
    """Check that the options that were given have a meaning together.

    Raises:
        CommandError: They have none. The message has a line for each.
    """
    given = [name for name, value in options.items() if value is not None]
    if "listen" in given:
        problems = [
            f"{_option(name)} with --listen: {_NOT_WITH_LISTEN[name]}" for name in given if name in _NOT_WITH_LISTEN
        ]
    else:
        problems = [
            f"{_option(name)} is for --listen: on Temporal, a host listens nowhere"
            for name in given
            if name in _ONLY_WITH_LISTEN
        ]
        if options["engine"] not in {None, "temporal"}:
            problems.append(
                f"--engine {options['engine']}: hosts are for temporal only; stepwave serve runs actions itself"
            )
    if problems:
        raise CommandError("\n".join(problems))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _listen(settings: "Settings") -> None:
    """Serve `RunnableService` from this process.

    Raises:
        CommandError: It cannot start.
    """
    from stepwave_server.actions import ActionsError
    from stepwave_server.hosting import run_host
    from stepwave_server.rpc.listening import ListenError
    from stepwave_server.runnable_hosting import RunnableHost
    from stepwave_server.telemetry import TelemetryUnavailable

    for address in (settings.listen, settings.health, settings.metrics_listen):
        if address:
            close_sockets_on_fork(address)
    try:
        with reserve_stdout():
            run_with_actions(run_host(RunnableHost, settings, _announce_address))
    except (ActionsError, ListenError, TelemetryUnavailable, ValueError) as error:
        raise CommandError(str(error)) from error


def _describe(settings: "Settings") -> None:
    """Print the table of this host for a file of runnables.

    Raises:
        CommandError: An action cannot be loaded, or there are none.
    """
    from stepwave_server.actions import ActionsError, Registry
    from stepwave_server.assembly import hosted_actions, importable
    from stepwave_server.files.runnables import runnable_table

    try:
        with reserve_stdout():
            actions = hosted_actions(Registry(importable(settings.actions), entry_points=settings.entry_points))
    except ActionsError as error:
        raise CommandError(str(error)) from error
    name = settings.actions[0].rpartition(".")[2] if settings.actions else "host"
    print_line(runnable_table(name, settings.listen, actions, tls=settings.tls_cert is not None))


def _announce_address(address: str) -> None:
    close_sockets_on_fork(address)
    _announce(address)


def _host_for_temporal(settings: "Settings") -> None:
    """Run attempts for Temporal in this process.

    Raises:
        CommandError: It cannot start.
    """
    from stepwave_server.actions import ActionsError
    from stepwave_server.hosting import run_host
    from stepwave_server.rpc.listening import ListenError
    from stepwave_server.telemetry import TelemetryUnavailable
    from stepwave_server.temporal import TemporalUnavailable, prepare_process
    from stepwave_server.temporal_hosting import TemporalHost

    end_before_finalization()
    prepare_process()
    if settings.health:
        close_sockets_on_fork(settings.health)
    if settings.metrics_listen:
        close_sockets_on_fork(settings.metrics_listen)
    try:
        with reserve_stdout():
            run_with_actions(run_host(TemporalHost, settings, _announce))
    except (ActionsError, ListenError, TelemetryUnavailable, TemporalUnavailable, ValueError) as error:
        raise CommandError(str(error)) from error


def _announce(line: str) -> None:
    print_line(line)
    flush_output()
