"""Streamable HTTP to an MCP server, with bounds. The transport of `mcp` sends its requests by `BoundedTransport`.

An exception of a request would end the session of `mcp`, and its error answers hide the status. So every problem is put
into the `Exchange` of the call, and the library gets an error of the protocol instead.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import anyio
import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import JSONRPCError, JSONRPCResponse, jsonrpc_message_adapter

from stepwave_server.actions.error_classification import classify_response
from stepwave_server.actions.failures import ActionFailed, cut
from stepwave_server.actions.mcp.entry import HttpServer
from stepwave_server.actions.mcp.errors import failed, malformed, not_opened
from stepwave_server.actions.mcp.streams import Messages, unicode_json, without_surrogates
from stepwave_server.core.model import Reason

__all__ = ["EXCHANGE", "Exchange", "HttpLink"]

CONNECT_SECONDS = 10.0
"""How long a connection and its TLS handshake may take."""

OTHER_SECONDS = 5.0
"""How long the answer to a message is awaited that has none by the protocol, such as a cancellation."""

MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 64 << 10

_JSON = "application/json"
_EVENTS = "text/event-stream"
_SESSION = "mcp-session-id"

_CALL = re.compile(rb'\{"jsonrpc":"2\.0","id":([0-9]+),"method":')
"""The beginning of a request of the library."""

T = TypeVar("T")


class _AbortedError(Exception):
    """Raised in the request of a call that was cancelled."""


@dataclass(slots=True, eq=False)
class Exchange:
    """The outcome of the HTTP requests of one call.

    Attributes:
        failure: Why there is no answer; `None`: there is one.
        lost: Whether the server no longer knew the session, so that nothing was done.
    """

    failure: ActionFailed | None = None
    lost: bool = False
    _aborted: bool = False
    _scopes: set[anyio.CancelScope] = field(default_factory=set)

    def abort(self) -> None:
        """End the requests of the call."""
        self._aborted = True
        for scope in self._scopes:
            scope.cancel()

    async def awaited(self, awaitable: Awaitable[T]) -> T:
        """Await something, unless the call is aborted.

        Raises:
            _AbortedError: It is.
        """
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self._aborted:
                    scope.cancel()
                return await awaitable
            finally:
                self._scopes.discard(scope)
        raise _AbortedError


EXCHANGE: ContextVar[Exchange] = ContextVar("mcp_exchange")
"""The exchange of the current call. The library sends a message in the context of its caller."""


class HttpLink:
    """The link to a server over streamable HTTP.

    Args:
        server: The server.
        headers: The header fields of all requests.
        max_bytes: Bytes of an answer.
    """

    ended = False  # there is no connection whose end could be seen

    def __init__(self, server: HttpServer, headers: Mapping[str, str], max_bytes: int) -> None:
        self._server = server
        self._headers = headers
        self._max_bytes = max_bytes

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Messages]:
        """Prepare the connections, and close them in the end.

        Raises:
            ActionFailed: The certificates of authorities cannot be read.
        """
        async with (
            httpx2.AsyncClient(
                headers={"user-agent": f"stepwave/{version('stepwave')}", **self._headers},
                transport=BoundedTransport(self._server, await self._tls(), self._max_bytes),
                timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
                max_redirects=MAX_REDIRECTS,
                trust_env=False,
            ) as client,
            streamable_http_client(
                self._server.url, http_client=client, max_sse_event_size=self._max_bytes
            ) as messages,
        ):
            yield messages

    async def _tls(self) -> ssl.SSLContext:
        try:
            return await asyncio.to_thread(_context, self._server.ca)
        except OSError as error:
            text = f"the certificates of authorities cannot be read: {error.strerror or error}"
            raise not_opened(self._server, text, retryable=False) from None


def _context(ca: Path | None) -> ssl.SSLContext:
    """Return the settings of TLS. Reading certificates takes a while: call it on a thread.

    Raises:
        OSError: The authority cannot be read, or is none.
    """
    return httpx2.create_ssl_context() if ca is None else ssl.create_default_context(cafile=ca)


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends requests, and answers each with a response that the library can read within bounds. Never raises.

    Args:
        server: The server.
        tls: The settings of TLS.
        max_bytes: Bytes of an answer.
    """

    def __init__(self, server: HttpServer, tls: ssl.SSLContext, max_bytes: int) -> None:
        self._server = server
        self._max_bytes = max_bytes
        self._inner = httpx2.AsyncHTTPTransport(
            verify=tls,
            trust_env=False,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=5.0),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        if request.method == "GET" and "last-event-id" not in request.headers:
            return httpx2.Response(405)  # messages outside of calls are not asked for
        request.headers["accept-encoding"] = "identity"
        if request.method != "GET" and not _call_id(await request.aread()):
            return await self._tell(request)
        exchange = EXCHANGE.get(None) or Exchange()
        exchange.failure = None  # that of an earlier request of the same call
        try:
            return await exchange.awaited(self._response(request, exchange))
        except ActionFailed as error:
            exchange.failure = error
        except Exception as error:  # any would end the session
            exchange.failure = self._broken(error)
        return _error_response(exchange.failure)

    async def _tell(self, request: httpx2.Request) -> httpx2.Response:
        """Send a message that gets no answer, such as a cancellation. Whether it arrives does not matter."""
        with suppress(Exception), anyio.fail_after(OTHER_SECONDS):
            response = await self._inner.handle_async_request(request)
            await response.aclose()
        return httpx2.Response(200)

    async def _response(self, request: httpx2.Request, exchange: Exchange) -> httpx2.Response:
        """Send a request, and return the response as the library can read it.

        Raises:
            ActionFailed: The response is no answer.
            httpx2.TransportError, ssl.SSLError: There is none.
        """
        response = await self._inner.handle_async_request(request)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == _EVENTS and response.status_code == 200 and not _encoding(response):
            stream = _Events(response, exchange)
            return httpx2.Response(200, headers=_kept(response, "content-type", _SESSION), stream=stream)
        try:
            return await self._complete(request, response, kind, exchange)
        finally:
            await response.aclose()

    async def _complete(
        self, request: httpx2.Request, response: httpx2.Response, kind: str, exchange: Exchange
    ) -> httpx2.Response:
        """Return a response that is no stream, with its whole body."""
        status = response.status_code
        if 300 <= status < 400:
            return self._redirect(response)
        if status == 404 and _SESSION in request.headers:
            exchange.lost = True
            raise failed(self._server, Reason.UNAVAILABLE, "it no longer knows the session", retryable=True)
        if status >= 400:
            return await self._refusal(response, kind)
        if kind != _JSON or _encoding(response):
            text = _encoding(response) or kind or "no content type"
            raise malformed(self._server, f"it answered {status} with {cut(text, 100)}, and not JSON or events")
        body = await self._read(response, self._max_bytes)
        if body is None:
            text = f"it answered more than the {self._max_bytes:,} bytes allowed"
            raise failed(self._server, Reason.RESOURCE_EXHAUSTED, text, known=False)
        return self._answer(request, response, body)

    def _answer(self, request: httpx2.Request, response: httpx2.Response, body: bytes) -> httpx2.Response:
        """Return a response with the answer to a request.

        Raises:
            ActionFailed: The body is no answer, or that to another request: the library would wait on.
        """
        body = unicode_json(body)
        try:
            message = jsonrpc_message_adapter.validate_json(body, by_name=False)
        except ValueError:
            message = None
        if isinstance(message, JSONRPCError):
            return httpx2.Response(400, headers={"content-type": _JSON}, content=body)  # whatever its id
        if not isinstance(message, JSONRPCResponse):
            raise malformed(self._server, "it answered JSON that is no answer of the protocol")
        if str(message.id) != _call_id(request.content):
            raise malformed(self._server, "it answered another request")
        return httpx2.Response(200, headers=_kept(response, "content-type", _SESSION), content=body)

    def _redirect(self, response: httpx2.Response) -> httpx2.Response:
        """Return a redirect, which the library follows within the origin.

        Raises:
            ActionFailed: Its target is no URL.
        """
        try:
            httpx2.URL(response.headers.get("location", ""))
        except httpx2.InvalidURL:
            raise malformed(self._server, "it redirected to a malformed URL") from None
        return httpx2.Response(response.status_code, headers=_kept(response, "location"))

    async def _refusal(self, response: httpx2.Response, kind: str) -> httpx2.Response:
        """Return the response of a server that refused a message, if it says why by the protocol.

        Raises:
            ActionFailed: It says so by the status.
        """
        body = await self._read(response, MAX_ERROR_BYTES) or b""
        status = response.status_code
        if kind == _JSON and status in (400, 404, 422) and _is_error(body):
            return httpx2.Response(status, headers={"content-type": _JSON}, content=body)
        found = classify_response(status, {name.lower(): value for name, value in response.headers.items()})
        text = "" if kind == "text/html" else " ".join(body.decode(errors="replace").split())
        shown = f": {text}" if text else ""
        if status == 405:
            shown += "; the URL must be one of streamable HTTP, and not of HTTP with SSE, which came before it"
        raise failed(
            self._server,
            found.reason,
            f"it answered {status} {response.reason_phrase}".rstrip() + shown,
            retryable=found.retryable,
            retry_after=found.retry_after,
            known=status < 500,
        )

    async def _read(self, response: httpx2.Response, most: int) -> bytes | None:
        """Return the body of a response; `None`: it has more than `most` bytes."""
        data = bytearray()
        async for part in response.aiter_raw():
            data += part
            if len(data) > most:
                return None
        return bytes(data)

    def _broken(self, error: Exception) -> ActionFailed:
        """Return the failure for a request without a whole response."""
        if isinstance(error, httpx2.TimeoutException):
            return not_opened(self._server, "no connection in time")
        if problem := _certificate_problem(error):
            return failed(self._server, Reason.UNAUTHORIZED, f"its certificate is not trusted: {problem}")
        text = f": {error}" if str(error) else ""
        if isinstance(error, httpx2.ConnectError):
            return not_opened(self._server, f"it cannot be reached{text}")
        return failed(self._server, Reason.UNAVAILABLE, f"the connection broke off{text}", retryable=True, known=False)


class _Events(httpx2.AsyncByteStream):
    """The events of a response. Their end is read within the call's exchange.

    Args:
        response: The response.
        exchange: The exchange of the call.
    """

    def __init__(self, response: httpx2.Response, exchange: Exchange) -> None:
        self._response = response
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rest = b""
        async with aclosing(self._response.aiter_raw()) as parts:
            while True:
                try:
                    part = await self._exchange.awaited(anext(parts))
                except StopAsyncIteration:
                    return
                part, rest = without_surrogates(rest + part)
                yield part

    async def aclose(self) -> None:
        await self._response.aclose()


def _call_id(content: bytes) -> str:
    """Return the id of a message that is a request of the protocol; empty: it is none."""
    found = _CALL.match(content)
    return found[1].decode() if found else ""


def _is_error(body: bytes) -> bool:
    """Return whether a body is an error of the protocol."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and isinstance(message.get("error"), dict)


def _encoding(response: httpx2.Response) -> str:
    """Return the compression of a body, which was not asked for; empty: there is none."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return "" if encoding in {"", "identity"} else encoding


def _kept(response: httpx2.Response, *names: str) -> dict[str, str]:
    """Return the header fields that the library needs."""
    return {name: value for name in names if (value := response.headers.get(name)) is not None}


def _error_response(failure: ActionFailed) -> httpx2.Response:
    """Return a response with an error of the protocol, for a failure that is in the exchange."""
    message = {"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": failure.message}}
    return httpx2.Response(400, json=message)


def _certificate_problem(error: BaseException | None) -> str:
    """Return why a certificate is not trusted; empty: an exception is for another reason."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return ""
