"""The client for asyncio."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stepwave._transport.aio import AsyncTransport, LoopAffinity
from stepwave._transport.link import connect
from stepwave._transport.security import Connection, PathLike, resolve_connection
from stepwave._values.time import Seconds

from .session import Session

if TYPE_CHECKING:
    from .local import LocalServer

__all__ = ["AsyncClient"]


class AsyncClient(Session):
    """A client of a Stepwave server, for asyncio.

        async with AsyncClient() as client:
            result = await client.run(flow, {"city": "Oslo"})

    A call that fails raises an exception of `stepwave.exceptions`. While the server does not answer, a call is retried
    for `connect_timeout`. A client belongs to the event loop that enters it or makes its first call; on any other loop
    it raises `RuntimeError`.

    Args:
        address: `HOST:PORT` or `unix:PATH`; `None`: `$STEPWAVE_SERVER`, else `127.0.0.1:50051`.
        timeout: The longest that a call may take, in seconds or as a `timedelta`. Runs, watches and `wait` have their
            own.
        connect_timeout: How long to retry a call while the server does not answer.
        reconnect_window: How long to retry a lost stream, and how long a run continues without one; at most an hour.
            It begins anew when the server restarts. Zero is an exception after an orderly stop of the server: the run
            then continues, whether its caller returns or not.
        namespace: The namespace of all calls; empty: `$STEPWAVE_NAMESPACE`, else the server's default.
        token: A bearer token; `None`: `$STEPWAVE_TOKEN`. It never goes over plain text to another machine.
        tls: Whether the connection is encrypted; `None`: `$STEPWAVE_TLS`, else whether there is a `tls_ca` or a
            `client_cert`.
        tls_ca: A file with the authorities to trust, in PEM; `None`: `$STEPWAVE_TLS_CA`, else those of the system.
        client_cert: A file with the client's certificate, in PEM; `None`: `$STEPWAVE_CLIENT_CERT`.
        client_key: A file with its private key; `None`: `$STEPWAVE_CLIENT_KEY`.
        profile: The profile in `~/.config/stepwave/profiles.toml` with what the arguments and the environment leave
            open; `None`: `$STEPWAVE_PROFILE`.
        insecure: Whether plain text may leave this machine.

    Raises:
        ValueError: The address, a file or the profile is malformed or missing, or plain text would leave this machine
            with a token, or with `insecure` false.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: Seconds = 30,
        connect_timeout: Seconds = 3,
        reconnect_window: Seconds = 30,
        namespace: str = "",
        token: str | None = None,
        tls: bool | None = None,
        tls_ca: PathLike | None = None,
        client_cert: PathLike | None = None,
        client_key: PathLike | None = None,
        profile: str | None = None,
        insecure: bool = False,
    ) -> None:
        connection = resolve_connection(
            address,
            namespace=namespace,
            token=token,
            tls=tls,
            tls_ca=tls_ca,
            client_cert=client_cert,
            client_key=client_key,
            profile=profile,
            insecure=insecure,
        )
        self._connect(connection, timeout=timeout, connect_timeout=connect_timeout, reconnect_window=reconnect_window)

    def _connect(
        self,
        connection: Connection,
        *,
        timeout: Seconds = 30,
        connect_timeout: Seconds = 3,
        reconnect_window: Seconds = 30,
    ) -> None:
        affinity = LoopAffinity()
        link = connect(
            AsyncTransport(connection.address, affinity, security=connection.security),
            timeout=timeout,
            connect_timeout=connect_timeout,
            reconnect_window=reconnect_window,
            namespace=connection.namespace,
        )
        super().__init__(link, affinity)

    @staticmethod
    def local(actions: Iterable[object] = (), **settings: Any) -> AbstractAsyncContextManager["AsyncClient"]:
        """Run a server in this process, on a private socket, and return a client of it; for notebooks and tests.

            async with AsyncClient.local() as client:
                result = await client.run(flow, {"city": "Oslo"})

        The functions and classes that a `Workflow` has as actions are registered when the workflow is run, started or
        planned. `InvalidWorkflow` is raised if another action has the name of one of them. Other actions are listed:
        `AsyncClient.local(actions=[search, "package.tools"])`. These are the ones that steps name by a string or in a
        file, and those of the runs that a durable journal continues.

        The server shares the caller's event loop. An async action that ignores its cancellation is abandoned, but its
        task stays on the loop, and `asyncio.run` waits for it. `Client.local` and `stepwave.testing` avoid that: they
        have a loop of their own.

        Args:
            actions: Actions beside the built-in ones: marked functions and classes, modules, or names of modules.
            settings: Settings of the server, by their names in `stepwave_server.config.Settings`.

        Raises:
            ModuleNotFoundError: The server is not installed: `pip install 'stepwave[server]'`.
        """
        from .local import LocalClient

        return LocalClient(_ClientInProcess, actions, settings)

    async def __aenter__(self) -> Self:
        self._affinity.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _ClientInProcess(AsyncClient):
    """A client of a server in this process."""

    def __init__(self, server: "LocalServer") -> None:
        self._connect(Connection(address=server.address))  # the environment is about other servers
        self._register = server.register
