"""A run as text: a line for each event, for pipes, logs and terminals without a cursor.

Only a log message may have several lines. Those after the first are indented. Of the children of a list, and of steps
within them, there are lines for failures, messages, and waits for an answer: a list may have 100,000 items.
"""

from collections.abc import Mapping
from datetime import datetime

from rich.cells import cell_len

from stepwave._model.events import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepExpanded,
    StepFinished,
    StepLog,
    StepProgress,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    StepStopping,
    StepWaiting,
    WaitCause,
    WaveFinished,
    WaveStarted,
)
from stepwave._model.results import FailureCause, State, StepResult

from .text import (
    NO_SERVER_TEXT,
    clean_lines,
    counts_text,
    duration_text,
    failure_line,
    one_line,
    plural,
    skip_line,
    value_text,
    waiting_line,
)

__all__ = ["EventLines"]

_MAX_NAME_WIDTH = 32
_WAIT_ACTION = "core.wait"


class EventLines:
    """Formats events as lines: the time since the run's start, the subject, what happened, and details.

    Args:
        actions: The steps' actions that are known before the steps start, by step id.
        in_process: Whether the run is in this process, where no other command finds it.
    """

    def __init__(self, actions: Mapping[str, str] | None = None, *, in_process: bool = False) -> None:
        self._in_process = in_process
        self._actions = dict(actions or {})
        self._falling_back: set[str] = set()  # steps whose next attempt, if any, is their fallback's
        self._start: datetime | None = None
        self._subject_width = len("wave 0")

    def line(self, event: Event) -> str | None:
        """Return the line for the run's next event; `None`: it has none, as it is of a step within a list."""
        if isinstance(event, StepStarted):
            self._actions[event.step_id] = event.action
        if isinstance(event, StepRetrying) and event.fallback:
            self._falling_back.add(event.step_id)
        self._start = self._start or event.time
        if _is_folded(event):
            return None
        subject, verb, details = self._parts(event)
        if "/" in subject or "[" in subject:  # the plan has no steps within others
            self._subject_width = max(self._subject_width, min(cell_len(subject), _MAX_NAME_WIDTH))
        offset = (event.time - self._start).total_seconds()
        subject += " " * (self._subject_width - cell_len(subject))
        return f"{offset:9.3f} s  {subject}  {verb:<9}  {details}".rstrip()

    def _parts(self, event: Event) -> tuple[str, str, str]:
        match event:
            case RunStarted():
                return "run", "started", self._plan(event)
            case StepsAdded():
                return ("run", *_addition(event))
            case RunStopping(failure=failure):
                return "run", "stopping", failure_line(failure)
            case RunFinished(result=result):
                return "run", result.state, f"{duration_text(result.duration)}, {counts_text(result.counts)}"
            case WaveStarted(wave=wave):
                return f"wave {wave}", "started", ""
            case WaveFinished(wave=wave):
                return f"wave {wave}", "finished", ""
            case StepExpanded():
                return event.step_id, "expanded", _expansion(event)
            case StepStopping(failure=failure):
                return event.step_id, "stopping", failure_line(failure)
            case StepFinished(result=result):
                return result.step_id, result.state, _outcome(result)
            case StepStarted(step_id=step_id):
                return step_id, "started", event.action + _attempt(event.attempt, step_id in self._falling_back)
            case StepWaiting(step_id=step_id):
                return step_id, "waiting", self._wait(event)
            case _:
                return _step_parts(event)

    def _wait(self, event: StepWaiting) -> str:
        if self._in_process and event.cause is WaitCause.EXTERNAL:
            return f"for an answer, {NO_SERVER_TEXT}"
        return waiting_line(event, self._actions.get(event.step_id, ""))

    def _plan(self, event: RunStarted) -> str:
        ids = (step_id for wave in event.waves for step_id in wave.step_ids)
        widest = max(map(cell_len, ids), default=0)
        self._subject_width = max(self._subject_width, min(widest, _MAX_NAME_WIDTH))
        waves = "" if event.more else f" in {plural(event.waves[-1].index + 1 if event.waves else 0, 'wave')}"
        if event.open:
            waves = ", open"
        return f"{event.run_id}: {event.workflow_name}, {plural(event.step_count, 'step')}{waves}"


def _is_folded(event: Event) -> bool:
    """Return whether an event is of a step within a list, and not one to show."""
    match event:
        case StepFinished(result=result):
            repeats = result.failure is not None and result.failure.cause is FailureCause.NESTED_STEP_FAILED
            return "[" in result.step_id and (result.state is not State.FAILED or repeats)
        case StepStarted(step_id=step_id, action=action):
            return "[" in step_id and action != _WAIT_ACTION
        case StepWaiting(step_id=step_id, cause=cause):
            return "[" in step_id and cause is not WaitCause.EXTERNAL
        case StepExpanded() | StepChunk() | StepProgress() | StepRetrying() | StepReady() | StepStopping():
            return "[" in event.step_id
        case _:
            return False


def _expansion(event: StepExpanded) -> str:
    if event.item_count is not None:
        return plural(event.item_count, "item")
    if event.workflow_name:
        return f"{event.workflow_name}, {plural(len(event.nested_step_ids), 'step')}"
    return ""


def _addition(event: StepsAdded) -> tuple[str, str]:
    if event.sealed and not event.step_ids:
        return "sealed", ""
    return "added", plural(len(event.step_ids), "step") + (", sealed" if event.sealed else "")


def _step_parts(event: Event) -> tuple[str, str, str]:
    match event:
        case StepChunk():
            return event.step_id, "chunk", value_text(event.value)
        case StepProgress():
            percent = "" if event.fraction is None else f"{event.fraction:.0%} "
            return event.step_id, "progress", percent + one_line(event.message)
        case StepLog():
            return event.step_id, event.level, "\n    ".join(clean_lines(event.message))
        case StepRetrying():
            failed = f"attempt {event.attempt} failed" if event.attempt else "failed before its first attempt"
            fallback = "; its fallback follows" if event.fallback else ""
            return event.step_id, "retrying", f"{failed}: {failure_line(event.failure)}{fallback}"
        case StepReady():
            return event.step_id, "ready", f"attempt {event.attempt}"
        case _:
            return "run", event.kind, ""


def _outcome(result: StepResult) -> str:
    if result.reused_from:
        return f"taken over from {result.reused_from}"
    if result.skip_reason is not None:
        return skip_line(result.skip_reason).removeprefix("skipped: ")
    failure = result.original_failure if result.by_fallback else result.failure
    cause = f": {failure_line(failure)}" if failure else ""
    return f"{duration_text(result.duration)}{_attempts(result)}{cause}"


def _attempt(number: int, by_fallback: bool) -> str:
    return f", attempt {number}{', the fallback' if by_fallback else ''}" if number > 1 or by_fallback else ""


def _attempts(result: StepResult) -> str:
    """Return the number of attempts, and whether the fallback answered, with an attempt of its own or a fixed value."""
    attempts = f" in {result.attempts} attempts" if result.attempts > 1 else ""
    if result.original_failure is None:
        return attempts
    if attempts and result.attempts > result.original_failure.attempt:
        return f"{attempts}, the last by its fallback"
    return f"{attempts}, by its fallback" if result.by_fallback else attempts
