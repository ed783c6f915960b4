"""Where words go: answers to standard output, everything else to standard error."""

import json
import os
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stepwave._values.payload import JSON
from stepwave.cli.process.standard_streams import answers

from .text import one_line

__all__ = [
    "answer_width",
    "columns",
    "fit",
    "flush_answers",
    "has_live_terminal",
    "note",
    "print_error",
    "print_json",
    "print_line",
    "print_table",
    "print_text",
    "stderr_console",
]


def stderr_console() -> Console:
    """Return a console for standard error that neither highlights nor reads markup."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def has_live_terminal() -> bool:
    """Say whether standard error is a terminal that can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def print_line(text: str = "") -> None:
    """Write a line of the answer."""
    answers().write(text + "\n")


def print_text(text: Text) -> None:
    """Write a line of the answer, styled where it is read on a terminal."""
    if answers().isatty():
        Console(file=answers(), highlight=False).print(text, no_wrap=True, overflow="ellipsis")
    else:
        print_line(text.plain.rstrip())


def answer_width() -> int:
    """Return how many cells a line of the answer may have: those of the terminal; `COLUMNS`, else 80 without one."""
    return Console(file=answers()).width


def print_json(value: JSON, *, pretty: bool = True) -> None:
    """Write a JSON value as the answer, at once: over several lines for people, or on one for programs that follow."""
    print_line(json.dumps(value, ensure_ascii=False, indent=2 if pretty else None))
    answers().flush()


def flush_answers() -> None:
    """Write what is left of the answer; a reader that has gone away is no error.

    Raises:
        CommandError: It cannot be written.
    """
    with suppress(BrokenPipeError):
        answers().flush()


def note(message: str) -> None:
    """Tell the user something that is no answer."""
    stderr_console().print(message, soft_wrap=True)


def print_error(message: str) -> None:
    """Write what went wrong."""
    stderr_console().print(message, style="red", soft_wrap=True)


def fit(line: str) -> str:
    """Cut a line of the answer to the terminal's width; nothing is cut where there is no terminal."""
    if not answers().isatty():
        return line
    text = Text(line)
    text.truncate(os.get_terminal_size(answers().fileno()).columns, overflow="ellipsis")
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
