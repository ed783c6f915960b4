"""Servers as processes that a test kills and starts again, on the same address and journal."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from integration.server.caller import GUARD

__all__ = ["Marks", "Meeting", "Victim", "free_address", "options"]

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

    def attempts(self, run_id: str, step_id: str) -> list[int]:
        """Return the numbers of the attempts that were made of a step."""
        return [attempt for attempt, _ in self.of(run_id, step_id)]


class Meeting:
    """Where a test meets steps of the action `meets`, in whatever process they run."""

    def __init__(self) -> None:
        self.address = ""
        self._arrived: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def open(self) -> None:
        """Begin to wait for steps."""
        self._server = await asyncio.start_server(self._welcome, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    async def close(self) -> None:
        """Let every step go on, and wait for none any more."""
        self._server.close()
        for gate in self._gates.values():
            gate.set()
        await self._server.wait_closed()

    async def here(self, run_id: str, step_id: str, attempt: int = 1) -> None:
        """Wait until an attempt has arrived."""
        async with asyncio.timeout(GUARD):
            await self._arrived[f"{run_id}/{step_id}/{attempt}"].wait()

    def let(self, run_id: str, step_id: str) -> None:
        """Let a step go on, now or when it arrives."""
        self._gates[f"{run_id}/{step_id}"].set()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempt = (await reader.readline()).decode().strip()
        self._arrived[attempt].set()
        gone = asyncio.ensure_future(reader.read())
        let = asyncio.ensure_future(self._gates[attempt.rpartition("/")[0]].wait())
        await asyncio.wait({gone, let}, return_when=asyncio.FIRST_COMPLETED)
        with suppress(ConnectionError):
            writer.write(b"go on\n")
            writer.close()
            await writer.wait_closed()
        for wait in (gone, let):
            wait.cancel()
        await asyncio.wait({gone, let})


class Victim:
    """One server process after the other, on the same address and journal.

    Args:
        folder: Where the journal and the marks are.
        meeting: Where steps of the action `meets` go; `None`: there are none.
    """

    def __init__(self, folder: Path, meeting: Meeting | None = None) -> None:
        self.journal = folder / "journal.db"
        (folder / "marks").mkdir()
        self.marks = Marks(folder / "marks")
        self.address = free_address()
        self._errors = folder / "errors"
        self._meeting = meeting
        self._process: Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start a server; calls succeed when this returns."""
        await self.begin(*arguments)
        assert await self.serves(), "the server did not start"

    async def serves(self) -> bool:
        """Wait until calls succeed, or the server has died first; say which."""
        return await self._line() == self.address

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(GUARD):
            return (await self._process.stdout.readline()).decode().strip()

    async def begin(self, *arguments: str) -> None:
        """Start a server that may die before it serves."""
        command = ["--listen", self.address, "--journal", str(self.journal), *arguments]
        meeting = self._meeting.address if self._meeting is not None else ""
        own = {"STEPWAVE_TEST_MARKS": str(self.marks.folder), "STEPWAVE_TEST_MEETING": meeting}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STEPWAVE_")}
        with self._errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "integration.durable.victim",
                *command,
                stdout=PIPE,
                stderr=errors,
                env={**inherited, **own, "PYTHONPATH": str(TESTS)},
            )

    @property
    def pid(self) -> int:
        """The id of the server's process."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def leave_room(self, *, room: bool) -> None:
        """Let the server's files grow, or not."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2 if room else signal.SIGUSR1)
        assert await self._line() == "done"

    async def death(self) -> int:
        """Wait for the server's end, and return its exit code."""
        assert self._process is not None
        async with asyncio.timeout(GUARD):
            return await self._process.wait()

    def complaints(self) -> str:
        """Return what the servers said on standard error."""
        return self._errors.read_text()

    async def gone(self) -> None:
        """Wait until no server is left, if any was started, for as long as that takes."""
        if self._process is not None:
            await self._process.wait()

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
