"""Texts for people, without control characters: durations, counts, failures and values, each on one line, and logs."""

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from shlex import quote

from rich.cells import cell_len
from rich.text import Text

from stepwave._model.catalog import ActionLimit
from stepwave._model.events import LogLevel, StepLog, StepWaiting, WaitCause
from stepwave._model.results import Counts, Failure, Run, SkipCause, SkipReason, State
from stepwave._values.numbers import show_json
from stepwave._values.payload import JSON, Blob
from stepwave._values.text import duration_text, one_line, plural

__all__ = [
    "NO_SERVER_TEXT",
    "PAUSED_TEXT",
    "approve_command",
    "clean_lines",
    "counts_text",
    "duration_text",
    "failure_line",
    "failure_message",
    "failure_place",
    "limit_text",
    "log_text",
    "missing_line",
    "one_line",
    "place_text",
    "plural",
    "run_notes",
    "run_state",
    "skip_line",
    "tally_text",
    "time_text",
    "value_text",
    "waiting_line",
    "waiting_text",
]

NO_SERVER_TEXT = "which nobody can give: run it on a server (stepwave serve)"
PAUSED_TEXT = "paused: its server does not continue it"

_WAIT_TEXTS = {
    WaitCause.CONCURRENCY: "a place",
    WaitCause.RATE: "a rate limit",
    WaitCause.BACKOFF: "a pause",
    WaitCause.EXTERNAL: "an answer",
}
_LEVEL_STYLES = {
    LogLevel.DEBUG: "dim",
    LogLevel.WARNING: "yellow",
    LogLevel.ERROR: "red",
    LogLevel.CRITICAL: "bold red",
}
_LEVEL_WIDTH = max(map(len, LogLevel))
_SKIP_TEXTS = {
    SkipCause.DEPENDENCY: "needs {}",
    SkipCause.CONDITION: "its condition was false",
    SkipCause.FAIL_FAST: "{} failed first",
    SkipCause.CANCELLED: "the run was cancelled",
    SkipCause.TIMEOUT: "the run timed out",
    SkipCause.NOT_NEEDED: "{} was enough",
}


def clean_lines(text: str) -> list[str]:
    """Return the lines of a text, at least one, without control and invisible characters. Indents are kept."""
    return [
        "".join(character if character.isprintable() else " " for character in line.expandtabs(4)).rstrip()
        for line in text.splitlines() or [""]
    ]


def time_text(time: datetime | None) -> str:
    """Return a time in the local zone; `None`: an empty text."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else ""


def counts_text(counts: Counts) -> str:
    """Return the number of steps in each state, without states that have none."""
    return tally_text({state: getattr(counts, state) for state in State if state is not State.UNKNOWN})


def tally_text(counts: Mapping[str, int]) -> str:
    """Return counts as `3 succeeded, 1 failed`, in their order, without zeros."""
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "no steps"


def failure_place(failure: Failure) -> str:
    """Return the line of code that failed, such as `tools.py:14`; an empty text if it is not known."""
    file, line = failure.details.get("file"), failure.details.get("line")
    return place_text(file, line or "") if file else ""


def place_text(file: str, line: object = "") -> str:
    """Return the place of a line of code, such as `tools.py:14`. Paths in the working directory are relative."""
    path = Path(file)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return one_line(os.fspath(path) + (f":{line}" if line else ""))


def failure_line(failure: Failure) -> str:
    """Return a failure on one line. Its message comes first, because narrow terminals truncate the end."""
    place = failure_place(failure)
    message = failure_message(failure)
    return f"{message} ({place})" if place else message


def failure_message(failure: Failure) -> str:
    """Return a failure's message, and what its action did when it was interrupted, if it did not end."""
    message = one_line(failure.message) or str(failure.reason)
    reaction = failure.details.get("when_interrupted")
    return f"{message}; {one_line(reaction)}" if reaction else message


def skip_line(reason: SkipReason) -> str:
    """Return why a step was skipped."""
    template = _SKIP_TEXTS.get(reason.cause, str(reason.cause))
    return f"skipped: {template.format(reason.step_id)}"


def value_text(value: JSON | Blob) -> str:
    """Return a value on one line: a string without quotes, a blob as its size and type, other values as JSON."""
    if isinstance(value, Blob):
        return f"{plural(len(value.data), 'byte')} of {one_line(value.content_type)}"
    return one_line(value if isinstance(value, str) else show_json(value))


def run_state(run: Run) -> str:
    """Return the state of a run, or `stopping` or `paused`."""
    if run.state.ended:
        return run.state
    if run.stopping:
        return "stopping"
    return "paused" if run.paused else run.state


def run_notes(run: Run) -> Iterator[str]:
    """Yield notes on a run: the run that it repeats, and the actions that it waits for."""
    if run.rerun_of:
        yield f"rerun of {run.rerun_of}"
    if run.missing_actions and not run.state.ended:
        yield missing_line(run.missing_actions)


def log_text(event: StepLog, *, step_width: int = 0, time: bool = False) -> Text:
    """Return a log message: its level, its step and its text. Further lines of it are indented.

    Args:
        event: The message.
        step_width: The smallest number of cells of the step's column.
        time: Whether to begin with the time.
    """
    step = one_line(event.step_id) + (f" (attempt {event.attempt})" if event.attempt > 1 else "")
    text = Text()
    if time:
        text.append(f"{time_text(event.time)}.{event.time.microsecond // 1000:03}  ", style="dim")
    text.append(f"{event.level:<{_LEVEL_WIDTH}}", style=_LEVEL_STYLES.get(event.level, ""))
    text.append(f"  {step}{' ' * (step_width - cell_len(step))}  ")
    return text.append("\n    ".join(clean_lines(event.message)))


def limit_text(limit: ActionLimit) -> str:
    """Return a limit and its current use: `search.*: 3 of 8 at once, 20 every 1 s`."""
    parts = []
    if limit.adaptive is not None:
        parts.append(f"{limit.in_flight} of {limit.adaptive.concurrency} at once, adaptive")
    elif limit.max_concurrency is not None:
        parts.append(f"{limit.in_flight} of {limit.max_concurrency} at once")
    if limit.rate is not None:
        parts.append(f"{limit.rate.count} every {limit.rate.period.total_seconds():g} s")
    if limit.adaptive is not None and limit.adaptive.paused_until is not None:
        parts.append(f"paused until {time_text(limit.adaptive.paused_until)}")
    return f"{limit.actions}{' (each key)' if limit.per_key else ''}: {', '.join(parts)}"


def missing_line(actions: Iterable[str]) -> str:
    """Return the text for a run or step that waits for actions that its server does not have."""
    return f"waits for a server with the action {', '.join(map(one_line, actions))}"


def approve_command(run_id: str, step_id: str) -> str:
    """Return the command line that completes a waiting step. Shells read brackets, so ids of children are quoted."""
    return f"stepwave approve {run_id} {quote(step_id)}"


def waiting_line(event: StepWaiting, action: str) -> str:
    """Return what a ready step waits for, beginning with "for".

    Args:
        event: The event.
        action: The step's action; empty: it is not known.
    """
    if event.cause is WaitCause.ACTION_MISSING and action:
        return f"for a server with the action {one_line(action)}"
    if event.cause is WaitCause.EXTERNAL:
        return f"for an answer: {approve_command(event.run_id, event.step_id)}"
    cause = "a server with its action" if event.cause is WaitCause.ACTION_MISSING else event.cause
    message = one_line(event.message)
    return f"for {cause}: {message}" if message else f"for {cause}"


def waiting_text(event: StepWaiting, action: str) -> str:
    """Return what a ready step waits for, short enough for a row of the live view: `waiting: limit search`.

    Args:
        event: The event.
        action: The step's action; empty: it is not known.
    """
    if event.cause is WaitCause.ACTION_MISSING:
        return f"waits {waiting_line(event, action)}"
    if event.limit:
        return f"waiting: limit {event.limit}"
    cause, message = _WAIT_TEXTS.get(event.cause, str(event.cause)), one_line(event.message)
    return f"waiting: {cause} ({message})" if message else f"waiting: {cause}"
