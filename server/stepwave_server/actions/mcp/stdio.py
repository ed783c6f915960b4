"""Messages over the standard input and output of a process, a line each. Lines are bounded, unlike those of `mcp`."""

import asyncio
import codecs
import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter
from pydantic_core import from_json

from stepwave_server.actions.failures import cut
from stepwave_server.actions.mcp.entry import StdioServer
from stepwave_server.actions.mcp.process import end, exit_code, log_line, log_lines, shown, start
from stepwave_server.actions.mcp.streams import Messages, unicode_json
from stepwave_server.core.model import Reason

__all__ = ["StdioLink"]

MAX_WAITING = 16
"""Messages that wait for a server to read them. More make calls wait."""

MAX_SHOWN = 200
"""Characters of a malformed message, or of the last line of standard error, that a failure shows."""

EXIT_SECONDS = 0.5
"""How long the exit code of a process is awaited, after the end of its output."""

_BEGINNING = re.compile(rb'\{\s*"(?:jsonrpc|id|method|params|result|error)"\s*:')
"""The beginning of what may be a message of the protocol."""


class StdioLink:
    """The link to a server that is a process.

    Args:
        server: The server.
        env: Its environment variables, beside the usual ones.
        max_line: Bytes of a line that are read from it.
        on_end: Takes the reason and a description, once the server is gone or has broken the protocol.
    """

    def __init__(
        self, server: StdioServer, env: Mapping[str, str], max_line: int, on_end: Callable[[Reason, str], None]
    ) -> None:
        self._server = server
        self._env = env
        self._max_line = max_line
        self._on_end = on_end
        self._last_error = ""
        self._errors_end = asyncio.Event()
        self._speaks = False
        self._closing = False
        self.ended = False

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Messages]:
        """Start the process, and end it in the end.

        Raises:
            ActionFailed: It cannot be started.
        """
        process = await start(self._server, self._env, self._max_line)
        try:
            received, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            outgoing, sent = anyio.create_memory_object_stream[SessionMessage](MAX_WAITING)
            async with received, incoming, outgoing, sent, anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, process, received)
                tasks.start_soon(self._write, process, sent)
                tasks.start_soon(self._watch_input, process, received)
                assert process.stderr is not None, "the process is started with pipes"
                tasks.start_soon(self._log_errors, process.stderr)
                try:
                    yield incoming, outgoing
                finally:
                    self._closing = True
                    with anyio.CancelScope(shield=True):
                        await end(process)
                    tasks.cancel_scope.cancel()
        finally:
            if process.returncode is None:  # cancelled before the task group was there
                await end(process)

    async def _read(self, process: Process, received: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Pass messages of the process on, until its output ends or is malformed."""
        assert process.stdout is not None, "the process is started with pipes"
        async with received:  # its end is that of the session: calls under way fail
            try:
                problem = await self._pass_on(process.stdout, received)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return  # the session has ended
            self.ended = True
            if problem is None:
                problem = Reason.UNAVAILABLE, await self._gone(process)
            self._tell(*problem)

    async def _pass_on(
        self, stdout: asyncio.StreamReader, received: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> tuple[Reason, str] | None:
        """Pass messages on. Return why no more are read; `None`: the output has ended."""
        while True:
            try:
                line = await stdout.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                return Reason.RESOURCE_EXHAUSTED, f"it wrote a line of more than the {self._max_line:,} bytes allowed"
            except asyncio.IncompleteReadError as error:
                log_line(error.partial, self._server.name)
                return None
            except ConnectionError:
                return None
            try:
                text, message = _text_and_message(line)
            except ValueError:
                return Reason.ACTION_ERROR, f"it wrote a malformed message: {shown(line, MAX_SHOWN)}"
            log_line(text, self._server.name)  # a banner, or what a tool prints
            if message is None:
                await asyncio.sleep(0)  # many lines come at once
                continue
            self._speaks = True
            await received.send(SessionMessage(message))

    async def _write(self, process: Process, sent: MemoryObjectReceiveStream[SessionMessage]) -> None:
        """Write messages to the process, until it or the session ends."""
        assert process.stdin is not None, "the process is started with pipes"
        with suppress(OSError):
            async for message in sent:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                process.stdin.write(text.encode() + b"\n")
                await process.stdin.drain()

    async def _watch_input(
        self, process: Process, received: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> None:
        """End the session of a process that lives, and reads no more. What was written already would not be answered.

        The end of a process is seen by its output.
        """
        assert process.stdin is not None, "the process is started with pipes"
        with suppress(OSError):
            await process.stdin.wait_closed()
        self.ended = True
        if await exit_code(process, EXIT_SECONDS) is None:
            self._tell(Reason.UNAVAILABLE, "it closed its standard input")
            received.close()

    def _tell(self, reason: Reason, text: str) -> None:
        """Tell how the session came to its end, unless it is ended from here."""
        if not self._closing:
            self._on_end(reason, text)

    async def _log_errors(self, stderr: asyncio.StreamReader) -> None:
        """Log what the process writes to standard error, and keep the last line."""
        await log_lines(stderr, self._server.name, self._note_error)
        self._errors_end.set()

    def _note_error(self, text: str) -> None:
        self._last_error = text or self._last_error

    async def _gone(self, process: Process) -> str:
        """Return how the process came to its end.

        The last line of its standard error says why it did not start. Later lines may be about calls of other runs.
        """
        code = await exit_code(process, EXIT_SECONDS)
        if code is None:
            return "it closed its standard output"
        end = f"its process was killed by signal {-code}" if code < 0 else f"its process ended with code {code}"
        if self._speaks:
            return end
        with suppress(TimeoutError):  # others that it has started may hold its standard error open
            async with asyncio.timeout(EXIT_SECONDS):
                await self._errors_end.wait()
        return f"{end}: {cut(self._last_error, MAX_SHOWN)}" if self._last_error else end


def _text_and_message(line: bytes) -> tuple[bytes, JSONRPCMessage | None]:
    """Return the text and the message of a line. Text may stand before a message; other lines are text alone.

    Only the first beginning of a message is looked at: a line has time that is linear in its length.

    Raises:
        ValueError: The line is a malformed message.
    """
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return b"", jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        found = _BEGINNING.search(line)
    if found is None:
        return line, None
    text, rest = line[: found.start()], unicode_json(line[found.start() :])
    try:
        is_message = _has_version(from_json(rest))
    except ValueError:
        if not text.strip() and b'"jsonrpc"' in rest:
            raise
        is_message = False
    if not is_message:
        return line, None
    return text, jsonrpc_message_adapter.validate_json(rest, by_name=False)


def _has_version(value: object) -> bool:
    """Return whether a value of JSON claims to be a message of the protocol."""
    return isinstance(value, dict) and "jsonrpc" in value
