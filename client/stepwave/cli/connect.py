"""How commands reach a server, or one in this process, and find a run by the beginning of its id."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module

from stepwave._client.aio import AsyncClient
from stepwave._model.results import Run
from stepwave._transport.channel import is_local, resolve_address
from stepwave.exceptions import InvalidWorkflow, NotFound, ServerUnavailable

from .display.output import columns
from .display.text import time_text
from .exit_codes import CommandError, ExitCode
from .process.standard_streams import kept_for_answers
from .settings import settings_problems

__all__ = ["Target", "find_run", "require_server_extra"]

_CANDIDATES = 10
_PATIENCE = 1.0  # seconds: a server that was started just before may need them, and somebody waits


@dataclass(frozen=True, slots=True)
class Target:
    """What a command talks to.

    Attributes:
        server: The server's address; `None`: the default one.
        insecure: Whether plain text may leave this machine.
        actions: Modules whose actions run in this process, which then takes the server's place.
        local: This process takes the server's place without them, too: with the built-in actions.
        here: How the command can do without a server; empty: it cannot.
    """

    server: str | None
    insecure: bool = False
    actions: tuple[str, ...] = ()
    local: bool = False
    here: str = ""

    def __post_init__(self) -> None:
        if self.server and self.in_process:
            option = "--actions" if self.actions else "--local"
            raise CommandError(f"{option} runs in this process, without a server: leave --server out, or {option}")

    @property
    def in_process(self) -> bool:
        """Whether this process takes the server's place."""
        return self.local or bool(self.actions)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncClient]:
        """Give a client, closed at the end.

        Raises:
            CommandError: The address is malformed or needs `--insecure`, nobody answers there, an extra is missing, or
                a server cannot run in this process as the actions and the environment want it.
        """
        try:
            async with self._in_process() if self.in_process else self._remote() as client:
                yield client
        except ServerUnavailable as error:
            raise CommandError(_explain(error, self.here), ExitCode.NO_SERVER) from error

    def _remote(self) -> AsyncClient:
        try:
            address = resolve_address(self.server)
        except ValueError as error:
            raise CommandError(str(error)) from error
        if not (self.insecure or is_local(address)):
            raise CommandError(f"{address} is another machine, and nothing is encrypted: allow that with --insecure")
        return AsyncClient(address, insecure=self.insecure, connect_timeout=_PATIENCE)

    @asynccontextmanager
    async def _in_process(self) -> AsyncIterator[AsyncClient]:
        require_server_extra()
        from pydantic import ValidationError

        from stepwave_server.actions.registry import ActionsError
        from stepwave_server.limits_file import LimitsError
        from stepwave_server.telemetry import TelemetryUnavailable

        try:
            with kept_for_answers():  # what actions write is no part of the answer
                async with AsyncClient.local(actions=self.actions) as client:
                    yield client
        except (ActionsError, LimitsError, TelemetryUnavailable) as error:
            raise CommandError(str(error)) from error
        except ValidationError as error:
            raise CommandError(settings_problems(error)) from error


def require_server_extra() -> None:
    """Check that a server can run in this process.

    Raises:
        CommandError: Something that it needs is not installed.
    """
    try:
        import_module("stepwave_server.app")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stepwave"):
            raise
        raise CommandError("running a server needs more: pip install 'stepwave[server]'") from error


async def find_run(client: AsyncClient, beginning: str) -> Run:
    """Return the run of this id, or the only one whose id begins so.

    Raises:
        CommandError: There is none, or there are several.
    """
    try:
        return await client.get(beginning)
    except (NotFound, InvalidWorkflow):
        found = [run async for run in client.runs(prefix=beginning, limit=_CANDIDATES + 1)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise CommandError(f'no run\'s id begins with "{beginning}"; these there are: stepwave runs')
    rows = [("", run.run_id, run.state, time_text(run.create_time)) for run in found[:_CANDIDATES]]
    more = ["  …"] if len(found) > _CANDIDATES else []
    raise CommandError("\n".join([f'"{beginning}" begins the ids of several runs:', *columns(rows), *more]))


def _explain(error: ServerUnavailable, here: str) -> str:
    if error.reason:  # the server itself said so
        return str(error)
    start = f"no server at {error.address}. Start one: stepwave serve --actions tools"
    return f"{start}\nOr do without: {here}" if here else start
