"""Connecting a command to a server, remote or in this process, and finding a run by a prefix of its id."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from stepwave._client.aio import AsyncClient
from stepwave._model.results import Run
from stepwave._transport.security import Connection, resolve_connection
from stepwave.exceptions import InvalidWorkflow, NotFound, ServerUnavailable

from .display.output import columns
from .display.text import time_text
from .exit_codes import CommandError, ExitCode
from .process.standard_streams import reserve_stdout
from .server import capture_action_logs, require_server_extra
from .settings import settings_problems

__all__ = ["Target", "find_run"]

_LAST = "@last"

_OPTIONS = {
    "tls=True": "--tls",
    "insecure=True": "--insecure",
    "tls_ca": "--tls-ca",
    "client_cert": "--client-cert",
    "client_key": "--client-key",
}

_MAX_CANDIDATES = 10
_CONNECT_TIMEOUT = 1.0  # seconds: long enough for a server that has just been started, short enough for a user


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a command uses.

    Attributes:
        server: The server's address; `None`: the default address.
        insecure: Whether an unencrypted connection to another machine is allowed.
        actions: Modules with actions. If there are any, a server with them runs in this process.
        local: Whether a server runs in this process even without `actions`, with built-in and installed actions.
        alternative: A command line that needs no server, for the error message; empty: there is none.
        workflows: The folder of named workflows for a server in this process; `None`: there are none.
        connect_timeout: How long a server that does not answer is tried, in seconds.
    """

    server: str | None
    insecure: bool = False
    actions: tuple[str, ...] = ()
    local: bool = False
    alternative: str = ""
    workflows: Path | None = None
    connect_timeout: float = _CONNECT_TIMEOUT

    def __post_init__(self) -> None:
        if self.server and self.in_process:
            option = "--actions" if self.actions else "--local"
            raise CommandError(f"{option} runs in this process, without a server: leave out --server or {option}")

    @property
    def in_process(self) -> bool:
        """Whether the server runs in this process."""
        return self.local or bool(self.actions)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncClient]:
        """Yield a client, and close it at the end.

        Raises:
            CommandError: The address is malformed or needs `--insecure`, no server answers, an extra is missing, or the
                actions or the environment's settings are invalid for a server in this process.
        """
        try:
            async with self._in_process() if self.in_process else self._remote() as client:
                yield client
        except ServerUnavailable as error:
            raise CommandError(_explain(error, self.alternative), ExitCode.NO_SERVER) from error

    def connection(self) -> Connection:
        """Return where the server is, and how the connection is protected.

        Raises:
            CommandError: The address, a file or the profile is malformed or missing, or the address needs `--insecure`.
        """
        try:
            return resolve_connection(self.server, insecure=self.insecure)
        except ValueError as error:
            raise CommandError(_in_options(str(error))) from error

    def _remote(self) -> AsyncClient:
        self.connection()
        return AsyncClient(self.server, insecure=self.insecure, connect_timeout=self.connect_timeout)

    @asynccontextmanager
    async def _in_process(self) -> AsyncIterator[AsyncClient]:
        require_server_extra()
        from pydantic import ValidationError

        from stepwave_server.actions.registry import ActionsError
        from stepwave_server.files.limits import LimitsError
        from stepwave_server.files.secrets import SecretsError
        from stepwave_server.rpc.workflows import WorkflowsError
        from stepwave_server.telemetry import TelemetryUnavailable

        named = {} if self.workflows is None else {"workflows": self.workflows}
        try:
            with reserve_stdout():  # the output of actions is not part of the command's output
                async with AsyncClient.local(self.actions, **named) as client:
                    with capture_action_logs():  # when the modules of actions have configured logging, if they do
                        yield client
        except (ActionsError, LimitsError, SecretsError, TelemetryUnavailable, WorkflowsError) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(settings_problems(error)) from error


async def find_run(client: AsyncClient, prefix: str) -> Run:
    """Return the run with this id, the only run whose id begins with it, or the newest run for `@last`.

    Raises:
        CommandError: No run matches, or several do.
    """
    if prefix == _LAST:
        return await _newest(client)
    if prefix.startswith("@"):
        raise CommandError(f"{prefix} names no run: give an id, the beginning of one, or {_LAST} for the newest run")
    try:
        return await client.get(prefix)
    except (NotFound, InvalidWorkflow):
        found = [run async for run in client.runs(prefix=prefix, limit=_MAX_CANDIDATES + 1)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(f'no run\'s id begins with "{prefix}"; list the runs: stepwave runs')
    rows = [("", run.run_id, run.state, time_text(run.create_time)) for run in found[:_MAX_CANDIDATES]]
    more = ["  …"] if len(found) > _MAX_CANDIDATES else []
    raise CommandError("\n".join([f'several runs have an id that begins with "{prefix}":', *columns(rows), *more]))


async def _newest(client: AsyncClient) -> Run:
    async for run in client.runs(limit=1):
        return run
    raise CommandError("the server has no runs")


def _in_options(message: str) -> str:
    """Return a message about arguments of the client as one about options."""
    for argument, option in _OPTIONS.items():
        message = message.replace(argument, option)
    return message


def _explain(error: ServerUnavailable, alternative: str) -> str:
    if error.reason:  # the message is the server's
        return str(error)
    if error.tls_problem:
        return _in_options(str(error))
    message = f"no server at {error.address}. Start one: stepwave serve --actions tools"
    return f"{message}\nOr run without a server: {alternative}" if alternative else message
