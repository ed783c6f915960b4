"""A server in this process, for notebooks, tests and the command line; imported only when one is asked for."""

import asyncio
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from types import TracebackType
from typing import Generic, TypeVar

from stepwave._transport.aio import LoopAffinity

from .drive import close, drive, new_loop

__all__ = ["LocalClient", "local_sync_client", "needs_server_extra", "server_on_thread"]

# A socket's path holds 104 bytes on some systems; this leaves room for the name of the folder and of the socket.
_LONGEST_FOLDER = 70

_PATIENCE = 1.0  # seconds that tasks which actions left behind get to end, once their server has


AsyncFace = TypeVar("AsyncFace", bound=AbstractAsyncContextManager[object])
Face = TypeVar("Face", bound=AbstractContextManager[object])


class LocalClient(AbstractAsyncContextManager[AsyncFace], Generic[AsyncFace]):
    """A server on the event loop that enters this, and a client of it.

    Args:
        client: Makes a client of an address.
        actions: What steps can do, beside the built-in actions.
        settings: Settings of the server, by name.

    Raises:
        ModuleNotFoundError: The server is not installed; when it is entered.
        RuntimeError: It is left on another event loop, where the server cannot be stopped.
    """

    def __init__(
        self, client: Callable[[str], AsyncFace], actions: Iterable[object], settings: Mapping[str, object]
    ) -> None:
        self._client = client
        self._actions = actions
        self._settings = settings
        self._affinity = LoopAffinity("AsyncClient.local")
        self._entered = AsyncExitStack()

    async def __aenter__(self) -> AsyncFace:
        """Start the server."""
        self._affinity.bind()
        address = await self._entered.enter_async_context(_server(self._actions, self._settings))
        client = self._client(address)
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
    client: Callable[[str], Face], actions: Iterable[object], settings: Mapping[str, object]
) -> Iterator[Face]:
    """Run a server on a thread of its own, and give a client of it. Arguments as for `LocalClient`."""
    with server_on_thread(actions, settings) as address:
        entered = client(address)
        with entered:
            yield entered


@contextmanager
def server_on_thread(actions: Iterable[object], settings: Mapping[str, object]) -> Iterator[str]:
    """Run a server on a thread and event loop of its own, and give its address. Arguments as for `LocalClient`."""
    started: Future[tuple[str, Callable[[], object]]] = Future()
    ended = threading.Event()
    given = (actions, settings, started, ended)
    thread = threading.Thread(target=_serve, args=given, name="stepwave-server", daemon=True)
    thread.start()
    try:
        address, stop = started.result()
        try:
            yield address
        finally:
            stop()
    finally:
        ended.wait()
        thread.join(
            _PATIENCE
        )  # an action that swallows its cancellation for ever keeps the loop, but nobody waits for it


@contextmanager
def needs_server_extra(what: str) -> Iterator[None]:
    """Say what to install when something is missing that an import in the body needs.

    Raises:
        ModuleNotFoundError: Something is.
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
    started: Future[tuple[str, Callable[[], object]]],
    ended: threading.Event,
) -> None:
    async def serve() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        try:
            async with _server(actions, settings) as address:
                started.set_result((address, lambda: loop.call_soon_threadsafe(stopped.set)))
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


@asynccontextmanager
async def _server(actions: Iterable[object], settings: Mapping[str, object]) -> AsyncIterator[str]:
    """Run a server, by default on a socket that only this user can reach, and give its address."""
    with needs_server_extra("a server in this process"):
        from stepwave_server.app import Server
        from stepwave_server.config import Settings
    with tempfile.TemporaryDirectory(prefix="stepwave-", dir=_socket_home()) as folder:
        listen = f"unix:{folder}/s" if hasattr(socket, "AF_UNIX") else "127.0.0.1:0"
        # Its own journal whatever the environment says: that is meant for the server that others share.
        told = {"listen": listen, "journal": "memory", **settings}
        async with Server(Settings.model_validate(told), actions=actions) as server:
            yield server.address


def _socket_home() -> str | None:
    return "/tmp" if len(tempfile.gettempdir()) > _LONGEST_FOLDER else None  # noqa: S108 - a private folder in it
