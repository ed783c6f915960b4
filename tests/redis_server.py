"""A server of Redis, as a process of its own on a free port of loopback. It keeps nothing on disk."""

import os
import shutil
import signal
import socket
import subprocess
import time
from typing import Self

import pytest

from owned import owned

__all__ = ["RedisServer"]

START_SECONDS = 30


class RedisServer:
    """The server, for as long as its block. Without the program `redis-server` the test is skipped, but in CI it fails.

    Attributes:
        address: Its address, the same after a restart.
    """

    def __init__(self) -> None:
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"redis://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the process, and wait until its port accepts connections."""
        program = _program()
        command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(owned(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_SECONDS
        while not _accepts(self._port):
            assert self._process.poll() is None, "the server of Redis ended at its start"
            assert time.monotonic() < end, "the server of Redis did not start in time"
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill the process, as a crash does. What it has is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop the process for now: connections stay open, and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the process go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        message = "the program `redis-server` is missing: tests/conformance/install.sh installs it from Debian"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
