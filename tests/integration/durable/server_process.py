"""Servers as processes that a test kills and starts again, on the same address and journal."""

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from integration.server.raw_client import GUARD

__all__ = ["ServerProcess", "SideEffects", "StepControl", "free_address"]

TESTS = Path(__file__).parents[2]

PATHS = [path for path in [os.environ.get("PYTHONPATH", "")] if path]
"""Where the servers find the code that is not installed."""


def free_address() -> str:
    """Return an address of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class SideEffects:
    """The side effects of attempts: lines in the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, run_id: str, step_id: str) -> list[tuple[int, str]]:
        """Return the number and the idempotency key of each attempt of a step that ran, in order."""
        file = self.folder / f"{run_id}.{quote(step_id, safe='')}"
        if not file.exists():
            return []
        lines = [line.split() for line in file.read_text().splitlines()]
        return [(int(attempt), key) for attempt, key in lines]

    def attempts(self, run_id: str, step_id: str) -> list[int]:
        """Return the numbers of the attempts of a step that ran."""
        return [attempt for attempt, _ in self.of(run_id, step_id)]


class StepControl:
    """Controls the steps of the action `controlled` in other processes, over TCP.

    Attributes:
        address: Where the actions connect to.
    """

    def __init__(self) -> None:
        self.address = ""
        self._started: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen."""

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = asyncio.create_task(self._serve(reader, writer))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

        self._server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())

    async def close(self) -> None:
        """Release all steps, and stop listening."""
        self._server.close()
        for released in self._released.values():
            released.set()
        await asyncio.gather(*self._connections)
        await self._server.wait_closed()

    async def wait_started(self, run_id: str, step_id: str, attempt: int = 1) -> None:
        """Wait until an attempt has started."""
        async with asyncio.timeout(GUARD):
            await self._started[f"{run_id}/{step_id}/{attempt}"].wait()

    def release(self, run_id: str, step_id: str) -> None:
        """Release a step, whether it has started or not."""
        self._released[f"{run_id}/{step_id}"].set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        attempt = (await reader.readline()).decode().strip()
        self._started[attempt].set()
        disconnected = asyncio.ensure_future(reader.read())
        released = asyncio.ensure_future(self._released[attempt.rpartition("/")[0]].wait())
        await asyncio.wait({disconnected, released}, return_when=asyncio.FIRST_COMPLETED)
        with suppress(ConnectionError):
            writer.write(b"go on\n")
            writer.close()
            await writer.wait_closed()
        for wait in (disconnected, released):
            wait.cancel()
        await asyncio.wait({disconnected, released})


class ServerProcess:
    """One server process after the other, on the same address and journal.

    Attributes:
        journal: The journal's file.
        side_effects: The side effects of attempts.
        address: The address of the servers.

    Args:
        folder: Where the journal and the side effects are.
        control: Where steps of the action `controlled` connect to; `None`: there are none.
    """

    def __init__(self, folder: Path, control: StepControl | None = None) -> None:
        self.journal = folder / "journal.db"
        (folder / "effects").mkdir()
        self.side_effects = SideEffects(folder / "effects")
        self.address = free_address()
        self._errors = folder / "errors"
        self._control = control
        self._process: Process | None = None

    async def start(self, *arguments: str) -> None:
        """Start a server, and wait until it serves."""
        await self.launch(*arguments)
        assert await self.wait_serving(), "the server did not start"

    async def wait_serving(self) -> bool:
        """Wait until the server serves or dies, and return whether it serves."""
        return await self._line() == self.address

    async def _line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(GUARD):
            return (await self._process.stdout.readline()).decode().strip()

    async def launch(self, *arguments: str) -> None:
        """Start a server without waiting until it serves."""
        command = ["--listen", self.address, "--journal", str(self.journal), *arguments]
        control = self._control.address if self._control is not None else ""
        own = {"STEPWAVE_TEST_EFFECTS": str(self.side_effects.folder), "STEPWAVE_TEST_CONTROL": control}
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STEPWAVE_")}
        with self._errors.open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "integration.durable.crash_server",
                *command,
                stdout=PIPE,
                stderr=errors,
                env={**inherited, **own, "PYTHONPATH": os.pathsep.join([str(TESTS), *PATHS])},
            )

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def allow_file_growth(self, *, allowed: bool) -> None:
        """Allow the files of the server to grow, or behave as if the disk were full."""
        assert self._process is not None
        self._process.send_signal(signal.SIGUSR2 if allowed else signal.SIGUSR1)
        assert await self._line() == "done"

    async def wait_exit(self) -> int:
        """Wait until the server has exited, and return its exit code."""
        assert self._process is not None
        async with asyncio.timeout(GUARD):
            return await self._process.wait()

    def errors(self) -> str:
        """Return what the servers wrote to standard error."""
        return self._errors.read_text()

    async def wait_gone(self) -> None:
        """Wait without a limit until the server has exited, if one was started."""
        if self._process is not None:
            await self._process.wait()

    async def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self.wait_exit()

    async def restart(self, *arguments: str) -> None:
        """Kill the server, and start another."""
        self.kill()
        await self.wait_exit()
        await self.start(*arguments)
