"""Printing: a command's output to standard output, everything else to standard error."""

import os
import sys
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from textwrap import indent

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from stepwave._actions.failure import FailureReason
from stepwave._convert.paths import outer
from stepwave._model.results import Failure, FailureCause, RunResult
from stepwave._values.numbers import show_json
from stepwave._values.payload import JSON
from stepwave._values.plain import plain_payload
from stepwave.cli.process.standard_streams import output_stream

from .text import clean_lines, failure_message, failure_place, one_line, plural

__all__ = [
    "columns",
    "fit",
    "fitting_widths",
    "flush_output",
    "has_live_terminal",
    "output_width",
    "print_error",
    "print_failures",
    "print_json",
    "print_line",
    "print_message",
    "print_outputs",
    "print_raw_outputs",
    "print_table",
    "print_text",
    "stderr_console",
    "wrapped",
]

_MAX_FAILURES = 10
_MIN_COLUMN_WIDTH = 6  # of a column that is truncated
_MAX_NAMES = 5  # of equal failures


def stderr_console() -> Console:
    """Return a console for standard error, without highlighting and markup."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def has_live_terminal() -> bool:
    """Return whether standard error is a terminal with a cursor."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


def print_line(text: str = "") -> None:
    """Write a line of output."""
    output_stream().write(text + "\n")


def print_text(text: Text, *, whole: bool = False, indent: int | None = None) -> None:
    """Write a line of output, with its styles if standard output is a terminal.

    Args:
        text: The line.
        whole: Whether the terminal may wrap the line. Otherwise it is truncated to the terminal's width.
        indent: Wrap the line between words, and indent the further lines so far; `None`: do not.
    """
    if not output_stream().isatty():
        print_line(text.plain.rstrip())
        return
    console = Console(file=output_stream(), highlight=False)
    if indent is not None:
        for line in wrapped(text, console, indent):
            console.print(line, soft_wrap=True)
    elif whole:
        console.print(text, soft_wrap=True)
    else:
        console.print(text, no_wrap=True, overflow="ellipsis")


def wrapped(text: Text, console: Console, indent: int) -> Iterator[Text]:
    """Yield a line as lines that fit a console, with an indent from the second on. Nothing is left out."""
    first, *rest = text.wrap(console, console.width)
    first.rstrip()
    yield first
    if rest:
        for line in Text().join(rest).wrap(console, max(console.width - indent, 1)):
            line.rstrip()
            yield Text(" " * indent).append_text(line)


def output_width() -> int:
    """Return the number of cells in a line of output: the terminal's width; without a terminal `COLUMNS`, else 80."""
    return Console(file=output_stream()).width


def print_json(value: JSON, *, pretty: bool = True) -> None:
    """Write a JSON value and flush it.

    Args:
        value: The value.
        pretty: Whether to indent it, for people. Otherwise it is one line, for programs that follow events.
    """
    print_line(show_json(value, indent=2 if pretty else None))
    output_stream().flush()


def flush_output() -> None:
    """Write the buffered output. It is no error if the reader has closed the pipe.

    Raises:
        CommandError: The output cannot be written.
    """
    with suppress(BrokenPipeError):
        output_stream().flush()


def print_message(message: str) -> None:
    """Write a message to standard error."""
    stderr_console().print(message, soft_wrap=True)


def print_error(message: str) -> None:
    """Write an error message to standard error."""
    stderr_console().print(message, style="red", soft_wrap=True)


def print_outputs(result: RunResult) -> None:
    """Write a run's outputs as one JSON object by step id. Write to standard error how many are left out."""
    print_json(result.to_dict()["outputs"])
    _print_omitted(result)


def print_raw_outputs(result: RunResult) -> None:
    """Write a run's outputs, in the order of the steps: strings as they are, others as JSON, each with a line break."""
    for output in result.outputs.values():
        if isinstance(output, str):
            print_line(output)
        else:
            print_json(plain_payload(output))
    _print_omitted(result)


def _print_omitted(result: RunResult) -> None:
    if result.omitted_output_count:
        stderr_console().print(f"{plural(result.omitted_output_count, 'output')} left out: too large to send together")


def print_failures(result: RunResult, *, verbose: bool, kept: bool = False, console: Console | None = None) -> None:
    """Write a run's failures, each with its place in the code.

    Args:
        result: The run's result.
        verbose: Whether to write all failures, with their tracebacks. Otherwise equal failures are one, and it is the
            first ten.
        kept: Whether the run can be fetched later. Then a command that lists all failures is named.
        console: The console to write to; `None`: standard error.
    """
    console = console or stderr_console()
    own = result.failures if verbose else _without_repetitions(result.failures)
    groups = [[failure] for failure in own] if verbose else _equal_failures(own)
    shown = groups if verbose else groups[:_MAX_FAILURES]
    for group in shown:
        _print_failures(console, group, verbose=verbose)
    repeated = len(result.failures) - len(own)
    if (more := result.failure_count - repeated - sum(map(len, shown))) > 0:
        console.print(f"and {plural(more, 'more failure')}", style="dim")
    if kept and not verbose and (more or len(shown) < len(own)):
        console.print(f"all failures: stepwave result {result.run_id}", style="dim", soft_wrap=True)


def _without_repetitions(failures: Sequence[Failure]) -> Sequence[Failure]:
    """Return failures without those of steps that failed because a step within them did, if that one is there."""
    failed = {outer(failure.step_id) for failure in failures}
    return [
        failure
        for failure in failures
        if failure.cause is not FailureCause.NESTED_STEP_FAILED or failure.step_id not in failed
    ]


def _equal_failures(failures: Iterable[Failure]) -> list[list[Failure]]:
    """Group failures with the same reason and message. The groups are in the order of their first failures."""
    groups: dict[tuple[FailureReason, str, bool], list[Failure]] = {}
    for failure in failures:
        key = failure.reason, failure_message(failure), bool(failure.step_id)
        groups.setdefault(key, []).append(failure)
    return list(groups.values())


def _print_failures(console: Console, failures: Sequence[Failure], *, verbose: bool) -> None:
    """Write equal failures as one: `3 steps failed: timeout`."""
    failure = failures[0]
    cancelled = failure.reason is FailureReason.CANCELLED
    symbol, style = ("■", "yellow") if cancelled else ("✗", "bold red")
    subject = failure.step_id or "run"
    if len(failures) > 1:
        subject = f"{plural(len(failures), 'step')} {'cancelled' if cancelled else 'failed'}"
    console.print(Text.assemble((f"{symbol} {subject}", style), f": {failure_message(failure)}"), soft_wrap=True)
    if len(failures) > 1:
        console.print(f"    {_names(failures)}", soft_wrap=True)
    traceback = failure.details.get("traceback", "")
    if verbose and traceback:
        console.print(indent("\n".join(clean_lines(traceback)), "    "), soft_wrap=True)
    elif place := failure_place(failure):
        function = failure.details.get("function")
        console.print(f"    at {place}" + (f" in {one_line(function)}" if function else ""), soft_wrap=True)


def _names(failures: Sequence[Failure]) -> str:
    names = ", ".join(one_line(failure.step_id) for failure in failures[:_MAX_NAMES])
    return names if len(failures) <= _MAX_NAMES else f"{names}, {len(failures) - _MAX_NAMES:,} more"


def fit(line: str) -> str:
    """Truncate a line of output to the terminal's width. Without a terminal, nothing is truncated."""
    if not output_stream().isatty():
        return line
    text = Text(line)
    text.truncate(os.get_terminal_size(output_stream().fileno()).columns, overflow="ellipsis")
    return text.plain


def columns(rows: Sequence[Sequence[str]], *, right_aligned: Container[int] = ()) -> Iterator[str]:
    """Align rows of equal length in columns.

    Args:
        rows: The cells.
        right_aligned: The indexes of right-aligned columns.
    """
    clean_rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*clean_rows, strict=True)]
    for row in clean_rows:
        cells = (_pad(cell, widths[index], index in right_aligned) for index, cell in enumerate(row))
        yield "  ".join(cells).rstrip()


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, right_aligned: Container[int] = ()) -> None:
    """Write a table of output. On a terminal, the widest columns are truncated until it fits, but not the first."""
    cells = [[one_line(cell) for cell in row] for row in (headings, *rows)]
    if output_stream().isatty():
        terminal = os.get_terminal_size(output_stream().fileno()).columns
        widths = fitting_widths([max(map(cell_len, column)) for column in zip(*cells, strict=True)], terminal)
        cells = [[_truncated(cell, width) for cell, width in zip(row, widths, strict=True)] for row in cells]
    for line in columns(cells, right_aligned=right_aligned):
        print_line(fit(line))


def fitting_widths(widths: Sequence[int], most: int) -> list[int]:
    """Return the widths of a table's columns, so that it fits if possible.

    Args:
        widths: The widths of the columns' longest cells.
        most: The width of the whole table. There are two cells between columns.
    """
    fitting = list(widths)
    excess = sum(fitting) + 2 * (len(fitting) - 1) - most
    while excess > 0 and max(fitting[1:], default=0) > _MIN_COLUMN_WIDTH:
        fitting[max(range(1, len(fitting)), key=fitting.__getitem__)] -= 1
        excess -= 1
    return fitting


def _truncated(cell: str, width: int) -> str:
    text = Text(cell)
    text.truncate(width, overflow="ellipsis")
    return text.plain


def _pad(cell: str, width: int, right: bool) -> str:
    padding = " " * (width - cell_len(cell))
    return padding + cell if right else cell + padding
