"""The parent process of `stepwave serve --reload`: it starts the server, and starts it again when files change.

The server is a process of its own, started anew from the same command line, because a module cannot be reloaded
reliably and a fork cannot use gRPC.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

from .children import end_children, exclude_current_children
from .reloaded import variables_for_server
from .watched_files import WatchedFiles

__all__ = ["Reloader"]

_KILL_TIMEOUT = 1.0  # seconds between SIGTERM and SIGKILL for the processes of a server that does not stop


class Reloader:
    """Runs the server of this command line until it is stopped, and restarts it after changes.

    SIGINT and SIGTERM are passed on as SIGTERM. The server ignores SIGINT, which a terminal sends to both processes.

    Args:
        files: The files to watch.
        stop_timeout: Seconds for the server to stop in order before a restart. Then it is killed.
        announce: Called once, with the address. Later servers listen there, too.
        report: Called with messages for the user.
    """

    def __init__(
        self,
        files: WatchedFiles,
        *,
        stop_timeout: float,
        announce: Callable[[str], None],
        report: Callable[[str], None],
    ) -> None:
        self._files = files
        self._stop_timeout = stop_timeout
        self._announce = announce
        self._report = report
        self._address = ""
        self._server: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._signal = signal.SIGTERM  # the last signal that this process got
        self._restarting = False
        self._final = False

    async def run(self) -> int:
        """Run until a signal stops the server, or it cannot start for a reason that no change of files would fix.

        Returns:
            The exit code of the server. If a signal ended it, 128 and the number of the signal that this process got.
        """
        exclude_current_children()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop, number)
        while True:
            code = await self._serve()
            if not (self._stopping.is_set() or self._final or self._restarting):
                self._report(f"the server ended with exit code {code}; waiting for a change")
                await self._wait_until_fixed()
            if self._stopping.is_set() or self._final:
                return code

    async def _serve(self) -> int:
        """Run one server to its end, and return its exit code."""
        self._restarting = False
        self._files.begin()
        self._server = server = await self._start()
        if self._stopping.is_set():
            self._terminate()
        restart = asyncio.create_task(self._restart_on_change())
        try:
            await self._read_reports(server)
            code = await server.wait()
        finally:
            if server.returncode is None:
                self._kill()
            restart.cancel()
            with suppress(asyncio.CancelledError):
                await restart
        if code == -signal.SIGTERM:
            code = -self._signal
        return code if code >= 0 else 128 - code

    async def _start(self) -> asyncio.subprocess.Process:
        """Start a server with the command line of this process.

        A cached module has its source's time in whole seconds. So a cache that is written during development (without
        `-B`) could hide a quick change.
        """
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-B", *sys.orig_argv[1:]),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **variables_for_server(os.getpid(), self._address)},
        )

    async def _read_reports(self, server: asyncio.subprocess.Process) -> None:
        assert server.stdout is not None, "it is a pipe"
        async for line in _read_lines(server.stdout):
            try:
                report = json.loads(line)
            except ValueError:  # printed by something else, before the server reserved its standard output
                sys.stderr.write(line.decode(errors="backslashreplace"))
                continue
            match report:
                case {"file": str(file)}:
                    self._files.add_imported(Path(file))
                case {"address": str(address)} if not self._address:
                    self._address = address
                    self._announce(address)
                case {"final": True}:
                    self._final = True

    async def _restart_on_change(self) -> None:
        """Stop the server once files have changed. Kill it, and the processes of its actions, if it does not stop."""
        try:
            names = await self._files.wait_for_change()
        except Exception:  # raised once the server has ended
            self._terminate()
            raise
        if self._stopping.is_set():
            return
        self._restarting = True
        self._report(f"{names} changed: restarting")
        self._terminate()
        await asyncio.sleep(self._stop_timeout)
        self._report(f"the server has not stopped after {self._stop_timeout:g} s: killing it")
        self._kill()

    async def _wait_until_fixed(self) -> None:
        """Wait until any Python file changes: a module that was not found may be written now. Or until a signal."""
        change = asyncio.create_task(self._files.wait_for_change(whole_project=True))
        stop = asyncio.create_task(self._stopping.wait())
        await asyncio.wait({change, stop}, return_when=asyncio.FIRST_COMPLETED)
        change.cancel()
        stop.cancel()
        await asyncio.wait({change, stop})
        if not change.cancelled():
            self._report(f"{change.result()} changed: restarting")

    def _stop(self, number: signal.Signals) -> None:
        """Pass a signal on. The server takes a second SIGTERM as the user's second signal, so a restart sends none."""
        self._signal = number
        if self._restarting and not self._stopping.is_set():  # the server drains already
            self._report("stopping instead of restarting")
        else:
            self._terminate()
        self._stopping.set()

    def _terminate(self) -> None:
        if self._server is not None:
            with suppress(ProcessLookupError):  # it has ended
                self._server.terminate()

    def _kill(self) -> None:
        end_children(_KILL_TIMEOUT, normal_exit=True)


async def _read_lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream. A line that is longer than the stream's limit comes in parts."""
    while True:
        try:
            line = await stream.readuntil()
        except asyncio.LimitOverrunError as error:
            line = await stream.read(error.consumed)
        except asyncio.IncompleteReadError as error:
            line = error.partial
        if not line:
            return
        yield line
