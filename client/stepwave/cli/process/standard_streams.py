"""The standard streams: there from the start, kept apart from what actions write, and no traceback when one fails."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from typing import BinaryIO, TextIO

from stepwave.cli.exit_codes import CommandError, ExitCode

from .forks import withhold

__all__ = ["answers", "kept_for_answers", "prepare_streams"]

_kept: TextIO | None = None  # where answers go, if that is not standard output any more
_former: list[TextIO] = []  # what was standard output: who closed it would close what it shares with `sys.__stdout__`


def prepare_streams() -> None:
    """Make the process's own streams whole, and let them fail in a command's way.

    The null device takes the place of one that is closed, so that no file or socket does. They speak UTF-8, whatever
    the locale; half a surrogate pair is escaped, as JSON does it. A stream that somebody has put in their place stays.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
    if sys.stdout is sys.__stdout__:
        sys.stdout = _Answers(_buffer(sys.stdout, 1), by_line=os.isatty(1))
    if sys.stderr is sys.__stderr__:
        sys.stderr = _Notes(_buffer(sys.stderr, 2), by_line=True)


def answers() -> TextIO:
    """Return the stream to which answers go."""
    return _kept or sys.stdout


@contextmanager
def kept_for_answers() -> Iterator[None]:
    """Keep standard output for answers: what else is written there in the body goes to standard error.

    That holds for descriptor 1, to which subprocesses and libraries write, and then to the end of the process: a thread
    that an action leaves behind may write later. A stream that somebody has put in its place is given back.
    """
    global _kept
    if isinstance(sys.stdout, _Answers):
        _move_answers(sys.stdout)
        yield
        return
    before, _kept = _kept, _kept or sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept = before


def _move_answers(former: "_Answers") -> None:
    global _kept
    former.flush()
    _former.append(former)
    descriptor = os.dup(1)
    withhold(descriptor)
    _kept = _Answers(_buffer(None, descriptor), by_line=True)
    os.dup2(2, 1)
    sys.stdout = _Notes(_buffer(None, 1), by_line=True)


def _buffer(stream: TextIO | None, descriptor: int) -> BinaryIO:
    return open(descriptor, "wb", closefd=False) if stream is None else stream.buffer


class _Stream(TextIOWrapper):
    """A stream that writes into the void once it has failed: what is left in it would be tried again, and fail again.

    Args:
        buffer: What it writes to.
        by_line: Write each line at once.
    """

    def __init__(self, buffer: BinaryIO, *, by_line: bool) -> None:
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=by_line)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError as error:
            self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Write what is left."""
        try:
            super().flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Go on without the reader.

        Raises:
            BrokenPipeError: It has gone away, which ends commands silently.
        """
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.fileno())
        os.close(nothing)
        if isinstance(error, BrokenPipeError):
            raise error


class _Answers(_Stream):
    """Standard output: a command without it has failed."""

    def _fail(self, error: OSError) -> None:
        super()._fail(error)
        raise CommandError(f"cannot write the answer: {error.strerror}", ExitCode.RUN_FAILED) from error


class _Notes(_Stream):
    """Standard error: a command goes on without it."""
