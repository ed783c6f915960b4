"""Servers in separate processes: start, address, memory and stop."""

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
    """A running server.

    Attributes:
        address: The address, `host:port`.
        pid: The process id.
    """

    address: str
    pid: int

    def memory(self, field: str) -> int:
        """Return the memory in MiB: `VmRSS` for the current value, `VmHWM` for the peak (proc_pid_status(5))."""
        lines = Path(f"/proc/{self.pid}/status").read_text("ascii")
        found = re.search(rf"^{field}:\s+(\d+) kB$", lines, re.MULTILINE)
        if found is None:
            raise LookupError(f"/proc/{self.pid}/status has no {field}")
        return round(int(found[1]) / 1024)

    def kill(self) -> None:
        """Kill the process, as a crash does."""
        os.kill(self.pid, signal.SIGKILL)


@contextlib.asynccontextmanager
async def running_server(*command: str) -> AsyncIterator[Server]:
    """Start a server that prints its address as its first line. Stop it at the end of the context."""
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=DEVNULL, stdout=PIPE)
    try:
        yield Server(await _first_line(process), process.pid)
    finally:
        await _stop(process)


async def _first_line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(START_SECONDS):
        line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"the server ended before it printed its address, with code {await process.wait()}")
    return line.decode().strip()


async def _stop(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
