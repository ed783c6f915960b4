"""Servers as processes of their own: started, asked for their address and their memory, and ended by their id."""

import asyncio
import contextlib
import os
import re
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """A server that answers.

    Attributes:
        address: Where, as `host:port`.
        pid: The id of its process.
    """

    address: str
    pid: int

    def memory(self, field: str) -> int:
        """Read its memory in MiB: `VmRSS` now, `VmHWM` at its peak (proc_pid_status(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text("ascii")
        found = re.search(rf"^{field}:\s+(\d+) kB$", lines, re.MULTILINE)
        if found is None:
            raise LookupError(f"/proc/{self.pid}/status has no {field}")
        return round(int(found[1]) / 1024)

    def kill(self) -> None:
        """End it as a crash does."""
        os.kill(self.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def started(*command: str) -> AsyncIterator[Server]:
    """Start a server that prints its address as its first line, and end it with the context."""
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=DEVNULL, stdout=PIPE)
    try:
        yield Server(await _first_line(process), process.pid)
    finally:
        await _end(process)


async def _first_line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a server ended before it answered, with code {await process.wait()}")
    return line.decode().strip()


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
