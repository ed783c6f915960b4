"""A run as text: a line for each event, for pipes, logs and terminals without a cursor.

Only a log message may have several lines. Those after the first are indented.
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
    StepFinished,
    StepLog,
    StepProgress,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    StepWaiting,
    WaveFinished,
    WaveStarted,
)
from stepwave._model.results import StepResult

from .text import (
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


class EventLines:
    """Formats events as lines: the time since the run's start, the subject, what happened, and details.

    Args:
        actions: The steps' actions that are known before the steps start, by step id.
    """

    def __init__(self, actions: Mapping[str, str] | None = None) -> None:
        self._actions = dict(actions or {})
        self._start: datetime | None = None
        self._subject_width = len("wave 0")

    def line(self, event: Event) -> str:
        """Return the line for the run's next event."""
        if isinstance(event, StepStarted):
            self._actions[event.step_id] = event.action
        self._start = self._start or event.time
        subject, verb, details = self._parts(event)
        offset = (event.time - self._start).total_seconds()
        subject += " " * (self._subject_width - cell_len(subject))
        return f"{offset:9.3f} s  {subject}  {verb:<9}  {details}".rstrip()

    def _parts(self, event: Event) -> tuple[str, str, str]:
        match event:
            case RunStarted():
                return "run", "started", self._plan(event)
            case StepsAdded():
                return "run", "added", plural(len(event.step_ids), "step") + (", sealed" if event.sealed else "")
            case RunStopping(failure=failure):
                return "run", "stopping", failure_line(failure)
            case RunFinished(result=result):
                return "run", result.state, f"{duration_text(result.duration)}, {counts_text(result.counts)}"
            case WaveStarted(wave=wave):
                return f"wave {wave}", "started", ""
            case WaveFinished(wave=wave):
                return f"wave {wave}", "finished", ""
            case StepFinished(result=result):
                return result.step_id, result.state, _outcome(result)
            case StepWaiting(step_id=step_id):
                return step_id, "waiting", waiting_line(event, self._actions.get(step_id, ""))
            case _:
                return _step_parts(event)

    def _plan(self, event: RunStarted) -> str:
        ids = (step_id for wave in event.waves for step_id in wave.step_ids)
        widest = max(map(cell_len, ids), default=0)
        self._subject_width = max(self._subject_width, min(widest, _MAX_NAME_WIDTH))
        waves = "" if event.more else f" in {plural(event.waves[-1].index + 1 if event.waves else 0, 'wave')}"
        return f"{event.run_id}: {event.workflow_name}, {plural(event.step_count, 'step')}{waves}"


def _step_parts(event: Event) -> tuple[str, str, str]:
    match event:
        case StepStarted():
            return event.step_id, "started", event.action + (f", attempt {event.attempt}" if event.attempt > 1 else "")
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
    failure = f": {failure_line(result.failure)}" if result.failure else ""
    if result.by_fallback and result.original_failure is not None:
        failure = f", by its fallback: {failure_line(result.original_failure)}"
    attempts = f" in {result.attempts} attempts" if result.attempts > 1 else ""
    return f"{duration_text(result.duration)}{attempts}{failure}"
