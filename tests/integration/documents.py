"""Goes through a document as a reader does: writes the files that it shows, and types its commands on a terminal."""

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Block", "Reader", "blocks", "blocks_of"]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"(?:#|//) (?P<name>\w+\.\w+)\n")
_PROMPT = re.compile(r"‹(\d+)›")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ADDRESS = re.compile(r"^(127\.0\.0\.1:\d+)\r?$", re.MULTILINE)
_PRINTS = re.compile(r"# (?:prints|streams): (.+)")
_TIMEOUT = 90


@dataclass(frozen=True)
class Block:
    """A block of code in a document."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it shows, which its first line gives; `None`: it shows no file."""
        named = _FILE.match(self.text)
        return named["name"] if named else None


def blocks(document: Path) -> list[Block]:
    """Return the blocks of code in a document."""
    return blocks_of(document.read_text("utf-8"))


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of code in a text."""
    return [Block(each["language"], each["text"]) for each in _BLOCK.finditer(text)]


class Terminal:
    """A shell on a pseudo-terminal."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self._process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "bash", "--norc", "--noprofile", "--noediting"],
            cwd=folder,
            env={**environment, "PS1": "‹$?›", "TERM": "xterm-256color"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._text = ""
        self._wait_for(_PROMPT)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command. Return its exit code, and what the terminal showed, without colours and cursor movements."""
        self._type(f"{command}\n")
        before, prompt = self._wait_for(_PROMPT)
        return int(prompt[1]), before

    def serve(self, command: str) -> str:
        """Start a server, and return its address."""
        self._type(f"{command}\n")
        _, address = self._wait_for(_ADDRESS)
        return address[1]

    def interrupt(self) -> int:
        """Interrupt the command that runs, and return its exit code."""
        self._type("\x03")
        _, prompt = self._wait_for(_PROMPT)
        return int(prompt[1])

    def close(self) -> None:
        """Close the terminal, which ends the shell and what runs in it."""
        os.close(self._controller)
        self._process.wait(_TIMEOUT)

    def _type(self, text: str) -> None:
        os.write(self._controller, text.encode())

    def _wait_for(self, pattern: "re.Pattern[str]") -> tuple[str, "re.Match[str]"]:
        """Wait until the terminal shows a pattern; return what it showed before, and the match."""
        deadline = time.monotonic() + _TIMEOUT
        while (found := pattern.search(self._text)) is None:
            ready, _, _ = select.select([self._controller], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"the terminal does not show {pattern.pattern!r}:\n{self._text}"
            self._text = _ESCAPES.sub("", self._text + self._decoder.decode(os.read(self._controller, 65_536)))
        before, self._text = self._text[: found.start()], self._text[found.end() :]
        return before, found


@dataclass
class Reader:
    """Someone who goes through a document, in an empty folder.

    Attributes:
        folder: The folder.
        commands: The folder with the commands of an environment in which Stepwave is installed.
        install: What to type in place of a line that installs Stepwave; empty: it is installed.
        shown: What the terminal showed after each command.
    """

    folder: Path
    commands: Path
    install: str = ""
    shown: dict[str, str] = field(default_factory=dict)

    def read(self, document: Path) -> None:
        """Go through a document. Every command must succeed, and show what a comment `prints: …` says."""
        for block in blocks(document):
            if block.file is not None:
                (self.folder / block.file).write_text(block.text, "utf-8")
            elif block.language == "sh":
                self.type(*block.text.splitlines())

    def type(self, *lines: str) -> None:
        """Type commands. A server that they start runs until the end of the last one, in another terminal."""
        with self._terminal() as terminal, ExitStack() as servers:
            for line in lines:
                command, _, comment = line.partition("  #")
                command = command.strip()
                if command.startswith("pip install "):
                    command = self.install or "true"
                if command.startswith("stepwave serve") and "--check" not in command:
                    address = servers.enter_context(self._serving(command))
                    terminal.run(f"export STEPWAVE_SERVER={address}")
                    continue
                code, shown = terminal.run(command)
                assert code == 0, f"{command} exits with {code}:\n{shown}"
                self.shown[command] = shown
                if promised := _PRINTS.search(f"#{comment}"):
                    assert promised[1] in shown

    @contextmanager
    def _terminal(self) -> Iterator[Terminal]:
        terminal = Terminal(self.folder, _environment(self.folder, self.commands))
        try:
            yield terminal
        finally:
            terminal.close()

    @contextmanager
    def _serving(self, command: str) -> Iterator[str]:
        with self._terminal() as terminal:
            yield terminal.serve(command)
            code = terminal.interrupt()
            assert code == 0, f"{command} exits with {code}"


def _environment(folder: Path, commands: Path) -> dict[str, str]:
    """Return the environment of a reader: the commands of a folder on the path, and servers at a free port."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("STEPWAVE_", "PYTHON"))}
    return {
        **inherited,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "STEPWAVE_JOURNAL": f"sqlite:{folder}/default.db",
        "STEPWAVE_LISTEN": "127.0.0.1:0",
        "LANG": "C.UTF-8",
    }
