"""A server in this process, for notebooks, tests and the command line; imported only when needed."""

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Generic, TypeVar

from stepwave._transport.aio import LoopAffinity
from stepwave.exceptions import InvalidWorkflow, ServerUnavailable

from .drive import close, drive, new_loop
from .functions import Register

__all__ = ["LocalClient", "LocalServer", "local_sync_client", "needs_server_extra", "server_on_thread"]

# The path of a socket may have 104 bytes on some systems; the rest is for the names of the folder and the socket.
_MAX_TEMP_PATH = 70

_JOIN_TIMEOUT = 1.0  # seconds to wait, after the server has stopped, for tasks that actions left behind
_PROTECTION = ("tls_cert", "tls_key", "tls_client_ca", "access", "audit_log")
_STOP_POLL = 0.1  # seconds between checks whether the server has stopped, while its loop registers actions


AsyncClientType = TypeVar("AsyncClientType", bound=AbstractAsyncContextManager[object])
ClientType = TypeVar("ClientType", bound=AbstractContextManager[object])


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server in this process.

    Attributes:
        address: Its address.
        missing: Returns those of some functions and classes that are not the actions of their names.
        register: Adds functions and classes to its actions, on its event loop. It raises `InvalidWorkflow` if one is
            not an action, or if another action has its name; none is added then.
    """

    address: str
    missing: Callable[[Iterable[object]], list[object]]
    register: Register


class LocalClient(AbstractAsyncContextManager[AsyncClientType], Generic[AsyncClientType]):
    """A server on the event loop that enters this, and a client of it.

    Args:
        client: Makes a client of the server.
        actions: Actions beside the built-in ones.
        settings: Settings of the server, by name.

    Raises:
        ModuleNotFoundError: On entering: the server is not installed.
        RuntimeError: On leaving: this is another event loop, where the server cannot be stopped.
    """

    def __init__(
        self,
        client: Callable[[LocalServer], AsyncClientType],
        actions: Iterable[object],
        settings: Mapping[str, object],
    ) -> None:
        self._client = client
        self._actions = actions
        self._settings = settings
        self._affinity = LoopAffinity("AsyncClient.local")
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> AsyncClientType:
        """Start the server."""
        self._affinity.bind()
        server = await self._entered.enter_async_context(_server(self._actions, self._settings))
        client = self._client(server)
        await self._entered.enter_async_context(client)
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self._affinity.check()
        await self._entered.aclose()


@contextmanager
def local_sync_client(
    client: Callable[[LocalServer], ClientType], actions: Iterable[object], settings: Mapping[str, object]
) -> Iterator[ClientType]:
    """Run a server on a thread of its own, and yield a client of it. Arguments as for `LocalClient`."""
    with server_on_thread(actions, settings) as server:
        entered = client(server)
        with entered:
            yield entered


@contextmanager
def server_on_thread(actions: Iterable[object], settings: Mapping[str, object]) -> Iterator[LocalServer]:
    """Run a server on a thread and event loop of its own, and yield it. Arguments as for `LocalClient`."""
    started: Future[tuple[LocalServer, Callable[[], object]]] = Future()
    ended = threading.Event()
    args = (actions, settings, started, ended)
    thread = threading.Thread(target=_serve, args=args, name="stepwave-server", daemon=True)
    thread.start()
    try:
        server, stop = started.result()
        try:
            yield server
        finally:
            stop()
    finally:
        ended.wait()
        thread.join(_JOIN_TIMEOUT)  # an action that ignores its cancellation keeps the loop running


@contextmanager
def needs_server_extra(what: str) -> Iterator[None]:
    """Name the extra to install when an import in the body fails.

    Raises:
        ModuleNotFoundError: A module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{what} needs {error.name}: pip install 'stepwave[server]'", name=error.name
        ) from error


def _serve(
    actions: Iterable[object],
    settings: Mapping[str, object],
    started: Future[tuple[LocalServer, Callable[[], object]]],
    ended: threading.Event,
) -> None:
    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            async with _server(actions, settings) as server:
                threadsafe = replace(server, register=partial(_register_on_loop, server, loop, ended))
                started.set_result((threadsafe, lambda: loop.call_soon_threadsafe(stopped.set)))
                await stopped.wait()
        finally:
            ended.set()

    loop = new_loop()
    try:
        try:
            drive(loop, serve())
        finally:
            close(loop)
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)  # the caller raises it


def _register_on_loop(
    server: LocalServer, loop: asyncio.AbstractEventLoop, ended: threading.Event, targets: Iterable[object]
) -> None:
    """Register targets on the server's loop, where a class may create what belongs to the loop, and wait for it.

    Raises:
        InvalidWorkflow: As `LocalServer.register`.
        ServerUnavailable: The server has stopped.
    """
    missing = server.missing(targets)
    if not missing:
        return
    registered: Future[None] = Future()

    def register() -> None:
        try:
            server.register(missing)
        except BaseException as error:  # the caller raises it
            registered.set_exception(error)
        else:
            registered.set_result(None)

    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(register)
    while not wait([registered], _STOP_POLL).done:
        if ended.is_set():
            raise ServerUnavailable("the server in this process has stopped", address=server.address)
    registered.result()


@asynccontextmanager
async def _server(actions: Iterable[object], settings: Mapping[str, object]) -> AsyncIterator[LocalServer]:
    """Run a server, by default on a socket that only this user can reach, and yield it."""
    with needs_server_extra("a server in this process"):
        from stepwave_server.actions import ActionsError
        from stepwave_server.app import Server
        from stepwave_server.config import Settings
    with tempfile.TemporaryDirectory(prefix="stepwave-", dir=_socket_root()) as folder:
        listen = f"unix:{folder}/s" if hasattr(socket, "AF_UNIX") else "127.0.0.1:0"
        # Its own journal and metrics: those in the environment belong to a shared server, as does what protects that.
        own = {"listen": listen, "journal": "memory", "metrics_listen": "", **dict.fromkeys(_PROTECTION)}
        options = {**own, **settings}
        async with Server(Settings.model_validate(options), actions=actions) as server:

            def register(targets: Iterable[object]) -> None:
                try:
                    server.registry.add(targets)
                except ActionsError as error:
                    raise InvalidWorkflow(str(error)) from error

            yield LocalServer(address=server.address, missing=server.registry.missing, register=register)


def _socket_root() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > _MAX_TEMP_PATH else None  # noqa: S108 - a private folder in it
