"""Servers as processes that a test kills and starts again, on the same address and journal."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from pathlib import Path

from integration.server.caller import GUARD

__all__ = ["Marks", "Victim", "free_address"]

TESTS = Path(__file__).parents[2]


def free_address() -> str:
    """Return an address of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Marks:
    """The marks that attempts left in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, run_id: str, step_id: str) -> list[tuple[int, str]]:
        """Return the attempts that were made of a step, with their idempotency keys, in order."""
        file = self.folder / f"{run_id}.{step_id}"
        if not file.exists():
            return []
        lines = [line.split() for line in file.read_text().splitlines()]
        return [(int(attempt), key) for attempt, key in lines]


class Victim:
    """One server process after the other, on the same address and journal.

    Args:
        folder: Where the journal and the marks are.
    """

    def __init__(self, folder: Path) -> None:
        self.journal = folder / "journal.db"
        (folder / "marks").mkdir()
        self.marks = Marks(folder / "marks")
        self.address = free_address()
        self._process: Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start a server; calls succeed when this returns."""
        await self.begin(*arguments)
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(GUARD):
            line = await self._process.stdout.readline()
        assert line.decode().strip() == self.address, "the server did not start"

    async def begin(self, *arguments: str) -> None:
        """Start a server that may die before it serves."""
        command = ["--listen", self.address, "--journal", str(self.journal), *arguments]
        environment = {**os.environ, "STEPWAVE_TEST_MARKS": str(self.marks.folder), "PYTHONPATH": str(TESTS)}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "integration.durable.victim", *command, stdout=PIPE, env=environment
        )

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def death(self) -> int:
        """Wait for the server's end, and return its exit code."""
        assert self._process is not None
        async with asyncio.timeout(GUARD):
            return await self._process.wait()

    async def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self.death()

    async def restart(self, *arguments: str) -> None:
        """Kill the server, and start another in its place."""
        self.kill()
        await self.death()
        await self.start(*arguments)


def options(names: Sequence[str]) -> list[str]:
    """Return the command line of a server that lacks actions."""
    return [word for name in names for word in ("--without", name)]
