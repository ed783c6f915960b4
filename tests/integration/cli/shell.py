"""Runs `stepwave` as its users do: as a process, in a folder, with pipes or a terminal at its ends."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["Shell", "Started", "line_of_code", "on_terminal", "serving"]

FOLDER = Path(__file__).parent
_STEPWAVE = str(Path(sys.executable).parent / "stepwave")
_SIZE = ("COLUMNS", "LINES")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def line_of_code(text: str) -> int:
    """Return the number of the line of the test actions that holds a text."""
    lines = (FOLDER / "tools.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


class Started:
    """A process under way."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def wait_for_error(self, text: str) -> str:
        """Read standard error up to the line that holds a text, and return that line."""
        return _read_to(self.process.stderr, text)

    def wait_for_output(self, text: str) -> str:
        """Read standard output up to the line that holds a text, and return that line."""
        return _read_to(self.process.stdout, text)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code and what was not read yet of standard output and standard error."""
        out, err = self.process.communicate()
        return self.process.returncode, out, err


class Shell:
    """Runs `stepwave` in a folder, with a server known by the environment; its own servers write nothing to disk."""

    def __init__(self, server: str | None = None, *, folder: Path = FOLDER) -> None:
        self.server = server
        self.folder = folder

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        return subprocess.run(
            [_STEPWAVE, *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def redirect(self, redirection: str, *arguments: str, before: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end, with its streams redirected as a shell writes it, in the shell's own place."""
        return subprocess.run(
            ["sh", "-c", f'{before} exec "$@" {redirection}', "sh", _STEPWAVE, *arguments],
            cwd=self.folder,
            env=self._environment({}),
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> Iterator[Started]:
        """Start a command, and kill it at the end if it still runs."""
        with subprocess.Popen(
            [_STEPWAVE, *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process:
            try:
                yield Started(process)
            finally:
                process.kill()

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        # A size in the environment is that of the terminal in which the tests run.
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STEPWAVE_", *_SIZE))}
        told = {"STEPWAVE_JOURNAL": "memory", **({"STEPWAVE_SERVER": self.server} if self.server else {})}
        return {**kept, **told, **more}


@contextmanager
def serving(*arguments: str, folder: Path = FOLDER) -> Iterator[tuple[str, Started]]:
    """Run `stepwave serve`; give its address and its process."""
    with Shell(folder=folder).start("serve", "--listen", "127.0.0.1:0", *arguments) as server:
        address = server.wait_for_output(":").strip()
        yield address, server


def on_terminal(
    shell: Shell, *arguments: str, columns: int, terminal: str = "xterm-256color"
) -> tuple[int, str, list[str]]:
    """Run a command whose standard error is a terminal.

    Returns:
        The exit code, standard output, and the lines that were drawn, all pictures one after the other.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    with shell.start(*arguments, stderr=theirs, TERM=terminal) as started:
        os.close(theirs)
        drawn = _ESCAPES.sub("", _read_all(ours))
        code, out, _ = started.end()
    return code, out, re.split(r"[\r\n]+", drawn)


def _read_all(terminal: int) -> str:
    with os.fdopen(terminal, "rb", buffering=0) as master:
        parts = []
        try:
            while part := master.read(65536):
                parts.append(part)
        except OSError:  # how Linux says that the other end was closed
            pass
    return b"".join(parts).decode()


def _read_to(stream: IO[str] | None, text: str) -> str:
    assert stream is not None, "it was not asked for"
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"ended without {text!r}")
