"""A run as text: one line for each event, for pipes, logs and terminals without a cursor."""

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

from .text import counts_text, duration_text, failure_line, one_line, plural, skip_line, value_text, waiting_line

__all__ = ["EventLines"]

_LONGEST_NAME = 32


class EventLines:
    """Turns events into lines: the time since the run's start, what it is about, what happened, and more about it.

    Args:
        actions: What is known of the steps' actions before they start, by step id.
    """

    def __init__(self, actions: Mapping[str, str] | None = None) -> None:
        self._actions = dict(actions or {})
        self._start: datetime | None = None
        self._name_width = len("wave 0")

    def line(self, event: Event) -> str:
        """Return the line of the run's next event."""
        if isinstance(event, StepStarted):
            self._actions[event.step_id] = event.action
        self._start = self._start or event.time
        name, verb, words = self._parts(event)
        offset = (event.time - self._start).total_seconds()
        name += " " * (self._name_width - cell_len(name))
        return f"{offset:9.3f} s  {name}  {verb:<9}  {words}".rstrip()

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
        longest = max(map(cell_len, ids), default=0)
        self._name_width = max(self._name_width, min(longest, _LONGEST_NAME))
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
        case StepRetrying():
            what = f"attempt {event.attempt} failed" if event.attempt else "failed before its first attempt"
            follows = "; its fallback follows" if event.fallback else ""
            return event.step_id, "retrying", f"{what}: {failure_line(event.failure)}{follows}"
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
