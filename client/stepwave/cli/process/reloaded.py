"""The server's side of `stepwave serve --reload`: its reports to the reloader, and its end if the reloader is killed.

The reports are lines of JSON on standard output: `{"file": …}`, `{"address": …}` and `{"final": true}`. The reloader
gives each server two environment variables: its own process id, and the address of the first server.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from stepwave.cli.exit_codes import CommandError, ExitCode

from .forks import close_sockets_on_fork
from .shutdown import end_process
from .standard_streams import output_stream
from .watched_files import is_project_file

__all__ = ["ReloadedServer", "take_variables", "variables_for_server"]

_INTERVAL = 0.3  # seconds between two reports
_RELOADER = "_STEPWAVE_RELOADER"
_ADDRESS = "_STEPWAVE_RELOADER_ADDRESS"


def variables_for_server(reloader: int, address: str) -> dict[str, str]:
    """Return the environment variables for a server that a reloader starts.

    Args:
        reloader: The process id of the reloader.
        address: Where to listen; empty: where the options say.
    """
    return {_RELOADER: str(reloader), _ADDRESS: address}


def take_variables() -> tuple[int | None, str]:
    """Remove the reloader's variables from the environment, because processes of actions would get them, too.

    Returns:
        The process id of the reloader that has started this process, if one has, and the address to listen at; empty:
        the options name it.
    """
    reloader = os.environ.pop(_RELOADER, None)
    return (int(reloader) if reloader else None), os.environ.pop(_ADDRESS, "")


class ReloadedServer:
    """Reports to the reloader which files this server has imported, and where it listens.

    Args:
        reloader: The process id of the reloader. If it ends, this server stops.
        stop_timeout: Seconds for stopping in order. Then the process ends.
    """

    def __init__(self, reloader: int, stop_timeout: float) -> None:
        self._reloader = reloader
        self._stop_timeout = stop_timeout
        self._folder = Path.cwd()
        self._modules: dict[str, object] = {}  # those of the last report
        self._lock = threading.RLock()  # one report at a time

    def start(self) -> None:
        """Start to report. Call this before any action is imported."""
        threading.Thread(target=self._report_all, name="stepwave-reload", daemon=True).start()

    def announce(self, address: str) -> None:
        """Report the address, after the files that were imported until now."""
        close_sockets_on_fork(address)
        self._report_files()
        self._send("address", address)

    def fail(self) -> None:
        """Report that the server cannot start, and that no change of files would help."""
        self._send("final", True)

    def _report_all(self) -> None:
        while os.getppid() == self._reloader:
            self._report_files()
            time.sleep(_INTERVAL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._stop_timeout)  # code that blocks the event loop would keep the server from stopping
        end_process(ExitCode.CANCELLED)

    def _report_files(self) -> None:
        with self._lock:
            before, self._modules = self._modules, dict(sys.modules)
            new = [module for name, module in self._modules.items() if before.get(name) is not module]
            for file in sorted(_source_files(new)):
                if is_project_file(Path(file), self._folder):
                    self._send("file", file)

    def _send(self, kind: str, value: object) -> None:
        with self._lock, suppress(BrokenPipeError, CommandError):  # the reloader has been killed
            output_stream().write(json.dumps({kind: value}) + "\n")
            output_stream().flush()


def _source_files(modules: Iterable[object]) -> Iterator[str]:
    """Yield the source files of modules."""
    for module in modules:
        try:
            file = object.__getattribute__(module, "__dict__").get("__file__")  # `getattr` would load a lazy module
        except AttributeError:  # no module, but an object in its place
            continue
        if isinstance(file, str) and file.endswith(".py"):
            yield file
