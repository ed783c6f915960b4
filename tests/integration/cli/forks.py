"""Starts console scripts as forks of a process that has imported their modules. That takes less time than an import.

A fork has process id, signals, streams, folder, environment and exit of its own, like any process.
"""

import atexit
import ctypes
import inspect
import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import AnyStr

__all__ = ["Fork", "can_fork"]

_PR_SET_CHILD_SUBREAPER = 36
_READ_AT_START = ("PYTHON", "LC_", "LANG", "TZ", "GRPC_", "OTEL_")
"""How the names of variables begin that an interpreter or an import reads."""


def can_fork(environment: dict[str, str]) -> bool:
    """Return whether a process with an environment may be a fork: on Linux, and unless only a new one would read it."""
    return sys.platform == "linux" and _read_at_start(environment) == _read_at_start(dict(os.environ))


def _read_at_start(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}


class Fork(subprocess.Popen[AnyStr]):
    """A `Popen` whose process is a fork. The command is a Python script with arguments."""

    def _execute_child(self, *given: object) -> None:
        call = inspect.signature(subprocess.Popen._execute_child).bind(self, *given).arguments  # type: ignore[attr-defined]
        ends = [call["p2cread"], call["c2pwrite"], call["errwrite"]]
        streams = [standard if end == -1 else end for standard, end in enumerate(ends)]
        self.pid = _fork_server(os.getpid()).fork([call["args"], str(call["cwd"]), call["env"]], streams)
        self._child_created = True
        pipes = [call[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class _ForkServer:
    def __init__(self) -> None:
        self._requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])

    def fork(self, request: object, streams: list[int]) -> int:
        """Fork a process that becomes a child of this one, and return its id."""
        _adopt_orphans(adopts=True)
        try:
            socket.send_fds(self._requests, [json.dumps(request).encode()], streams)
            pid = int(self._requests.recv(100))
            assert self._requests.recv(100) == b"adopted"
        finally:
            _adopt_orphans(adopts=False)
        return pid

    def close(self) -> None:
        self._requests.close()
        self._process.wait()


@cache
def _fork_server(_process: int) -> _ForkServer:
    """Return the server of this process, which ends with it."""
    server = _ForkServer()
    atexit.register(server.close)
    return server


def _adopt_orphans(*, adopts: bool) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0)
