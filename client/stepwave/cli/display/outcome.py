"""What a command says once a run has ended: its failures to standard error, its outputs to standard output."""

from textwrap import indent

from rich.console import Console
from rich.text import Text

from stepwave._actions.failure import FailureReason
from stepwave._model.results import Failure, RunResult

from .output import print_json, stderr_console
from .text import failure_place, failure_words, one_line, plural

__all__ = ["print_failures", "print_outputs"]

_SHOWN = 10


def print_outputs(result: RunResult) -> None:
    """Write the outputs as one JSON object by step id."""
    print_json(result.to_dict()["outputs"])
    if result.omitted_output_count:
        stderr_console().print(f"{plural(result.omitted_output_count, 'output')} left out: too large to send together")


def print_failures(result: RunResult, *, verbose: bool, console: Console | None = None) -> None:
    """Write what failed, and where in the code.

    Args:
        result: What the run came to.
        verbose: Whether to show every failure there is, with its traceback.
        console: Where to write; `None`: standard error.
    """
    console = console or stderr_console()
    shown = result.failures if verbose else result.failures[:_SHOWN]
    for failure in shown:
        _print_failure(console, failure, verbose=verbose)
    if (more := result.failure_count - len(shown)) > 0:
        console.print(f"and {plural(more, 'more failure')}", style="dim")


def _print_failure(console: Console, failure: Failure, *, verbose: bool) -> None:
    symbol, style = ("■", "yellow") if failure.reason is FailureReason.CANCELLED else ("✗", "bold red")
    who = failure.step_id or "run"
    console.print(Text.assemble((f"{symbol} {who}", style), f": {failure_words(failure)}"), soft_wrap=True)
    traceback = failure.details.get("traceback", "")
    if verbose and traceback:
        console.print(indent(_harmless(traceback), "    "), soft_wrap=True)
    elif place := failure_place(failure):
        function = failure.details.get("function")
        console.print(f"    at {place}" + (f" in {one_line(function)}" if function else ""), soft_wrap=True)


def _harmless(text: str) -> str:
    """Keep lines and indentation, and nothing else that steers a terminal."""
    return "\n".join(
        "".join(character if character.isprintable() else " " for character in line) for line in text.splitlines()
    )
