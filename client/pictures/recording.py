"""Records a terminal with two panes, in the format asciicast version 2 (https://docs.asciinema.org/manual/asciicast/v2/).

A shell runs in each pane. The recording types into them, and waits for what they show.
"""

import codecs
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Pane", "recording"]

_KEY_SECONDS = 0.03
_READ_SECONDS = 0.7  # the time to read a screen before the next command
_TIMEOUT = 60
_LEAVE_SCREEN = "\x1b[?1049l"  # tmux ends with it


class Pane:
    """A pane of the terminal, with a shell in it."""

    def __init__(self, tmux: Callable[..., str], index: int) -> None:
        self._tmux = tmux
        self._target = f"recording:0.{index}"

    def type(self, command: str) -> None:
        """Type a command as a person does, and run it."""
        self._tmux("select-pane", "-t", self._target)
        time.sleep(_READ_SECONDS)
        for key in command:
            self._tmux("send-keys", "-t", self._target, "-l", key)
            time.sleep(_KEY_SECONDS)
        self._tmux("send-keys", "-t", self._target, "Enter")

    def wait_for(self, text: str) -> None:
        """Wait until the pane shows a text.

        Raises:
            TimeoutError: It does not show it within a minute.
        """
        deadline = time.monotonic() + _TIMEOUT
        while text not in (screen := self._tmux("capture-pane", "-p", "-t", self._target)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the pane does not show {text!r}:\n{screen}")
            time.sleep(0.05)


@contextmanager
def recording(
    cast: Path, folder: Path, environment: dict[str, str], *, columns: int, upper: int, lower: int
) -> Iterator[tuple[Pane, Pane]]:
    """Record a terminal into a file while the body runs.

    Args:
        cast: The file.
        folder: The folder in which the shells start.
        environment: The environment of the shells.
        columns: The terminal's width.
        upper: The height of the upper pane.
        lower: The height of the lower pane.

    Yields:
        The upper and the lower pane.
    """
    with TemporaryDirectory() as socket_folder:

        def tmux(*arguments: str) -> str:
            command = ["tmux", "-S", f"{socket_folder}/socket", "-f", "/dev/null", *arguments]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

        rows = upper + lower + 1
        shell = "PS1='$ ' exec bash --norc --noprofile"
        tmux("new-session", "-d", "-s", "recording", "-x", str(columns), "-y", str(rows), "-c", str(folder), shell)
        try:
            for option in (
                "status off",
                "escape-time 0",
                "pane-border-style fg=colour240",
                "default-terminal tmux-256color",
            ):
                tmux("set-option", "-g", *option.split())
            tmux("split-window", "-v", "-l", str(lower), "-t", "recording:0", "-c", str(folder), shell)
            panes = Pane(tmux, 0), Pane(tmux, 1)
            with _attached(["tmux", "-S", f"{socket_folder}/socket", "attach"], environment, cast, columns, rows):
                yield panes
                time.sleep(3 * _READ_SECONDS)
        finally:
            tmux("kill-server")


@contextmanager
def _attached(command: list[str], environment: dict[str, str], cast: Path, columns: int, rows: int) -> Iterator[None]:
    """Run a command on a pseudo-terminal, and write what it shows to a file."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        thread = threading.Thread(target=_write, args=(controller, cast, columns, rows))
        thread.start()
        try:
            yield
        finally:
            process.kill()
            thread.join()


def _write(controller: int, cast: Path, columns: int, rows: int) -> None:
    start = time.monotonic()
    with os.fdopen(controller, "rb", buffering=0) as stream, cast.open("w", encoding="utf-8") as file:
        file.write(json.dumps({"version": 2, "width": columns, "height": rows}) + "\n")
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while part := _read(stream.fileno()):
            text = decoder.decode(part)
            if _LEAVE_SCREEN in text:
                break
            file.write(json.dumps([round(time.monotonic() - start, 3), "o", text]) + "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # the other end is closed
        return b""
