"""Connections over HTTP to addresses that are allowed: the address that was checked is the one connected to.

The name of a host is resolved once for a connection, and all of its addresses are checked. The connection then goes to
one of them, and not to the name. TLS and the `Host` header have the name of the URL.

A connection must not mix up responses: the next request may be of another run. Namespaces share no connections. A
connection is closed, and not used again, if more came than the response, or if a request had a body that services need
not read: a service that takes the body for a request of its own answers that, too.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NoReturn

import httpcore
import httpx

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.outbound.addresses import Address, AllowList, to_address
from stepwave_server.actions.threads import run_in_thread
from stepwave_server.core.model import Reason

__all__ = ["NAMED_FAILURES", "Transport", "connection_failure"]

MAX_IDLE_CONNECTIONS = 100
IDLE_SECONDS = 5.0
"""How long an idle connection is kept. Services close theirs later, so that few requests meet a closed one."""

CONNECT_SECONDS = 10.0
"""How long a connection to one address, and its TLS handshake, may take. All else is bounded by the attempt."""

MAX_ADDRESSES = 16
"""Addresses of a host that are tried."""

NAMED_FAILURES = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError)
"""The exceptions that `connection_failure` knows."""


_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Methods whose body has no meaning (RFC 9110, section 9.3). Many services do not read it."""


class Transport:
    """Sends requests over pooled connections. It reads no environment but the variables for certificates of OpenSSL.

    Args:
        allowed: The closed addresses that are open.
    """

    def __init__(self, allowed: AllowList) -> None:
        self._tls = httpx.create_ssl_context()
        self._backend = _CheckedBackend(allowed)
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}

    def _pool(self, namespace: str) -> httpcore.AsyncConnectionPool:
        pool = self._pools.get(namespace)
        if pool is None:
            pool = self._pools[namespace] = httpcore.AsyncConnectionPool(
                ssl_context=self._tls,
                max_connections=None,  # admission bounds the attempts
                max_keepalive_connections=MAX_IDLE_CONNECTIONS,
                keepalive_expiry=IDLE_SECONDS,
                network_backend=self._backend,
            )
        return pool

    async def send(self, request: httpx.Request, namespace: str) -> httpx.Response:
        """Send a request, and return the response as soon as its headers are there.

        Args:
            request: The request.
            namespace: The namespace of its run.

        Raises:
            ActionFailed: The address is not allowed, or the host has none.
            httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError: There is no response.
        """
        assert isinstance(request.stream, httpx.AsyncByteStream)
        url = request.url
        response = await self._pool(namespace).handle_async_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions={"timeout": {"connect": CONNECT_SECONDS}},
            )
        )
        stream = response.extensions["network_stream"]
        assert isinstance(stream, _Stream), "the backend makes all streams"
        if request.method in _WITHOUT_BODY and request.headers.get("content-length", "0") != "0":
            stream.spent = True
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_Body(response, stream),
            extensions=response.extensions,
            request=request,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()


class _Stream(httpcore.AsyncNetworkStream):
    """A connection.

    Attributes:
        spent: Whether no other request may use it.

    Args:
        inner: The connection of the library.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self.spent = False
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as in the base class
        """Read some bytes."""
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """Write bytes."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> "_Stream":
        """Return the connection with TLS."""
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> object:
        """Return information about it. The pool closes an idle connection that is readable: its service has left."""
        return True if self.spent and info == "is_readable" else self._inner.get_extra_info(info)


class _Body(httpx.AsyncByteStream):
    """The body of a response."""

    def __init__(self, response: httpcore.Response, stream: _Stream) -> None:
        self._response = response
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.aiter_stream():
            yield part

    async def aclose(self) -> None:
        self._stream.spent = self._stream.spent or _has_surplus(self._response)
        await self._response.aclose()


def _has_surplus(response: httpcore.Response) -> bool:
    """Return whether bytes came after a response. The library would read them as the next one on the connection.

    It has no public way to ask. If it changes, no connection is used again, which a test finds.
    """
    connection = getattr(getattr(response.stream, "_stream", None), "_connection", None)
    state = getattr(getattr(connection, "_connection", connection), "_h11_state", None)
    return state is None or bool(state.trailing_data[0])


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that are allowed.

    Args:
        allowed: The closed addresses that are open.
    """

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as the base class declares it
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address of a host that answers, if all of its addresses are allowed."""
        addresses = await _addresses(host, port)
        for address in addresses:
            problem = self._allowed.problem(host, port, address)
            if problem:
                raise _refused(host, port, problem)
        error: httpcore.NetworkError | httpcore.TimeoutException = httpcore.ConnectError("it has no address")
        for address in addresses[:MAX_ADDRESSES]:
            try:
                options = (str(address), port, timeout, local_address, socket_options)
                return _Stream(await self._inner.connect_tcp(*options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as found:
                error = found
        raise error

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as the base class declares it
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> NoReturn:
        """Refuse: no URL leads to a socket of the machine."""
        raise httpcore.ConnectError("connections to Unix sockets are not allowed")

    async def sleep(self, seconds: float) -> None:
        """Wait for a number of seconds."""
        await self._inner.sleep(seconds)


def _refused(host: str, port: int, problem: str) -> ActionFailed:
    hint = "the operator of the server can open it (http_allow)"
    shown = f"[{host}]" if ":" in host else host
    return ActionFailed(Reason.UNAUTHORIZED, f"connections to {shown}:{port} are not allowed: {problem}; {hint}")


async def _addresses(host: str, port: int) -> Sequence[Address]:
    """Return the addresses of a host, in the order of the resolver.

    The resolver also reads unusual forms of addresses, such as `0x7f.1`. It runs on a thread.

    Raises:
        ActionFailed: The host has none.
    """
    address = to_address(host)
    if address is not None:
        return [address]
    try:
        found = await run_in_thread(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        problem = getattr(error, "strerror", None) or "its name is malformed"
        raise ActionFailed(Reason.UNAVAILABLE, f"{host} has no address: {problem}", retryable=True) from None
    addresses = dict.fromkeys(to_address(str(place[0])) for *_, place in found)
    return [address for address in addresses if address is not None]


def connection_failure(error: Exception, where: str) -> ActionFailed:
    """Return the failure for one of `NAMED_FAILURES`.

    Args:
        error: The exception.
        where: The origin of the URL.
    """
    if isinstance(error, httpcore.TimeoutException):
        return ActionFailed(Reason.TIMEOUT, f"{where} does not answer: no connection in time", retryable=True)
    if isinstance(error, httpcore.LocalProtocolError):
        return ActionFailed(Reason.INVALID_INPUT, f"the request to {where} is malformed")
    problem = _certificate_problem(error)
    if problem:
        return ActionFailed(Reason.UNAVAILABLE, f"the certificate of {where} is not valid: {problem}")
    did = "cannot be reached" if isinstance(error, httpcore.ConnectError) else "broke the connection off"
    return ActionFailed(Reason.UNAVAILABLE, f"{where} {did}{_text_of(error)}", retryable=True)


def _certificate_problem(error: BaseException | None) -> str:
    """Return why a certificate is not valid; empty: an exception is for another reason.

    The library hides the cause of its exceptions. The context remains.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__context__
    return ""


def _text_of(error: Exception) -> str:
    text = str(error)
    return f": {text}" if text else ""
