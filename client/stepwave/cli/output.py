"""Where words go: answers to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from io import TextIOWrapper
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stepwave._payload import JSON

from .text import one_line

__all__ = [
    "answer_width",
    "columns",
    "fit",
    "flush_answers",
    "has_live_terminal",
    "kept_for_answers",
    "note",
    "print_error",
    "print_json",
    "print_line",
    "print_table",
    "print_text",
    "stderr_console",
    "use_utf8",
]

_kept: ContextVar[TextIO | None] = ContextVar("_kept", default=None)


def use_utf8() -> None:
    """Make both streams speak UTF-8, whatever the locale; half a surrogate pair is escaped, as JSON does it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def stderr_console() -> Console:
    """Return a console for standard error that neither highlights nor reads markup."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def has_live_terminal() -> bool:
    """Say whether standard error is a terminal that can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


@contextmanager
def kept_for_answers() -> Iterator[None]:
    """Keep standard output for answers: what else is printed in the body goes to standard error."""
    token = _kept.set(sys.stdout)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _kept.reset(token)


def print_line(text: str = "") -> None:
    """Write a line of the answer."""
    (_kept.get() or sys.stdout).write(text + "\n")


def print_text(text: Text) -> None:
    """Write a line of the answer, styled where it is read on a terminal."""
    if sys.stdout.isatty():
        Console(highlight=False).print(text, no_wrap=True, overflow="ellipsis")
    else:
        print_line(text.plain.rstrip())


def answer_width() -> int:
    """Return how many cells a line of the answer may have: those of the terminal; `COLUMNS`, else 80 without one."""
    return Console().width


def print_json(value: JSON, *, pretty: bool = True) -> None:
    """Write a JSON value as the answer, at once: over several lines for people, or on one for programs that follow."""
    print_line(json.dumps(value, ensure_ascii=False, indent=2 if pretty else None))
    (_kept.get() or sys.stdout).flush()


def flush_answers() -> None:
    """Write what is left of the answer; a reader that has gone away is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(message: str) -> None:
    """Tell the user something that is no answer."""
    stderr_console().print(message, soft_wrap=True)


def print_error(message: str) -> None:
    """Write what went wrong."""
    stderr_console().print(message, style="red", soft_wrap=True)


def fit(line: str) -> str:
    """Cut a line of the answer to the terminal's width; nothing is cut where there is no terminal."""
    if not sys.stdout.isatty():
        return line
    text = Text(line)
    text.truncate(os.get_terminal_size(sys.stdout.fileno()).columns, overflow="ellipsis")
    return text.plain


def columns(rows: Sequence[Sequence[str]], *, right_aligned: Container[int] = ()) -> Iterator[str]:
    """Set rows of equal length in columns.

    Args:
        rows: The cells.
        right_aligned: The indexes of columns that are set to the right.
    """
    clean = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*clean, strict=True)]
    for row in clean:
        cells = (_pad(cell, widths[index], index in right_aligned) for index, cell in enumerate(row))
        yield "  ".join(cells).rstrip()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right_aligned: Container[int] = ()) -> None:
    """Write a table as the answer, cut to the terminal's width."""
    for line in columns([headings, *rows], right_aligned=right_aligned):
        print_line(fit(line))


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space
