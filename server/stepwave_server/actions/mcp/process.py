"""The process of an MCP server: its start, its end, and what it writes to standard error."""

import asyncio
import errno
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping
from contextlib import suppress

from mcp.client.stdio import get_default_environment

from stepwave_server.actions.failures import cut
from stepwave_server.actions.mcp.entry import StdioServer
from stepwave_server.actions.mcp.errors import not_opened
from stepwave_server.telemetry.redaction import current_redaction

__all__ = ["end", "exit_code", "log_line", "log_lines", "shown", "start"]

logger = logging.getLogger(__name__)

STDIN_SECONDS = 1.0
"""How long a process may go on after its standard input is closed, which is how the protocol ends it."""

TERM_SECONDS = 2.0
"""How long it may go on after SIGTERM."""

KILL_SECONDS = 1.0
"""How long its end is awaited after SIGKILL."""

POLL_SECONDS = 0.01

MAX_LOGGED = 2_000
"""Characters of a line in the log."""

MAX_LINE = 64 << 10
"""Bytes of a line that are looked at for the log. The longest secret is as long."""

_TEMPORARY = frozenset({errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


async def start(server: StdioServer, env: Mapping[str, str], max_line: int) -> Process:
    """Start the process of a server, in a process group of its own.

    Args:
        server: The server.
        env: Its environment variables, beside the usual ones.
        max_line: Bytes of a line that are read from it.

    Raises:
        ActionFailed: It cannot be started.
    """
    try:
        return await asyncio.create_subprocess_exec(
            server.command,
            *server.args,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=get_default_environment() | dict(env),
            cwd=server.cwd,
            start_new_session=True,
            limit=max_line,
        )
    except OSError as error:
        text = f"{error.filename or server.command} cannot be started: {error.strerror}"
        raise not_opened(server, text, retryable=error.errno in _TEMPORARY) from None
    except ValueError:  # a NUL in an argument
        raise not_opened(server, f"{server.command} cannot be started: malformed arguments", retryable=False) from None


async def end(process: Process) -> None:
    """End a process, and what it has started in its group, within a bounded time.

    When this is cancelled, they are killed at once.
    """
    try:
        if process.stdin is not None:
            process.stdin.close()
        if not await _exits(process, STDIN_SECONDS):
            _signal(process, signal.SIGTERM)
            await _exits(process, TERM_SECONDS)
    finally:
        _signal(process, signal.SIGKILL)
        try:
            await _exits(process, KILL_SECONDS)
        finally:
            _close_pipes(process)
    if process.returncode is None:
        logger.warning("process %d of an MCP server did not end after SIGKILL", process.pid)


async def exit_code(process: Process, seconds: float) -> int | None:
    """Return the exit code of a process that is about to end; `None`: it has not ended in time."""
    await _exits(process, seconds)
    return process.returncode


async def _exits(process: Process, seconds: float) -> bool:
    """Wait for the end of a process, and return whether it came in time.

    `Process.wait` also waits for the pipes, which may be full, or held open by others.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while process.returncode is None:  # noqa: ASYNC110 - there is no event without the pipes
                await asyncio.sleep(POLL_SECONDS)
    return process.returncode is not None


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to the group of a process. The group outlives the process if others are in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _close_pipes(process: Process) -> None:
    """Close the pipes to a process, which others that it has started may hold open."""
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio has no other way


async def log_lines(stream: asyncio.StreamReader, name: str, note: Callable[[str], None]) -> None:
    """Log what a server writes to a stream, line by line, until its end. The rest of a long line is left out.

    Args:
        stream: The stream.
        name: The name of the server.
        note: Takes the text of each line.
    """
    line = bytearray()
    while data := await stream.read(1 << 16):
        *ended, rest = data.split(b"\n")
        for part in ended:
            note(log_line(bytes(line) + part, name))
            line.clear()
            await asyncio.sleep(0)  # many lines come at once
        line += rest[: MAX_LINE - len(line)]
    if line:
        note(log_line(bytes(line), name))


def log_line(line: bytes, name: str) -> str:
    """Log a line of a server, unless it is blank, and return its text."""
    text = shown(line, MAX_LOGGED)
    if text:
        logger.info('MCP server "%s": %s', name, text)
    return text


def shown(line: bytes, most: int) -> str:
    """Return the beginning of a line, up to a number of characters. A secret is taken out before it could be cut."""
    text = line[:MAX_LINE].decode(errors="replace").strip()
    redact = current_redaction()
    return cut(text if redact is None else redact(text), most)
