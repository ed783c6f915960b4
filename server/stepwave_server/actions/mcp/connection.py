"""The connection to one MCP server: its session, opened with the first call, and again after it has ended."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias, TypeVar, cast

from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    HEADER_MISMATCH,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    ListToolsResult,
    RequestParamsMeta,
)
from pydantic import TypeAdapter

from stepwave._actions.context import Context
from stepwave_server.actions.failures import ActionFailed, cut
from stepwave_server.actions.mcp.entry import McpServer, ReadSecrets
from stepwave_server.actions.mcp.errors import SessionLost, failed_tool, malformed, named, not_opened
from stepwave_server.actions.mcp.outputs import error_text, output_of, tool_output
from stepwave_server.actions.mcp.session import Session
from stepwave_server.actions.redaction import NOTHING_SECRET, Redactor
from stepwave_server.actions.values import Unread, dump

__all__ = ["Connection"]

KEY = "stepwave/idempotency_key"
"""The key of the idempotency key in the `_meta` of a call."""

MAX_PAGES = 100
"""Pages of a list of tools."""

MAX_TEXT = 2_000
"""Characters of the message of a failure."""

MAX_MESSAGE = 500
"""Characters of a message of progress."""

_Answer: TypeAlias = CallToolResult | InputRequiredResult
_ANSWER: TypeAdapter[_Answer] = TypeAdapter(_Answer)

T = TypeVar("T")


class Connection:
    """The connection to a server.

    Args:
        server: The server.
        secrets: Returns the values of secrets.
        max_bytes: Maximum size of an output in bytes.
    """

    def __init__(self, server: McpServer, secrets: ReadSecrets, max_bytes: int) -> None:
        self._server = server
        self._secrets = secrets
        self._max_bytes = max_bytes
        self._sessions: list[Session] = []
        self._closed = False

    async def close(self) -> None:
        """End the session. Calls under way fail."""
        self._closed = True
        await asyncio.gather(*(session.close() for session in self._sessions))

    async def call(self, tool: str, arguments: Mapping[str, object], context: Context) -> Unread:
        """Call a tool, and return the output.

        Raises:
            ActionFailed: The tool failed, or there is no answer.
        """

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            context.progress(_fraction(progress, total), cut(self._redactor.text(message or ""), MAX_MESSAGE))

        meta = cast("RequestParamsMeta", {KEY: context.idempotency_key})
        request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=dict(arguments), _meta=meta))

        async def send(client: Client) -> _Answer:
            # Not `Client.call_tool`: it checks answers against schemas of the server, whose patterns may take for ever.
            return await client.session.send_request(request, _ANSWER, progress_callback=on_progress)

        result = await self._request(_listing_first(send))
        if isinstance(result, InputRequiredResult):
            raise malformed(self._server, "it asks for more input, which a step does not have")
        if result.is_error:
            raise self._redacted(failed_tool(self._server, tool, error_text(result)))
        try:
            return self._unread(output_of(result))
        except ValueError as error:
            raise malformed(self._server, f"its answer is malformed: {error}") from None

    async def tools(self) -> Unread:
        """Return the tools of the server.

        Raises:
            ActionFailed: There is no list, or it is too long.
        """
        found: list[dict[str, object]] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._request(_page_after(cursor))
            found += [tool_output(tool) for tool in page.tools]
            output, cursor = self._unread(found), page.next_cursor  # its size is checked with each page
            if cursor is None:
                return output
        raise malformed(self._server, f"its list of tools has more than {MAX_PAGES} pages")

    async def _request(self, send: Callable[[Client], Awaitable[T]]) -> T:
        """Send a request, and return the answer.

        If the session had ended before the request was sent, it is sent in a new one.

        Raises:
            ActionFailed: There is no answer.
        """
        try:
            try:
                return await self._session().request(send)
            except SessionLost:
                return await self._session().request(send)
        except SessionLost as lost:
            raise self._redacted(lost.failure) from None
        except ActionFailed as error:
            raise self._redacted(error) from None

    @property
    def _redactor(self) -> Redactor:
        """The redactor of the newest session, which removes its secrets from texts and outputs."""
        return self._sessions[-1].redactor if self._sessions else NOTHING_SECRET

    def _unread(self, output: object) -> Unread:
        """Return an output without the values of secrets.

        Raises:
            ActionFailed: It is malformed, or too large.
        """
        try:
            return Unread(self._redactor.payload(dump(output, self._max_bytes)))
        except ActionFailed as error:
            raise self._redacted(named(self._server, error)) from None

    def _redacted(self, failure: ActionFailed) -> ActionFailed:
        """Return a failure without the values of secrets, and not too long."""
        return ActionFailed(
            failure.reason,
            cut(self._redactor.text(failure.message), MAX_TEXT),
            retryable=failure.retryable,
            retry_after=failure.retry_after,
            details=failure.details,
        )

    def _session(self) -> Session:
        """Return the session; a new one if there is none that can be used.

        Raises:
            ActionFailed: The connection is closed.
        """
        if self._closed:
            raise not_opened(self._server, "this server is stopping")
        self._sessions = [session for session in self._sessions if not session.ended]
        usable = next((session for session in self._sessions if session.usable), None)
        if usable is None:
            usable = Session(self._server, self._secrets, self._max_bytes)
            self._sessions.append(usable)
        return usable


def _listing_first(send: Callable[[Client], Awaitable[T]]) -> Callable[[Client], Awaitable[T]]:
    """Return a sender that lists the tools and sends again, if a server wants header fields that are in the list."""

    async def send_again(client: Client) -> T:
        try:
            return await send(client)
        except MCPError as error:
            if error.code != HEADER_MISMATCH:
                raise
        await client.list_tools()
        return await send(client)

    return send_again


def _page_after(cursor: str | None) -> Callable[[Client], Awaitable[ListToolsResult]]:
    async def send(client: Client) -> ListToolsResult:
        return await client.list_tools(cursor=cursor)

    return send


def _fraction(progress: float, total: float | None) -> float | None:
    """Return the part that is done; `None`: it is not known."""
    part = progress / total if total else None
    return part if part is not None and 0 <= part <= 1 else None
