"""The session with an MCP server, which all calls share. One task opens it, owns it and ends it.

The streams of `mcp` have cancel scopes, which must be left by the task that entered them. So that task is none of the
callers, and it has context variables of its own.
"""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import TypeVar

from mcp.client import Client
from mcp_types import Implementation

from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.mcp.entry import HttpServer, McpServer, ReadSecrets, SecretValue
from stepwave_server.actions.mcp.errors import SessionLost, failed, failed_request, handshake_failed, named, not_opened
from stepwave_server.actions.mcp.http import EXCHANGE, Exchange, HttpLink
from stepwave_server.actions.mcp.stdio import StdioLink
from stepwave_server.actions.mcp.streams import Messages, refusing
from stepwave_server.actions.redaction import NOTHING_SECRET, Redactor
from stepwave_server.core.model import Reason

__all__ = ["Session"]

logger = logging.getLogger(__name__)

MESSAGE_FACTOR = 8
"""Bytes of a message for each byte of an output: it may be in there twice, in Base64 or with escapes."""

END_SECONDS = 5.0
"""How long the end of a session may take. Then it is cancelled."""

PING_SECONDS = 5.0
"""How long the answer to a ping is awaited."""

T = TypeVar("T")


class Session:
    """A session with a server. It is opened at once.

    Args:
        server: The server.
        secrets: Returns the values of secrets.
        max_bytes: Maximum size of an output in bytes.

    Attributes:
        redactor: Keeps the values of the server's secrets out of outputs and failures.
    """

    def __init__(self, server: McpServer, secrets: ReadSecrets, max_bytes: int) -> None:
        self.redactor: Redactor = NOTHING_SECRET
        self._server = server
        self._secrets = secrets
        self._max_bytes = MESSAGE_FACTOR * max_bytes
        self._link: HttpLink | StdioLink | None = None
        self._client: Client | None = None
        self._failure: ActionFailed | None = None
        self._calls = 0
        self._received = 0
        self._silent = False
        self._asking: asyncio.Task[None] | None = None
        self._retired = False
        self._opened = asyncio.Event()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._own(), context=contextvars.Context())

    @property
    def usable(self) -> bool:
        """Whether new calls may use it."""
        gone = self._link is not None and self._link.ended
        return not (gone or self._retired or self._stop.is_set() or self._task.done())

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left."""
        return self._task.done()

    async def request(self, send: Callable[[Client], Awaitable[T]]) -> T:
        """Wait until the session is open, send a request, and return the answer.

        When this is cancelled, the server is told so, and the session goes on. If nothing came from the server
        meanwhile, the next request waits for the answer to a ping. Without one, the session takes no more requests.

        Raises:
            SessionLost: The session ended before the request was sent.
            ActionFailed: The session cannot be opened, or there is no answer.
        """
        await self._opened.wait()
        client, ended = self._client, self._failure or not_opened(self._server, "its session has ended")
        if client is None:
            raise ended
        if self._silent:
            await self._ask(client)
        if not self.usable:
            raise SessionLost(ended)
        exchange = Exchange()
        token = EXCHANGE.set(exchange)
        self._calls += 1
        received = self._received
        try:
            return await send(client)
        except asyncio.CancelledError:
            exchange.abort()
            self._silent = self._silent or received == self._received
            raise
        except Exception as error:  # the library has many, and its peer is not trusted
            raise self._failure_of(error, exchange) from error
        finally:
            EXCHANGE.reset(token)
            self._calls -= 1
            self._end_if_retired()

    async def _ask(self, client: Client) -> None:
        """Wait for the answer to a ping, or the end of its time. Calls share it, and it outlives them."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ping(client), context=contextvars.Context())
        await asyncio.shield(self._asking)

    async def _ping(self, client: Client) -> None:
        """Ask the server whether it is there. If nothing comes, retire the session."""
        received = self._received
        exchange = Exchange()
        EXCHANGE.set(exchange)
        try:
            async with asyncio.timeout(PING_SECONDS):
                await client.session.send_ping()
        except TimeoutError:
            exchange.abort()
            if received == self._received:
                text = f"it did not answer a ping within {PING_SECONDS:g} s: new calls get another session"
                logger.warning('MCP server "%s": %s', self._server.name, text)
                self._retire()
                self._end_if_retired()
        except Exception:  # an error is an answer, too; if the session has ended, the call sees it
            logger.debug('MCP server "%s": it answered a ping with an error', self._server.name, exc_info=True)
        self._silent, self._asking = False, None

    async def close(self) -> None:
        """End the session. Calls under way fail. The process of a server is ended within a bounded time."""
        self._stop.set()
        if self._opened.is_set():
            await asyncio.wait([self._task], timeout=END_SECONDS)
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=END_SECONDS)

    async def _own(self) -> None:
        """Open the session, hold it until it is to end, and end it."""
        try:
            async with AsyncExitStack() as stack:
                timer = asyncio.get_running_loop().call_later(self._server.connect_timeout, self._give_up)
                try:
                    self._client = await self._open(stack)
                finally:
                    timer.cancel()
                self._opened.set()
                await self._stop.wait()
        except asyncio.CancelledError:
            self._fail(not_opened(self._server, "this server is stopping"))
            raise
        except ActionFailed as error:
            self._fail(error)
        except Exception as error:  # the library has many, and its peer is not trusted
            self._fail(failed_request(self._server, _first(error)))

    def _give_up(self) -> None:
        """Fail the calls that wait for the session, and end what there is of it."""
        self._fail(not_opened(self._server, f"no session within {self._server.connect_timeout:g} s"))
        self._task.cancel()

    async def _open(self, stack: AsyncExitStack) -> Client:
        """Open the link and the session.

        Raises:
            ActionFailed: That is not possible.
        """
        exchange = Exchange()
        EXCHANGE.set(exchange)
        self._link = await self._new_link()
        client = Client(
            self._messages(self._link),
            client_info=Implementation(name="stepwave", version=version("stepwave")),
            cache=None,
        )
        try:
            return await stack.enter_async_context(client)
        except Exception as error:
            failure = self._failure or exchange.failure or _failure_for(self._server, _first(error))
            raise handshake_failed(self._server, failure) from None

    @asynccontextmanager
    async def _messages(self, link: HttpLink | StdioLink) -> AsyncIterator[Messages]:
        """Open the link."""
        async with link.open() as messages:
            yield refusing(messages, self._note_received)

    def _note_received(self) -> None:
        self._received += 1

    async def _new_link(self) -> HttpLink | StdioLink:
        """Return the link to the server, with the values of its secrets.

        Raises:
            ActionFailed: A secret has no usable value.
        """
        given = self._server.values
        try:
            secrets = await self._secrets({value.name for value in given.values() if isinstance(value, SecretValue)})
        except ActionFailed as error:
            raise named(self._server, error) from None
        self.redactor = Redactor(secrets)
        self.redactor.enter()
        if isinstance(self._server, HttpServer):
            _check_headers(self._server, secrets)
        values: Mapping[str, str] = {
            name: secrets[value.name] if isinstance(value, SecretValue) else value for name, value in given.items()
        }
        if isinstance(self._server, HttpServer):
            return HttpLink(self._server, values, self._max_bytes)
        return StdioLink(self._server, values, self._max_bytes, self._gone)

    def _gone(self, reason: Reason, text: str) -> None:
        """End the session, as its server is gone or has broken the protocol.

        Which call a malformed message answers is not known. So all calls may be retried, if there are several.
        """
        if self._stop.is_set():
            return
        logger.warning('MCP server "%s": %s', self._server.name, text)
        if self._client is None:
            self._fail(handshake_failed(self._server, failed(self._server, reason, text, retryable=True)))
            return
        retryable = reason is Reason.UNAVAILABLE or self._calls > 1
        self._fail(failed(self._server, reason, text, retryable=retryable, known=False))

    def _fail(self, failure: ActionFailed) -> None:
        """End the session with a failure, which calls get at once. The first one counts."""
        self._failure = self._failure or failure
        self._stop.set()
        self._opened.set()

    def _failure_of(self, error: Exception, exchange: Exchange) -> ActionFailed | SessionLost:
        """Return the failure of a call."""
        if exchange.lost and exchange.failure is not None:
            self._retire()
            return SessionLost(exchange.failure)
        if exchange.failure is not None:
            if exchange.failure.reason is Reason.UNAUTHORIZED:  # the next session has the secrets of then
                self._retire()
            return exchange.failure
        if self._stop.is_set():
            return self._failure or failed(
                self._server, Reason.UNAVAILABLE, "this server is stopping", retryable=True, known=False
            )
        return failed_request(self._server, error)

    def _retire(self) -> None:
        """Accept no new calls. The session ends when the calls under way have ended."""
        self._retired = True

    def _end_if_retired(self) -> None:
        if self._retired and not self._calls:
            self._stop.set()


def _check_headers(server: HttpServer, secrets: Mapping[str, str]) -> None:
    """Check that values of secrets can be in header fields.

    Raises:
        ActionFailed: One cannot.
    """
    for name, value in secrets.items():
        if not (value.isascii() and value.isprintable()):
            text = f"the value of the secret {name} has characters that a header field cannot have"
            raise failed(server, Reason.INVALID_INPUT, text)


def _failure_for(server: McpServer, error: Exception) -> ActionFailed:
    """Return the failure for an exception of the handshake."""
    return error if isinstance(error, ActionFailed) else failed_request(server, error)


def _first(error: Exception) -> Exception:
    """Return the first exception of a group, within groups; or the exception itself."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
