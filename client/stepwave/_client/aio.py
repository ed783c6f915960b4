"""The client for asyncio."""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self

from stepwave._transport.aio import AsyncTransport, LoopAffinity
from stepwave._transport.link import connect
from stepwave._values.time import Seconds

from .session import Session

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
        namespace: The namespace of all calls; empty: the server's default.
        insecure: Whether plain text may leave this machine.

    Raises:
        ValueError: The address is malformed, or is another machine's and `insecure` is false.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        timeout: Seconds = 30,
        connect_timeout: Seconds = 3,
        reconnect_window: Seconds = 30,
        namespace: str = "",
        insecure: bool = False,
    ) -> None:
        affinity = LoopAffinity()
        link = connect(
            partial(AsyncTransport, affinity=affinity),
            address,
            timeout=timeout,
            connect_timeout=connect_timeout,
            reconnect_window=reconnect_window,
            namespace=namespace,
            insecure=insecure,
        )
        super().__init__(link, affinity)

    @staticmethod
    def local(actions: Iterable[object] = (), **settings: Any) -> AbstractAsyncContextManager["AsyncClient"]:
        """Run a server in this process, on a private socket, and return a client of it; for notebooks and tests.

            async with AsyncClient.local(actions=[search, "package.tools"]) as client: ...

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

        return LocalClient(AsyncClient, actions, settings)

    async def __aenter__(self) -> Self:
        self._affinity.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
