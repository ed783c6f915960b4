"""The state of a run as the live view draws it: waves, steps and counts, updated by events."""

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

from .text import failure_line, one_line, skip_line, value_text, waiting_text

__all__ = ["Activity", "RunView", "StepView", "WaveView"]

_MAX_STREAM_TEXT = 400  # characters
_MAX_RECENT = 200


class Activity(StrEnum):
    """The activity of a step: its state, or that it is ready, waits for a permit, or backs off after an attempt."""

    PENDING = "pending"
    READY = "ready"
    WAITING = "waiting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"

    @property
    def ended(self) -> bool:
        """Whether the step has ended."""
        return self in _ENDED


_ENDED = frozenset(Activity(state) for state in State if state.ended)


@dataclass(slots=True)
class StepView:
    """The state of a step, from the events so far.

    Attributes:
        order: The step's position in the plan.
        activity: What the step does. After an attempt it backs off, then it is ready. A ready step may have to wait for
            a permit.
        next_time: When the next attempt may start, while the step backs off.
        fallback_next: Whether the next attempt, or the one that runs, is the fallback's.
        note: What the step does now, or why it did not succeed, on one line.
        stream_text: The last characters that its attempt streamed.
        action_missing: Whether the step waits for a server that has its action.
    """

    step_id: str
    wave: int
    order: int
    action: str = ""
    activity: Activity = Activity.PENDING
    attempt: int = 0
    start_time: datetime | None = None
    end_time: datetime | None = None
    next_time: datetime | None = None
    fallback_next: bool = False
    fraction: float | None = None
    note: str = ""
    stream_text: str = ""
    action_missing: bool = False


@dataclass(slots=True)
class WaveView:
    """A wave: its steps in declaration order, and the number of steps with each activity."""

    index: int
    steps: list[StepView] = field(default_factory=list)
    counts: Counter[Activity] = field(default_factory=Counter)


class RunView:
    """The state of a run. Each event updates it in constant time.

    Args:
        actions: The steps' actions that are known before the steps start, by step id.
        rerun_of: The id of the run that this run repeats; empty: none.
        paused_at: The sequence number of a paused run's last event; `None`: the run is not paused. The run is no longer
            paused after a later event.

    Attributes:
        run_id: The run's id; empty until the run starts, like `workflow_name`.
        steps: The steps by id.
        waves: The waves by index.
        counts: The number of steps with each activity.
        started: The steps that have started and not ended, in the order of their first attempts.
        waiting: The steps that wait to start, and do not back off, the longest wait first.
        without_action: Those of them that wait for a server with their action.
        failed: The failed steps, the earliest first.
        recent: The last steps that ended without failing, the latest last.
        paused: Whether the run is paused.
        lost_time: When the connection to the server was lost; `None`: there is a connection.
        result: The run's result; `None` until the run ends.
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
        self.started: dict[str, StepView] = {}
        self.waiting: dict[str, StepView] = {}
        self.without_action: dict[str, StepView] = {}
        self.failed: list[StepView] = []
        self.recent: deque[StepView] = deque(maxlen=_MAX_RECENT)
        self.start_time: datetime | None = None
        self.stopping: Failure | None = None
        self.lost_time: datetime | None = None
        self.result: RunResult | None = None
        self._actions = actions or {}

    @property
    def ended(self) -> int:
        """The number of steps that have ended."""
        return sum(count for activity, count in self.counts.items() if activity.ended)

    def apply(self, event: Event) -> None:
        """Update the state with the next event. Kinds that the view does not show are ignored."""
        if event.sequence > self._paused_at:
            self.paused = False
        match event:
            case RunStarted():
                self.run_id, self.workflow_name = event.run_id, event.workflow_name
                self.start_time = self.start_time or event.time
                self._add_steps(event.waves)
            case StepsAdded():
                self._add_steps(event.waves)
            case StepStarted():
                self._start(event)
            case StepFinished(result=result):
                self._end(self._step(result.step_id, result.wave), result)
            case StepRetrying() | StepReady():
                self._retry(self.steps.get(event.step_id), event)
            case StepChunk() | StepProgress() | StepWaiting():
                self._apply_transient(self.steps.get(event.step_id), event)
            case RunStopping(failure=failure):
                self.stopping = failure
            case RunFinished(result=result):
                self.result = result

    def _add_steps(self, waves: tuple[Wave, ...]) -> None:
        for wave in waves:
            for step_id in wave.step_ids:
                self._step(step_id, wave.index)

    def _step(self, step_id: str, wave: int) -> StepView:
        step = self.steps.get(step_id)
        if step is None:
            step = self.steps[step_id] = StepView(step_id, wave, len(self.steps), self._actions.get(step_id, ""))
            view = self.waves.setdefault(wave, WaveView(wave))
            view.steps.append(step)
            view.counts[step.activity] += 1
            self.counts[step.activity] += 1
        return step

    def _set_activity(self, step: StepView, activity: Activity) -> None:
        for counts in (self.counts, self.waves[step.wave].counts):
            counts[step.activity] -= 1
            counts[activity] += 1
        step.activity = activity

    def _start(self, event: StepStarted) -> None:
        step = self._step(event.step_id, event.wave)
        self._set_activity(step, Activity.RUNNING)
        step.action, step.attempt = event.action, event.attempt
        step.start_time = step.start_time or event.time
        step.fraction, step.note, step.stream_text = None, "", ""
        self._clear_waiting(step)
        self.started[step.step_id] = step

    def _retry(self, step: StepView | None, event: StepRetrying | StepReady) -> None:
        """Show that a step is between two attempts: it may back off, then it is ready."""
        if step is None:
            return
        self._clear_waiting(step)
        if isinstance(event, StepReady):
            self._set_activity(step, Activity.READY)
            return
        backs_off = event.next_time is not None and event.next_time > event.time
        self._set_activity(step, Activity.BACKING_OFF if backs_off else Activity.READY)
        step.next_time = event.next_time if backs_off else None
        step.fallback_next = step.fallback_next or event.fallback  # an interrupted fallback is tried again
        step.fraction = None
        step.note = failure_line(event.failure)

    def _end(self, step: StepView, result: StepResult) -> None:
        self._set_activity(step, Activity(result.state))
        self.started.pop(step.step_id, None)
        self._clear_waiting(step)
        step.action = result.action or step.action
        step.start_time, step.end_time = result.start_time, result.end_time
        step.fraction, step.stream_text = None, ""
        step.note = _outcome(result)
        (self.failed if result.state is State.FAILED else self.recent).append(step)

    def _clear_waiting(self, step: StepView) -> None:
        step.action_missing, step.next_time = False, None
        self.waiting.pop(step.step_id, None)
        self.without_action.pop(step.step_id, None)

    def _apply_transient(self, step: StepView | None, event: StepChunk | StepProgress | StepWaiting) -> None:
        if step is None:
            return
        match event:
            case StepChunk(value=value):
                text = step.stream_text + value if isinstance(value, str) else value_text(value)
                step.stream_text = text[-_MAX_STREAM_TEXT:]
            case StepProgress(fraction=fraction, message=message):
                step.fraction = fraction if fraction is not None else step.fraction
                step.note = one_line(message)
            case StepWaiting():
                self._wait(step, event)

    def _wait(self, step: StepView, event: StepWaiting) -> None:
        if step.activity is Activity.RUNNING or step.activity.ended:  # a late event
            return
        self._set_activity(step, Activity.WAITING)
        step.note = waiting_text(event, step.action)
        self.waiting[step.step_id] = step
        step.action_missing = event.cause is WaitCause.ACTION_MISSING
        if step.action_missing:
            self.without_action[step.step_id] = step
        else:
            self.without_action.pop(step.step_id, None)


def _outcome(result: StepResult) -> str:
    if result.reused_from:
        return f"taken over from {result.reused_from}"
    if result.failure is not None:
        return failure_line(result.failure)
    if result.skip_reason is not None:
        return skip_line(result.skip_reason)
    if result.original_failure is not None:
        return f"fell back: {failure_line(result.original_failure)}"
    return f"attempt {result.attempts}" if result.attempts > 1 else ""
