"""The standard streams: always open, separate from the output of actions, and without a traceback if one fails."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import TextIOWrapper
from typing import BinaryIO, TextIO

from stepwave.cli.exit_codes import CommandError, ExitCode

from .forks import close_on_fork

__all__ = ["output_stream", "prepare_streams", "read_stdin", "reserve_stdin", "reserve_stdout"]

_reserved: TextIO | None = None  # the stream of the command's output; `None`: `sys.stdout`
_replaced: list[TextIO] = []  # keeps the first `sys.stdout` open: closing it would close the buffer of `sys.__stdout__`


def prepare_streams() -> None:
    """Open the standard streams that are closed, and make all of them write UTF-8 and handle errors.

    The null device takes the place of a closed stream. Otherwise a file or socket would get its descriptor. The
    encoding is UTF-8 in every locale, and a lone surrogate is escaped as in JSON. If other code has replaced a standard
    stream, its stream is kept.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # opens as the lowest free descriptor
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stdout is sys.__stdout__:
        sys.stdout = _OutputStream(_buffer(sys.stdout, 1), line_buffering=os.isatty(1))
    if sys.stderr is sys.__stderr__:
        sys.stderr = _MessageStream(_buffer(sys.stderr, 2), line_buffering=True)


def read_stdin() -> bytes:
    """Read standard input to its end. Its bytes do not depend on the locale."""
    binary = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read().encode() if binary is None else binary.read()  # other code may have replaced the stream


def output_stream() -> TextIO:
    """Return the stream for the command's output."""
    return _reserved or sys.stdout


def reserve_stdin() -> int:
    """Reserve standard input for the command, and return its new descriptor.

    Other code that reads it, such as a subprocess of an action, reads the null device.
    """
    descriptor = os.dup(0)
    close_on_fork(descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return descriptor


@contextmanager
def reserve_stdout() -> Iterator[None]:
    """Reserve standard output for the command's output. Other code that writes to it writes to standard error.

    This includes descriptor 1, to which subprocesses and libraries write. It lasts until the process ends, because a
    thread of an action may write after the body. If other code has replaced `sys.stdout`, its stream is restored after
    the body.
    """
    global _reserved
    if isinstance(sys.stdout, _OutputStream):
        _move_output(sys.stdout)
        yield
        return
    before, _reserved = _reserved, _reserved or sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _reserved = before


def _move_output(stdout: "_OutputStream") -> None:
    """Move the command's output to a new descriptor, and point descriptor 1 to standard error."""
    global _reserved
    stdout.flush()
    _replaced.append(stdout)
    descriptor = os.dup(1)
    close_on_fork(descriptor)
    _reserved = _OutputStream(_buffer(None, descriptor), line_buffering=True)
    os.dup2(2, 1)
    sys.stdout = _MessageStream(_buffer(None, 1), line_buffering=True)


def _buffer(stream: TextIO | None, descriptor: int) -> BinaryIO:
    return open(descriptor, "wb", closefd=False) if stream is None else stream.buffer


class _Stream(TextIOWrapper):
    """A text stream that writes to the null device after an error. Otherwise the text in its buffer would fail again.

    Args:
        buffer: The binary stream to write to.
        line_buffering: Whether to flush after each line.
    """

    def __init__(self, buffer: BinaryIO, *, line_buffering: bool) -> None:
        super().__init__(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=line_buffering)

    def write(self, text: str) -> int:
        """Write a text."""
        try:
            return super().write(text)
        except OSError as error:
            self._handle_error(error)
        return len(text)

    def flush(self) -> None:
        """Write the buffered text."""
        try:
            super().flush()
        except OSError as error:
            self._handle_error(error)

    def _handle_error(self, error: OSError) -> None:
        """Write to the null device from now on.

        Raises:
            BrokenPipeError: The reader has closed the pipe. The command ends without a message.
        """
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        if isinstance(error, BrokenPipeError):
            raise error


class _OutputStream(_Stream):
    """Standard output. A command that cannot write to it fails."""

    def _handle_error(self, error: OSError) -> None:
        super()._handle_error(error)
        raise CommandError(f"cannot write to standard output: {error.strerror}", ExitCode.RUN_FAILED) from error


class _MessageStream(_Stream):
    """Standard error. A command continues if it cannot write to it."""
