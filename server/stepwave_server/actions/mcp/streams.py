"""The messages from and to an MCP server, without what an action has no use for.

A server may ask its client for completions, roots and the answers of a person (sampling, elicitation). An action has
none of them. Each such request is refused before the next message is read, so that a server that sends many is slowed
down, and nothing piles up. Of its notifications, only progress is of use. The library would log each malformed one with
a traceback.
"""

import re
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeAlias

import anyio
from mcp.shared.message import SessionMessage
from mcp_types import (
    METHOD_NOT_FOUND,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    ProgressNotificationParams,
)
from pydantic import ValidationError

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, WriteStream

__all__ = ["Messages", "refusing", "unicode_json", "without_surrogates"]

Messages: TypeAlias = "tuple[ReadStream[SessionMessage | Exception], WriteStream[SessionMessage]]"
"""The messages from a server, and those to it."""

_SURROGATES = re.compile(
    rb"(?P<open>\\(?:u(?:[0-9a-f]{0,3}|d[89ab][0-9a-f]{2}(?:\\(?:u[0-9a-f]{0,3})?)?))?\Z)"
    rb"|(?:\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})+"
    rb"|(?P<lone>\\ud[89a-f][0-9a-f]{2})",
    re.IGNORECASE,
)
"""Escapes of JSON: one that may go on after the end; pairs of surrogates, and backslashes; or a lone surrogate."""


def unicode_json(text: bytes) -> bytes:
    """Return a text in JSON with U+FFFD in the place of what is no Unicode.

    That is bytes that are not UTF-8, and lone surrogates, which JavaScript writes for half of an emoji.
    """
    complete, rest = without_surrogates(text.decode(errors="replace").encode())
    return complete + rest


def without_surrogates(text: bytes) -> tuple[bytes, bytes]:
    """Return a part of a text in JSON with U+FFFD in the place of lone surrogates, and the begun escape at its end."""
    rest = b""

    def mended(found: re.Match[bytes]) -> bytes:
        nonlocal rest
        if found["open"]:
            rest = found[0]
            return b""
        return rb"\ufffd" if found["lone"] else found[0]

    return _SURROGATES.sub(mended, text), rest


def refusing(messages: Messages, on_message: Callable[[], None]) -> Messages:
    """Return the messages of a transport without requests, which are refused, and without notifications of no use.

    Args:
        messages: The messages.
        on_message: Called with each message from the server.
    """
    return _Refusing(*messages, on_message), messages[1]


class _Refusing:
    """The messages from a server, without its requests, and without notifications of no use.

    Args:
        messages: The messages.
        answers: Takes the answers to its requests.
        on_message: Called with each message from the server.
    """

    def __init__(
        self,
        messages: "ReadStream[SessionMessage | Exception]",
        answers: "WriteStream[SessionMessage]",
        on_message: Callable[[], None],
    ) -> None:
        self._messages = messages
        self._answers = answers
        self._on_message = on_message

    async def receive(self) -> SessionMessage | Exception:
        """Return the next message that is an answer or progress."""
        while True:
            item = await self._messages.receive()
            self._on_message()
            if isinstance(item, Exception):
                return item
            if isinstance(item.message, JSONRPCNotification) and not _is_progress(item.message):
                continue
            if not isinstance(item.message, JSONRPCRequest):
                return item
            try:
                await self._answers.send(SessionMessage(_answer(item.message)))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise anyio.EndOfStream from None

    async def aclose(self) -> None:
        """Close the stream of messages."""
        await self._messages.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


def _is_progress(notification: JSONRPCNotification) -> bool:
    """Return whether a notification is progress that can be read."""
    if notification.method != "notifications/progress":
        return False
    try:
        ProgressNotificationParams.model_validate(notification.params, by_name=False)
    except ValidationError:
        return False
    return True


def _answer(request: JSONRPCRequest) -> JSONRPCMessage:
    """Return the answer to a request of a server."""
    if request.method == "ping":
        return JSONRPCResponse(jsonrpc="2.0", id=request.id, result={})
    error = ErrorData(code=METHOD_NOT_FOUND, message=f"this client does not serve {request.method[:100]}")
    return JSONRPCError(jsonrpc="2.0", id=request.id, error=error)
