"""Runs `stepwave` as a user does: as a process in a folder, with pipes or a terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from integration.cli.forks import Fork, can_fork

__all__ = ["RunningCommand", "Shell", "line_of_code", "on_terminal", "serving"]

FOLDER = Path(__file__).parent
_STEPWAVE = str(Path(sys.executable).parent / "stepwave")
_SIZE_VARIABLES = ("COLUMNS", "LINES")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def line_of_code(text: str) -> int:
    """Return the number of the line in the test actions that has a text."""
    lines = (FOLDER / "tools.py").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def _rest(stream: IO[str] | None) -> str:
    return "" if stream is None else stream.read()


class RunningCommand:
    """A command that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def wait_for_error(self, text: str) -> str:
        """Read standard error up to the first line with a text, and return that line."""
        return _read_to(self.process.stderr, text)

    def wait_for_output(self, text: str) -> str:
        """Read standard output up to the first line with a text, and return that line."""
        return _read_to(self.process.stdout, text)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end. Return the exit code, and the rest of standard output and standard error.

        `communicate` would lose what the streams have read beyond the line that was waited for.
        """
        with ThreadPoolExecutor(1) as thread:
            rest = thread.submit(_rest, self.process.stderr)
            out = _rest(self.process.stdout)
        return self.process.wait(), out, rest.result()


class Shell:
    """Runs `stepwave` in a folder, with a server's address in the environment. Its servers write nothing to disk."""

    def __init__(self, server: str | None = None, *, folder: Path = FOLDER) -> None:
        self.server = server
        self.folder = folder

    def run(self, *arguments: str, stdin: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        with self._open(arguments, environment, stdin=subprocess.PIPE, text=True) as process:
            out, err = process.communicate(stdin)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def pipe(self, data: bytes, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
        """Run a command to its end with bytes as its standard input."""
        with self._open(arguments, environment, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(data)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def redirect(self, redirection: str, *arguments: str, before: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end with a shell's redirection. The command replaces the shell's process."""
        return subprocess.run(
            ["sh", "-c", f'{before} exec "$@" {redirection}', "sh", _STEPWAVE, *arguments],
            cwd=self.folder,
            env=self._environment({}),
            capture_output=True,
            text=True,
            check=False,
        )

    @contextmanager
    def start(
        self, *arguments: str, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.PIPE, **environment: str
    ) -> Iterator[RunningCommand]:
        """Start a command, and kill it after the body if it still runs."""
        with self._open(arguments, environment, stdin=stdin, stderr=stderr, text=True) as process:
            yield RunningCommand(process)

    @contextmanager
    def _open(
        self,
        arguments: tuple[str, ...],
        variables: dict[str, str],
        *,
        stdin: int,
        stderr: int = subprocess.PIPE,
        text: bool = False,
    ) -> "Iterator[subprocess.Popen[Any]]":
        environment = self._environment(variables)
        start = Fork if can_fork(environment) else subprocess.Popen
        with start(
            [_STEPWAVE, *arguments],
            cwd=self.folder,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=text,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        # COLUMNS and LINES are those of the terminal in which the tests run.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEPWAVE_", *_SIZE_VARIABLES))
        }
        settings = {"STEPWAVE_JOURNAL": "memory", **({"STEPWAVE_SERVER": self.server} if self.server else {})}
        return {**inherited, **settings, **more}


@contextmanager
def serving(*arguments: str, folder: Path = FOLDER) -> Iterator[tuple[str, RunningCommand]]:
    """Run `stepwave serve`, and yield its address and its process."""
    with Shell(folder=folder).start("serve", "--listen", "127.0.0.1:0", *arguments) as server:
        address = server.wait_for_output(":").strip()
        yield address, server


def on_terminal(
    shell: Shell, *arguments: str, columns: int, terminal: str = "xterm-256color"
) -> tuple[int, str, list[str]]:
    """Run a command whose standard error is a terminal.

    Returns:
        The exit code, standard output, and the lines of all frames.
    """
    controller, user_end = pty.openpty()
    fcntl.ioctl(user_end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    with shell.start(*arguments, stderr=user_end, TERM=terminal) as started:
        os.close(user_end)
        drawn = _ESCAPES.sub("", _read_all(controller))
        code, out, _ = started.end()
    return code, out, re.split(r"[\r\n]+", drawn)


def _read_all(controller: int) -> str:
    with os.fdopen(controller, "rb", buffering=0) as stream:
        parts = []
        try:
            while part := stream.read(65536):
                parts.append(part)
        except OSError:  # Linux raises an error when the other end is closed
            pass
    return b"".join(parts).decode()


def _read_to(stream: IO[str] | None, text: str) -> str:
    assert stream is not None, "the stream is not a pipe"
    for line in stream:
        if text in line:
            return line
    raise AssertionError(f"ended without {text!r}")
