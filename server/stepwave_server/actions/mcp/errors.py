"""Failed calls of MCP servers to failures of attempts: the reason, and whether the tool may have run."""

import json
import re

import pydantic
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, PARSE_ERROR

from stepwave_server.actions.failures import ActionFailed, cut
from stepwave_server.actions.mcp.entry import McpServer
from stepwave_server.core.model import Reason

__all__ = [
    "SessionLost",
    "failed",
    "failed_request",
    "failed_tool",
    "handshake_failed",
    "malformed",
    "named",
    "not_opened",
]

UNKNOWN = "whether the tool has run is not known"

UNKNOWN_TOOL = re.compile(r"(unknown|no such) tool\b|tool .{0,200}\bnot found", re.IGNORECASE)
"""The beginning of a server's message about a tool that it does not have. The protocol has no code for that."""

TOO_LARGE_EVENT = "SSE stream failed: "
"""The beginning of the library's message about an event beyond its limit."""

NO_MESSAGE = "Failed to parse SSE message: "
"""The beginning of the library's message about an event that it cannot read."""


class SessionLost(Exception):
    """Raised when a session had ended before a request was sent. In another session it can be sent again.

    Attributes:
        failure: The failure of the call, if it is not sent again.
    """

    def __init__(self, failure: ActionFailed) -> None:
        super().__init__(failure.message)
        self.failure = failure


def failed(
    server: McpServer,
    reason: Reason,
    text: str,
    *,
    retryable: bool = False,
    retry_after: int | None = None,
    known: bool = True,
) -> ActionFailed:
    """Return a failure.

    Args:
        server: The server.
        reason: The reason.
        text: What happened. It may have secrets in it, and is shortened after they are taken out.
        retryable: Whether another attempt could help.
        retry_after: Nanoseconds to wait before another attempt; `None`: no wait is asked for.
        known: Whether it is known that the tool has not run, or that it has ended.
    """
    message, details = f"{_prefix(server)}{text}", {"mcp_server": server.name}
    if not known:
        message, details["outcome"] = f"{message}; {UNKNOWN}", "unknown"
    return ActionFailed(reason, message, retryable=retryable, retry_after=retry_after, details=details)


def named(server: McpServer, failure: ActionFailed) -> ActionFailed:
    """Return a failure that names the server, for one that does not."""
    return ActionFailed(
        failure.reason,
        f"{_prefix(server)}{failure.message}",
        retryable=failure.retryable,
        retry_after=failure.retry_after,
        details={**failure.details, "mcp_server": server.name},
    )


def not_opened(server: McpServer, text: str, *, retryable: bool = True) -> ActionFailed:
    """Return the failure of a call for which there is no session. The tool has not run."""
    return failed(server, Reason.UNAVAILABLE, text, retryable=retryable)


def handshake_failed(server: McpServer, failure: ActionFailed) -> ActionFailed:
    """Return the failure of a call for which there is no session, for that of the handshake. The tool has not run.

    A server that refuses who calls, or asks to be called later, has said so. All else is `unavailable`.
    """
    text = failure.message.removeprefix(_prefix(server)).removesuffix(f"; {UNKNOWN}")
    if failure.reason is Reason.UNAVAILABLE:
        return not_opened(server, text, retryable=failure.retryable)
    if failure.reason in {Reason.UNAUTHORIZED, Reason.RATE_LIMITED}:
        return failure
    return not_opened(server, f"no session can be opened: {text}")


def malformed(server: McpServer, text: str) -> ActionFailed:
    """Return the failure of a call whose server does not keep to the protocol. It would not, another time."""
    return failed(server, Reason.ACTION_ERROR, text)


def failed_tool(server: McpServer, tool: str, text: str) -> ActionFailed:
    """Return the failure that a tool reported."""
    text = text.strip()
    if UNKNOWN_TOOL.match(text):
        return failed(server, Reason.NOT_FOUND, text)
    return failed(server, Reason.ACTION_ERROR, f'the tool "{cut(tool, 200)}" failed{f": {text}" if text else ""}')


def failed_request(server: McpServer, error: Exception) -> ActionFailed:
    """Return the failure for an exception of the library.

    Args:
        server: The server.
        error: The exception.
    """
    if isinstance(error, MCPError):
        return _refused(server, error)
    if isinstance(error, pydantic.ValidationError):
        return malformed(server, f"its answer is malformed: {_first_problem(error)}")
    return malformed(server, f"its answer cannot be used: {error}")


def _prefix(server: McpServer) -> str:
    """Return the beginning of the messages about a server."""
    return f'MCP server "{server.name}": '


def _refused(server: McpServer, error: MCPError) -> ActionFailed:
    """Return the failure for an error of the protocol."""
    text = (error.message or f"error {error.code}") + _data_text(error.data)
    match error.code:
        case code if code == PARSE_ERROR and text.startswith(NO_MESSAGE):
            return malformed(server, "it answered with an event that is no message of the protocol")
        case code if code == CONNECTION_CLOSED and text.startswith(TOO_LARGE_EVENT):
            return failed(server, Reason.RESOURCE_EXHAUSTED, f"its answer is too large: {text}", known=False)
        case code if code == CONNECTION_CLOSED:
            return failed(server, Reason.UNAVAILABLE, text, retryable=True, known=False)
        case code if code == INVALID_PARAMS:
            reason = Reason.NOT_FOUND if UNKNOWN_TOOL.match(text) else Reason.INVALID_INPUT
            return failed(server, reason, text)
        case code if code == METHOD_NOT_FOUND:
            return failed(server, Reason.NOT_FOUND, f"it does not offer this: {text}")
        case code:
            return failed(server, Reason.ACTION_ERROR, text, retryable=code == INTERNAL_ERROR)


def _data_text(data: object) -> str:
    """Return what follows the message of an error for its data; empty: it has none."""
    if data in (None, "", {}, []):
        return ""
    return f": {data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)}"


def _first_problem(error: pydantic.ValidationError) -> str:
    """Return the first problem of an answer, without the answer itself."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
