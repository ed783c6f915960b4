"""The state of a run as the live view draws it: waves, steps and counts, updated by events.

The children of a list, and all steps within them, are counts at their step. Only those at work are kept one by one.
"""

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime

from stepwave._convert.paths import declared_id, outer
from stepwave._model.events import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepChunk,
    StepExpanded,
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
from stepwave._model.results import Failure, FailureCause, RunResult, State, StepResult

from .step_view import Activity, StepView, WaveView
from .text import failure_line, one_line, skip_line, value_text, waiting_text

__all__ = ["RunView"]

_MAX_STREAM_TEXT = 400  # characters
_MAX_RECENT = 200
_WAIT_ACTION = "core.wait"


class RunView:
    """The state of a run. Each event updates it in constant time.

    Args:
        actions: The steps' actions that are known before the steps start, by step id; those of steps within others by
            the path to them, without the indexes of items.
        rerun_of: The id of the run that this run repeats; empty: none.
        paused_at: The sequence number of a paused run's last event; `None`: the run is not paused. The run is no longer
            paused after a later event.
        in_process: Whether the run is in this process, where no other command finds it.

    Attributes:
        run_id: The run's id; empty until the run starts, like `workflow_name`.
        steps: The steps of the run's own workflow by id.
        waves: The waves by index, with these steps.
        counts: The number of all known steps with each activity, those within others included.
        started: The steps at any depth that have started and not ended, in the order of their first attempts.
        expanded: The steps that became several and have not ended; those of `steps` alone.
        to_complete: The steps at any depth that wait to be completed from outside.
        waiting: The steps that wait to start, and do not back off, the longest wait first; none within lists, unless
            their action is missing.
        within: The steps within others, as far as they are kept: those within lists until they end, others until the
            step around them ends.
        without_action: Those of them that wait for a server with their action.
        failed: The failed steps of `steps`, the earliest first.
        recent: The last steps that ended without failing, the latest last.
        open: Whether steps may still be added.
        paused: Whether the run is paused.
        lost_time: When the connection to the server was lost; `None`: there is a connection.
        result: The run's result; `None` until the run ends.
    """

    def __init__(
        self,
        actions: Mapping[str, str] | None = None,
        *,
        rerun_of: str = "",
        paused_at: int | None = None,
        in_process: bool = False,
    ) -> None:
        self.in_process = in_process
        self.rerun_of = rerun_of
        self.paused = paused_at is not None
        self._paused_at = paused_at or 0
        self.run_id = ""
        self.workflow_name = ""
        self.steps: dict[str, StepView] = {}
        self.waves: dict[int, WaveView] = {}
        self.counts: Counter[Activity] = Counter()
        self.started: dict[str, StepView] = {}
        self.expanded: dict[str, StepView] = {}
        self.to_complete: dict[str, StepView] = {}
        self.waiting: dict[str, StepView] = {}
        self._handed_over: set[str] = set()
        self.without_action: dict[str, StepView] = {}
        self.failed: list[StepView] = []
        self.recent: deque[StepView] = deque(maxlen=_MAX_RECENT)
        self.open = False
        self.start_time: datetime | None = None
        self.stopping: Failure | None = None
        self.lost_time: datetime | None = None
        self.result: RunResult | None = None
        self._actions = actions or {}
        self.within: dict[str, StepView] = {}
        self._names: dict[str, list[str]] = {}  # of the steps of nested workflows, by the path of their step
        for path in self._actions:
            before, _, name = path.rpartition("/")
            if before:
                self._names.setdefault(before, []).append(name)

    @property
    def total(self) -> int:
        """The number of steps that are known, and of all steps once the run has ended."""
        return self.counts.total() if self.result is None else self.result.counts.total

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
                self.open = event.open
                self._add_steps(event.waves)
            case StepsAdded():
                self.open = not event.sealed
                self._add_steps(event.waves)
            case StepStarted():
                self._start(event)
            case StepFinished(result=result):
                self._end(self._step(result.step_id, result.wave), result)
            case StepExpanded():
                self._expand(self._step(event.step_id), event)
            case StepRetrying() | StepReady():
                self._retry(self._find(event.step_id), event)
            case StepChunk() | StepProgress() | StepWaiting():
                self._apply_transient(self._find(event.step_id), event)
            case RunStopping(failure=failure):
                self.stopping = failure
            case RunFinished(result=result):
                self.result = result

    def _add_steps(self, waves: tuple[Wave, ...]) -> None:
        for wave in waves:
            for step_id in wave.step_ids:
                self._step(step_id, wave.index)

    def _find(self, step_id: str) -> StepView | None:
        return self.steps.get(step_id) or self.within.get(step_id)

    def _step(self, step_id: str, wave: int = 0) -> StepView:
        """Return a step, which is new if no event has named it yet."""
        step = self._find(step_id)
        if step is None:
            outer_id = outer(step_id)
            step = self._new_within(step_id, self._step(outer_id, wave)) if outer_id else self._new_step(step_id, wave)
        return step

    def _new_step(self, step_id: str, wave: int) -> StepView:
        step = self.steps[step_id] = StepView(step_id, wave, len(self.steps), self._actions.get(step_id, ""))
        view = self.waves.setdefault(wave, WaveView(wave))
        view.steps.append(step)
        self._count(step)
        return step

    def _new_within(self, step_id: str, around: StepView) -> StepView:
        in_list = around.in_list or step_id.endswith("]")
        action = self._actions.get(declared_id(step_id), "")
        step = StepView(step_id, around.wave, len(around.inner_steps), action, outer=around, in_list=in_list)
        self.within[step_id] = step
        if not in_list:
            around.inner_steps.append(step)
        if around.unseen:
            around.unseen -= 1  # it is counted already
        else:
            self._count(step)
        return step

    def _count(self, step: StepView) -> None:
        for counts in self._counts_of(step):
            counts[step.activity] += 1

    def _counts_of(self, step: StepView) -> tuple[Counter[Activity], Counter[Activity]]:
        own = self.waves[step.wave].counts if step.outer is None else step.outer.inner_counts
        return self.counts, own

    def _set_activity(self, step: StepView, activity: Activity) -> None:
        for counts in self._counts_of(step):
            counts[step.activity] -= 1
            counts[activity] += 1
        step.activity = activity

    def _expand(self, step: StepView, event: StepExpanded) -> None:
        """Show that a step became several."""
        self._set_activity(step, Activity.RUNNING)
        step.expanded, step.item_count = True, event.item_count
        step.start_time = step.start_time or event.time
        step.fraction, step.note, step.stream_text = None, "", ""
        self._clear_waiting(step)
        self.started.pop(step.step_id, None)
        if step.outer is None:
            self.expanded[step.step_id] = step
        names = event.nested_step_ids or self._names.get(declared_id(step.step_id), ())
        if event.item_count is None and not step.in_list:
            for name in names:
                self._step(f"{step.step_id}/{name}", step.wave)
            return
        step.unseen = len(names) if event.item_count is None else event.item_count
        for counts in (self.counts, step.inner_counts):
            counts[Activity.PENDING] += step.unseen

    def _start(self, event: StepStarted) -> None:
        step = self._step(event.step_id, event.wave)
        self._set_activity(step, Activity.RUNNING)
        step.action, step.attempt = event.action, event.attempt
        step.start_time = step.start_time or event.time
        step.fraction, step.note, step.stream_text = None, "", ""
        self._clear_waiting(step)
        if event.action == _WAIT_ACTION:
            self._set_activity(step, Activity.WAITING)
            step.note = "waits for an answer"
            self.to_complete[step.step_id] = step
        else:
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
        for steps in (self.started, self.expanded):
            steps.pop(step.step_id, None)
        self._clear_waiting(step)
        step.action = result.action or step.action
        step.start_time, step.end_time = result.start_time, result.end_time
        step.fraction, step.stream_text = None, ""
        step.note = _outcome(result)
        self._fold(step)
        if step.outer is None:
            (self.failed if result.state is State.FAILED else self.recent).append(step)
            return
        if result.failure is not None and result.state is State.FAILED:
            _report_problem(step, result.failure)
        if step.in_list:
            del self.within[step.step_id]

    def _fold(self, step: StepView) -> None:
        """Forget the steps within a step that has ended."""
        for inner in step.inner_steps:
            self._fold(inner)
            self.within.pop(inner.step_id, None)
        step.inner_steps.clear()

    def _clear_waiting(self, step: StepView) -> None:
        self._handed_over.discard(step.step_id)
        step.action_missing, step.next_time = False, None
        for steps in (self.waiting, self.without_action, self.to_complete):
            steps.pop(step.step_id, None)

    def _apply_transient(self, step: StepView | None, event: StepChunk | StepProgress | StepWaiting) -> None:
        if step is None:
            return
        if step.action_missing and step.step_id in self._handed_over and not isinstance(event, StepWaiting):
            self._run_again(step)
        match event:
            case StepChunk(value=value):
                text = step.stream_text + value if isinstance(value, str) else value_text(value)
                step.stream_text = text[-_MAX_STREAM_TEXT:]
            case StepProgress(fraction=fraction, message=message):
                step.fraction = fraction if fraction is not None else step.fraction
                step.note = one_line(message)
            case StepWaiting():
                self._wait(step, event)

    def _run_again(self, step: StepView) -> None:
        """Show that a host runs an attempt that was started and waited for one."""
        self._clear_waiting(step)
        self._set_activity(step, Activity.RUNNING)
        self.started[step.step_id] = step

    def _wait(self, step: StepView, event: StepWaiting) -> None:
        if step.activity.ended or step.step_id in self.to_complete:  # a late event
            return
        if step.activity is Activity.RUNNING:
            if event.cause is not WaitCause.ACTION_MISSING:  # a late event
                return
            self._handed_over.add(step.step_id)  # with Temporal, an attempt starts before a host has it
            self.started.pop(step.step_id, None)
        if step.in_list and event.cause is not WaitCause.ACTION_MISSING:
            return
        self._set_activity(step, Activity.WAITING)
        step.note = waiting_text(event, step.action)
        self.waiting[step.step_id] = step
        step.action_missing = event.cause is WaitCause.ACTION_MISSING
        if step.action_missing:
            self.without_action[step.step_id] = step
        else:
            self.without_action.pop(step.step_id, None)


def _report_problem(step: StepView, failure: Failure) -> None:
    """Show a step's failure at the steps that it is within, unless it only repeats the failure of one within it."""
    if failure.cause is FailureCause.NESTED_STEP_FAILED:
        return
    around = step.outer
    while around is not None:
        around.problem = around.problem or f"{step.step_id}: {failure_line(failure)}"
        around = around.outer


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
