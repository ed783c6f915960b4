"""What a run looks like so far: its events folded into waves, steps and counts, ready to be drawn."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

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
    WaitCause,
    Wave,
)
from stepwave._model.results import Failure, RunResult, State, StepResult

from .text import failure_line, one_line, skip_line, value_text, waiting_line

__all__ = ["Activity", "RunView", "StepView", "WaveView"]

_TAIL = 400
_RECENT = 200


class Activity(StrEnum):
    """What a step does: its state, where a started one that has not ended may also lie between two attempts."""

    PENDING = "pending"
    READY = "ready"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether it stays so."""
        return self in _ENDED


_ENDED = frozenset(Activity(state) for state in State if state.ended)


@dataclass(slots=True)
class StepView:
    """A step as far as events told.

    Attributes:
        order: Counts the steps in the order of the plan.
        activity: What it does. Between attempts it backs off, then it is ready: it waits for a place.
        note: What it does just now, or why it did not succeed, on one line.
        tail: The end of what its attempt streamed.
        missing: Whether it waits for a server that has its action.
    """

    step_id: str
    wave: int
    order: int
    action: str = ""
    activity: Activity = Activity.PENDING
    attempt: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    fraction: float | None = None
    note: str = ""
    tail: str = ""
    missing: bool = False


@dataclass(slots=True)
class WaveView:
    """A wave: its steps in declaration order, and how many of them do what."""

    index: int
    steps: list[StepView] = field(default_factory=list)
    counts: Counter[Activity] = field(default_factory=Counter)


class RunView:
    """Folds a run's events, in constant time each.

    Args:
        actions: What is known of the steps' actions before they start, by step id.
        rerun_of: The run that this one repeats, if it repeats one.
        paused_at: The number of the newest event of a run that its server leaves alone: what comes after it ends that.

    Attributes:
        run_id: Empty until the run started, as is `workflow_name`.
        steps: Every step by id.
        waves: By index.
        counts: How many steps do what.
        begun: The steps that have started and not ended, in the order of their first attempts.
        missing: The steps that wait for a server with their action, the longest-waiting first.
        failed: The failed steps, the earliest first.
        recent: The last steps that ended otherwise, the latest last.
        paused: Whether its server leaves it alone.
        result: What the run came to, once it ended.
    """

    def __init__(
        self, actions: Mapping[str, str] | None = None, *, rerun_of: str = "", paused_at: int | None = None
    ) -> None:
        self.rerun_of = rerun_of
        self.paused = paused_at is not None
        self._paused_at = paused_at or 0
        self.run_id = ""
        self.workflow_name = ""
        self.steps: dict[str, StepView] = {}
        self.waves: dict[int, WaveView] = {}
        self.counts: Counter[Activity] = Counter()
        self.begun: dict[str, StepView] = {}
        self.missing: dict[str, StepView] = {}
        self.failed: list[StepView] = []
        self.recent: deque[StepView] = deque(maxlen=_RECENT)
        self.start_time: datetime | None = None
        self.stopping: Failure | None = None
        self.result: RunResult | None = None
        self._actions = actions or {}

    @property
    def ended(self) -> int:
        """How many steps have ended."""
        return sum(count for activity, count in self.counts.items() if activity.ended)

    def apply(self, event: Event) -> None:
        """Take the next event; kinds that change nothing here are ignored."""
        if event.sequence > self._paused_at:
            self.paused = False
        match event:
            case RunStarted():
                self.run_id, self.workflow_name = event.run_id, event.workflow_name
                self.start_time = self.start_time or event.time
                self._add(event.waves)
            case StepsAdded():
                self._add(event.waves)
            case StepStarted():
                self._begin(event)
            case StepFinished(result=result):
                self._end(self._step(result.step_id, result.wave), result)
            case StepRetrying() | StepReady():
                self._pause(self.steps.get(event.step_id), event)
            case StepChunk() | StepProgress() | StepWaiting():
                self._note(self.steps.get(event.step_id), event)
            case RunStopping(failure=failure):
                self.stopping = failure
            case RunFinished(result=result):
                self.result = result

    def _add(self, waves: tuple[Wave, ...]) -> None:
        for wave in waves:
            for step_id in wave.step_ids:
                self._step(step_id, wave.index)

    def _step(self, step_id: str, wave: int) -> StepView:
        step = self.steps.get(step_id)
        if step is None:
            step = self.steps[step_id] = StepView(step_id, wave, len(self.steps), self._actions.get(step_id, ""))
            home = self.waves.setdefault(wave, WaveView(wave))
            home.steps.append(step)
            home.counts[step.activity] += 1
            self.counts[step.activity] += 1
        return step

    def _move(self, step: StepView, activity: Activity) -> None:
        for counts in (self.counts, self.waves[step.wave].counts):
            counts[step.activity] -= 1
            counts[activity] += 1
        step.activity = activity

    def _begin(self, event: StepStarted) -> None:
        step = self._step(event.step_id, event.wave)
        self._move(step, Activity.RUNNING)
        step.action, step.attempt = event.action, event.attempt
        step.start_time = step.start_time or event.time
        step.fraction, step.note, step.tail = None, "", ""
        self._found(step)
        self.begun[step.step_id] = step

    def _pause(self, step: StepView | None, event: StepRetrying | StepReady) -> None:
        """Note that a step is between two attempts: it backs off if it has to, then it waits for a place."""
        if step is None:
            return
        if isinstance(event, StepReady):
            self._move(step, Activity.READY)
            return
        waits = event.next_time is not None and event.next_time > event.time
        self._move(step, Activity.BACKING_OFF if waits else Activity.READY)
        follows = "its fallback follows" if event.fallback else "tries again"
        step.note = f"{follows}: {failure_line(event.failure)}"

    def _end(self, step: StepView, result: StepResult) -> None:
        self._move(step, Activity(result.state))
        self.begun.pop(step.step_id, None)
        self._found(step)
        step.action = result.action or step.action
        step.start_time, step.end_time = result.start_time, result.end_time
        step.fraction, step.tail = None, ""
        step.note = _outcome(result)
        (self.failed if result.state is State.FAILED else self.recent).append(step)

    def _found(self, step: StepView) -> None:
        step.missing = False
        self.missing.pop(step.step_id, None)

    def _note(self, step: StepView | None, event: StepChunk | StepProgress | StepWaiting) -> None:
        if step is None:
            return
        match event:
            case StepChunk(value=value):
                step.tail = (step.tail + value if isinstance(value, str) else value_text(value))[-_TAIL:]
            case StepProgress(fraction=fraction, message=message):
                step.fraction = fraction if fraction is not None else step.fraction
                step.note = one_line(message)
            case StepWaiting(cause=cause):
                step.note = f"waits {waiting_line(event, step.action)}"
                if cause is WaitCause.ACTION_MISSING:
                    step.missing = True
                    self.missing[step.step_id] = step


def _outcome(result: StepResult) -> str:
    if result.reused_from:
        return f"taken over from {result.reused_from}"
    if result.failure is not None:
        return failure_line(result.failure)
    if result.skip_reason is not None:
        return skip_line(result.skip_reason)
    if result.original_failure is not None:
        return f"by its fallback: {failure_line(result.original_failure)}"
    return f"attempt {result.attempts}" if result.attempts > 1 else ""
