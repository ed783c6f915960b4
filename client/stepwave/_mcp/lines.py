"""The protocol over lines of text: each is a message of JSON-RPC."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import mcp_types as types
from anyio.abc import ObjectReceiveStream, ObjectSendStream, TaskGroup
from mcp.server.lowlevel import Server
from mcp.shared.message import ServerMessageMetadata, SessionMessage
from pydantic import ValidationError

from stepwave._values.text import one_line

__all__ = ["LineConnection"]

_END_TIMEOUT = 3.0  # seconds from the end of the input to the last answer
_LAST_WRITE_TIMEOUT = 0.5  # seconds for the message that is being written when all else has ended
_MAX_SHOWN = 80  # characters of a line in a message
_ID = re.compile(r'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(-?\d+|"[^"\\]*")\s*[,}]')


class LineConnection:
    """The connection of a client. What it sends and gets are lines.

    Args:
        lines: The lines of the client.
        write: Writes a line to the client. Its cancellation must not wait for the client.
        report: Shows a problem to people.
        at_end: Called when the client's lines end: long requests must then end soon.
    """

    def __init__(
        self,
        lines: AsyncIterator[str],
        write: Callable[[str], Awaitable[None]],
        report: Callable[[str], None],
        at_end: Callable[[], None],
    ) -> None:
        self._lines = lines
        self._write = write
        self._report = report
        self._at_end = at_end
        self._unanswered: set[object] = set()
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._failure: Exception | None = None

    async def serve(self, server: Server[Any]) -> None:
        """Serve the client until its lines end and all its requests are answered, which takes three seconds at most.

        Raises:
            Exception: What `write` has raised.
        """
        requests, received = anyio.create_memory_object_stream[SessionMessage | Exception]()
        answers, to_write = anyio.create_memory_object_stream[SessionMessage]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read, requests, answers, tasks)
            tasks.start_soon(self._write_all, to_write, tasks)
            await server.run(received, answers, server.create_initialization_options())
        if self._failure is not None:
            raise self._failure
        if tasks.cancel_scope.cancelled_caught:
            self._report("the client has not read all answers; the others are dropped")

    async def _read(
        self,
        requests: ObjectSendStream[SessionMessage | Exception],
        answers: ObjectSendStream[SessionMessage],
        tasks: TaskGroup,
    ) -> None:
        """Hand over the messages of the client. At their end, wait until its requests are answered."""
        async with requests:
            async for line in self._lines:
                if not line.strip():
                    continue
                try:
                    message = types.jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValidationError as error:
                    # In a task: the client need not read, and its next lines must be read nevertheless.
                    tasks.start_soon(self._refuse, line, error, self._begin(object()), answers)
                else:
                    await requests.send(self._received(message))
            tasks.cancel_scope.deadline = anyio.current_time() + _END_TIMEOUT
            self._at_end()
            await self._all_answered.wait()

    async def _refuse(
        self, line: str, error: ValidationError, key: object, answers: ObjectSendStream[SessionMessage]
    ) -> None:
        refusal = _refusal(line, error)
        self._report(f"{refusal.error.message}: {_shown(line)}")
        await answers.send(SessionMessage(refusal))
        self._settle(key)

    def _received(self, message: types.JSONRPCMessage) -> SessionMessage:
        if not isinstance(message, types.JSONRPCRequest):
            return SessionMessage(message)

        async def settle() -> None:  # a cancelled request has no answer
            self._settle(message.id)

        self._begin(message.id)
        return SessionMessage(message, ServerMessageMetadata(on_request_unanswered=settle))

    async def _write_all(self, messages: ObjectReceiveStream[SessionMessage], tasks: TaskGroup) -> None:
        async with messages:
            async for sent in messages:
                message = sent.message
                try:
                    await self._write_one(message.model_dump_json(by_alias=True, exclude_unset=True) + "\n")
                except Exception as error:  # whatever `write` raises
                    self._failure = error
                    tasks.cancel_scope.cancel()
                    return
                if isinstance(message, types.JSONRPCResponse | types.JSONRPCError):
                    self._settle(message.id)

    async def _write_one(self, line: str) -> None:
        """Write a line. After a cancellation it has some time, so that the client gets no part of a line."""
        writing = asyncio.ensure_future(self._write(line))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            with anyio.move_on_after(_LAST_WRITE_TIMEOUT, shield=True):
                await writing
            raise

    def _begin(self, key: object) -> object:
        self._unanswered.add(key)
        self._all_answered.clear()
        return key

    def _settle(self, key: object) -> None:
        self._unanswered.discard(key)
        if not self._unanswered:
            self._all_answered.set()


def _refusal(line: str, error: ValidationError) -> types.JSONRPCError:
    """Return the answer to a line that is no message."""
    (first, *_) = error.errors(include_url=False)
    if first["type"] == "json_invalid":
        code, message = types.PARSE_ERROR, f"the line is not JSON: {first['ctx']['error']}"
    else:
        code, message = types.INVALID_REQUEST, "the line is no message of JSON-RPC 2.0"
    return types.JSONRPCError(jsonrpc="2.0", id=_id_of(line), error=types.ErrorData(code=code, message=message))


def _id_of(line: str) -> types.RequestId | None:
    """Return the id of a message that is refused; `None`: it is not found."""
    try:
        message = json.loads(line)  # reads more than the protocol's library does
    except (ValueError, RecursionError):
        found = _ID.match(line)
        return json.loads(found[1]) if found else None
    found_id = message.get("id") if isinstance(message, dict) else None
    return found_id if isinstance(found_id, int | str) and not isinstance(found_id, bool) else None


def _shown(line: str) -> str:
    """Return the beginning of a line, without characters that a terminal would act on."""
    return one_line(line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}…")
