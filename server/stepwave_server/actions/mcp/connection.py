"""The connection to one MCP server: its session, opened with the first call, and again after it has ended."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from mcp.client import Client
from mcp_types import CallToolResult, ListToolsResult, Tool

from stepwave._actions.context import Context
from stepwave_server.actions.failures import ActionFailed, cut
from stepwave_server.actions.mcp.entry import McpServer, ReadSecrets
from stepwave_server.actions.mcp.errors import SessionLost, failed_tool, malformed, not_opened
from stepwave_server.actions.mcp.outputs import output_of, text_of, tool_output
from stepwave_server.actions.mcp.session import Session
from stepwave_server.actions.redaction import NOTHING_SECRET, Redactor
from stepwave_server.actions.values import Unread, dump

__all__ = ["Connection"]

KEY = "stepwave/idempotency_key"
"""The key of the idempotency key in the `_meta` of a call."""

MAX_PAGES = 100
"""Pages of a list of tools."""

MAX_MESSAGE = 500
"""Characters of a message of progress."""

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
            context.progress(_fraction(progress, total), cut(message or "", MAX_MESSAGE))

        async def send(client: Client) -> CallToolResult:
            meta = {KEY: context.idempotency_key}
            return await client.call_tool(tool, dict(arguments), progress_callback=on_progress, meta=meta)  # type: ignore[arg-type]

        result, redactor = await self._request(send)
        if result.is_error:
            raise _redacted(failed_tool(self._server, tool, text_of(result)), redactor)
        try:
            output = output_of(result)
        except ValueError as error:
            raise malformed(self._server, f"its answer is malformed: {error}") from None
        return self._unread(output, redactor)

    async def tools(self) -> Unread:
        """Return the tools of the server.

        Raises:
            ActionFailed: There is no list, or it does not end.
        """
        found: list[Tool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page, redactor = await self._request(_page_after(cursor))
            found += page.tools
            cursor = page.next_cursor
            if cursor is None:
                return self._unread([tool_output(tool) for tool in found], redactor)
        raise malformed(self._server, f"its list of tools has more than {MAX_PAGES} pages")

    def _unread(self, output: object, redactor: Redactor) -> Unread:
        return Unread(redactor.payload(dump(output, self._max_bytes)))

    async def _request(self, send: Callable[[Client], Awaitable[T]]) -> tuple[T, Redactor]:
        """Send a request, and return the answer, and what keeps the server's secrets out of it.

        If the session had ended before the request was sent, it is sent in a new one.

        Raises:
            ActionFailed: There is no answer.
        """
        session = self._session()
        try:
            try:
                return await session.request(send), session.redactor
            except SessionLost:
                session = self._session()
                return await session.request(send), session.redactor
        except SessionLost as lost:
            raise _redacted(lost.failure, session.redactor) from None
        except ActionFailed as error:
            raise _redacted(error, session.redactor) from None

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


def _page_after(cursor: str | None) -> Callable[[Client], Awaitable[ListToolsResult]]:
    async def send(client: Client) -> ListToolsResult:
        return await client.list_tools(cursor=cursor)

    return send


def _fraction(progress: float, total: float | None) -> float | None:
    """Return the part that is done; `None`: it is not known."""
    part = progress / total if total else None
    return part if part is not None and 0 <= part <= 1 else None


def _redacted(failure: ActionFailed, redactor: Redactor) -> ActionFailed:
    """Return a failure without the values of secrets."""
    if redactor is NOTHING_SECRET:
        return failure
    return ActionFailed(
        failure.reason,
        redactor.text(failure.message),
        retryable=failure.retryable,
        retry_after=failure.retry_after,
        details=failure.details,
    )
