"""The options of `stepwave serve` that set settings. `stepwave config` has them, too."""

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stepwave.cli.options import LogFormatOption, choice_metavar, choice_parser
from stepwave.cli.server import (
    JOURNAL_FORMS,
    JOURNAL_HELP,
    ChunksOption,
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
)

__all__ = ["with_serve_options"]


class EngineName(StrEnum):
    """The engine that runs workflows."""

    LOCAL = "local"
    TEMPORAL = "temporal"


class Synchronous(StrEnum):
    """The durability of commits. `full` survives a power cut, `normal` a crash of the process."""

    FULL = "full"
    NORMAL = "normal"


class TraceDetail(StrEnum):
    """The spans in traces: those of runs, waves, steps and attempts, or of runs and waves alone."""

    ATTEMPTS = "attempts"
    WAVES = "waves"


class RecoverMode(StrEnum):
    """The treatment of unfinished runs of an earlier server."""

    RESUME = "resume"
    PAUSE = "pause"
    FAIL = "fail"


def with_serve_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of this module before its own, and their values as its first argument.

    The argument is a mapping by the name of the setting; `None`: the option was not given.
    """
    shared = inspect.signature(_options).parameters
    own = list(inspect.signature(command).parameters.values())[1:]

    def run(**values: object) -> None:
        command(_options(**{name: values.pop(name) for name in shared}), **values)  # type: ignore[arg-type]  # by Typer

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    parameters = [*shared.values(), *own]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads the options from it
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _options(
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
    secrets: SecretsOption = None,
    runnables: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file of services elsewhere that have actions, by RunnableService."),
    ] = None,
    mcp_servers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file of MCP servers, whose tools mcp.call calls: commands or URLs."),
    ] = None,
    http_allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="A host, HOST:PORT or network that http.request and chat.complete may call though it is not public. "
            "Repeatable.",
            show_default=False,
        ),
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
    temporal_tls: TemporalTlsOption = False,
    temporal_tls_ca: TemporalTlsCaOption = None,
    temporal_tls_cert: TemporalTlsCertOption = None,
    temporal_tls_key: TemporalTlsKeyOption = None,
    temporal_api_key_file: TemporalApiKeyFileOption = None,
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
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The size of ended runs to keep, in bytes of events, such as 500MiB. Default: 10GiB; in memory 1GiB.",
        ),
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
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate and its chain, in PEM: encrypt connections.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's private key, in PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The authority, in PEM, that has signed the certificates of clients."),
    ] = None,
    access: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A file of namespaces, and of callers and their roles. Default: all may do all."
        ),
    ] = None,
    audit_log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A file that gets a line for each change and each refusal."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Allow unencrypted connections from other machines.")
    ] = False,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(
            parser=choice_parser(LogLevel),
            metavar=choice_metavar(LogLevel),
            help="The lowest level of log messages to show. Below it, stepwave logs has only the messages of "
            "`context.logger`, from info on. Default: info.",
            show_default=False,
        ),
    ] = None,
    log_format: LogFormatOption = None,
) -> Mapping[str, object]:
    """Return the values by the name of the setting."""
    return {
        "listen": listen,
        "actions": actions or None,
        "workflows": workflows,
        "limits": limits,
        "secrets": secrets,
        "runnables": runnables,
        "mcp_servers": mcp_servers,
        "http_allow": http_allow or None,
        "journal": journal,
        "synchronous": synchronous,
        "recover": recover,
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
        "drain_timeout": drain_timeout,
        "step_timeout": step_timeout,
        "idle_timeout": idle_timeout,
        "max_attempts": max_attempts,
        "max_runs": max_runs,
        "max_steps": max_steps,
        "keep_runs": keep_runs,
        "keep_age": keep_age,
        "keep_bytes": keep_bytes,
        "metrics_listen": metrics_listen,
        "trace_detail": trace_detail,
        "tracebacks": False if no_tracebacks else None,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "access": access,
        "audit_log": audit_log,
        "insecure": insecure or None,
        "log_level": log_level,
        "log_format": log_format,
    }
