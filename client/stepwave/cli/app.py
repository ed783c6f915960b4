"""The Typer application with all commands, and the conversion of errors to messages and exit codes."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from stepwave._files.schema import workflow_schema
from stepwave._values.payload import keep_digits
from stepwave.exceptions import StepwaveError

from .commands.approve import approve
from .commands.backup import backup
from .commands.compose import compose
from .commands.config import config
from .commands.export import delete, export
from .commands.graph import graph
from .commands.health import health
from .commands.host import host
from .commands.init import init
from .commands.lists import actions, runs, workflows
from .commands.logs import logs
from .commands.mcp import mcp
from .commands.plan import plan
from .commands.report import report
from .commands.result import cancel, result
from .commands.run import rerun, run
from .commands.serve import serve
from .commands.token import token
from .commands.top import top
from .commands.watch import watch
from .commands.why import why
from .display.output import flush_output, print_error, print_json, print_line
from .exit_codes import CommandError, ExitCode, code_of_error
from .process.shutdown import bounded_exit

__all__ = ["app", "run_app"]

_DEBUG = "STEPWAVE_DEBUG"

app = typer.Typer(
    name="stepwave",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        print_line(f"stepwave {version('stepwave')}")
        raise typer.Exit


@app.callback()
def _stepwave(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A profile in ~/.config/stepwave/profiles.toml: a server, and how to reach it."
        ),
    ] = None,
    namespace: Annotated[str | None, typer.Option(metavar="NAME", help="The namespace of runs.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt, and trust the authorities of the system.")] = False,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encrypt, and trust the authorities in this file.")
    ] = None,
    client_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The client's certificate, with --client-key.")
    ] = None,
    client_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's private key.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a bearer token. Or set STEPWAVE_TOKEN.")
    ] = None,
) -> None:
    """Run workflows as fast as their dependencies allow, and see each step as it completes.

    The options here, before the command, say how commands reach a server. Each has an environment variable as well:
    STEPWAVE_TLS_CA, for example.
    """
    options = {
        "PROFILE": profile,
        "NAMESPACE": namespace,
        "TLS": "1" if tls else None,
        "TLS_CA": tls_ca,
        "CLIENT_CERT": client_cert,
        "CLIENT_KEY": client_key,
        "TOKEN_FILE": token_file,
    }
    os.environ.update({f"STEPWAVE_{name}": str(value) for name, value in options.items() if value is not None})
    if token_file is not None:
        os.environ.pop("STEPWAVE_TOKEN", None)


for _command in (
    init,
    serve,
    config,
    host,
    mcp,
    run,
    rerun,
    compose,
    plan,
    graph,
    watch,
    runs,
    result,
    report,
    why,
    logs,
    approve,
    cancel,
    export,
    delete,
    backup,
    actions,
    workflows,
    token,
    health,
    top,
):
    app.command()(_command)


@app.command()
def schema() -> None:
    """Print the JSON Schema of workflow files, for use in editors."""
    print_json(workflow_schema())


def run_app() -> NoReturn:
    """Run the command in the arguments of the process, and exit.

    With `STEPWAVE_DEBUG` set, errors are raised with their traceback.
    """
    keep_digits()
    with bounded_exit():
        try:
            try:
                app()
            finally:
                flush_output()
        except CommandError as error:
            _fail(error, str(error), error.code)
        except StepwaveError as error:
            _fail(error, str(error), code_of_error(error))
        except Exception as error:
            _fail(
                error,
                f"unexpected {type(error).__name__}: {error} ({_DEBUG}=1 shows the traceback)",
                ExitCode.RUN_FAILED,
            )
        sys.exit(ExitCode.SUCCEEDED)


def _fail(error: Exception, message: str, code: ExitCode) -> NoReturn:
    if os.environ.get(_DEBUG):
        raise error
    print_error(message)
    sys.exit(code)
