"""Reads the inputs of a run from the history of its Temporal workflow.

The inputs that one completed workflow task took in form a batch: requests of callers first, then outcomes of attempts,
then timers, each in their order in the history. The time of the batch is the start of that task.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionSignaledEventAttributes
from temporalio.converter import DataConverter, PayloadConverter
from temporalio.exceptions import CancelledError

from stepwave_server.core.messages import CancelRequested
from stepwave_server.engine.temporal.codec import (
    NO_VALUE,
    SIGNAL,
    StartInput,
    attempt_of_activity,
    decode_start,
    from_signal,
    max_bytes,
    outcome_of_answer,
    outcome_of_error,
)
from stepwave_server.engine.temporal.driver_messages import DriverInput, HistorySize, TimerDue
from stepwave_server.engine.temporal.progress import Progress, progress_of_answer, progress_of_error

__all__ = ["Batch", "HistoryReader", "Inbox"]

_CONVERTER = DataConverter.default


@dataclass(slots=True)
class Inbox:
    """The inputs that a workflow task takes in, by kind."""

    start: list[DriverInput] = field(default_factory=list)
    requests: list[DriverInput] = field(default_factory=list)
    outcomes: list[DriverInput] = field(default_factory=list)
    timers: list[DriverInput] = field(default_factory=list)

    def take(self) -> list[DriverInput]:
        """Return the inputs in the order in which they are decided, and forget them."""
        inputs = [*self.start, *self.requests, *self.outcomes, *self.timers]
        self.start, self.requests, self.outcomes, self.timers = [], [], [], []
        return inputs

    def extend(self, later: "Inbox") -> None:
        """Add the inputs of a later inbox, which is empty then."""
        self.start += later.start
        self.requests += later.requests
        self.outcomes += later.outcomes
        self.timers += later.timers
        later.take()

    def __bool__(self) -> bool:
        """Return whether there are inputs."""
        return bool(self.start or self.requests or self.outcomes or self.timers)


class Batch(NamedTuple):
    """The inputs of one workflow task.

    Attributes:
        time: When the task started, in nanoseconds since the epoch.
        inputs: The inputs, in the order in which they are decided.
    """

    time: int
    inputs: list[DriverInput]


class HistoryReader:
    """Reads the events of one history, in their order.

    Attributes:
        last_event: The id of the last event; 0: there was none.
        start: What the workflow was started with; `None`: that was not read yet.
        closed: Why the workflow ended; empty: it has not ended. `completed` if it ended by itself.
        close_reason: What an operator who terminated it said.
        close_time: When it ended, in nanoseconds since the epoch.
        in_task: Whether a workflow task has started, and its end was not read yet.
        last_progress: The step, the attempt and its last progress, if the last event ended one that showed progress.
    """

    def __init__(self) -> None:
        self.last_event = 0
        self.start: StartInput | None = None
        self.closed = ""
        self.close_reason = ""
        self.close_time = 0
        self.in_task = False
        self.last_progress: tuple[str, int, Progress] | None = None
        self._inbox = Inbox()
        self._task = Inbox()
        self._task_time = 0
        self._task_size = HistorySize(0, 0)
        self._activities: dict[int, tuple[str, int, str]] = {}
        self._timers: dict[int, str] = {}

    def add(self, event: HistoryEvent) -> Batch | None:
        """Add an event. Return the batch that is complete with it; `None`: none is."""
        self.last_event = event.event_id
        self.last_progress = None
        kind = event.event_type
        if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
            self._start_task(event)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            return self._complete_task()
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            self._add_signal(event.workflow_execution_signaled_event_attributes)
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
            self._inbox.timers.append(CancelRequested("the workflow was cancelled in Temporal"))
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            definition, options = _CONVERTER.payload_converter.from_payloads(payloads)
            self.start = decode_start(definition, options, event.event_time.ToNanoseconds())
            self._inbox.start.append(self.start.started)
        else:
            self._add_activity(event) or self._add_timer(event) or self._add_close(event)
        return None

    def _start_task(self, event: HistoryEvent) -> None:
        """Note what a task takes in. The inputs of a task that failed are taken in by the next one as well."""
        self.in_task = True
        self._task_time = event.event_time.ToNanoseconds()
        size = event.workflow_task_started_event_attributes.history_size_bytes
        self._task_size = HistorySize(event.event_id, size)
        self._task.extend(self._inbox)

    def _complete_task(self) -> Batch:
        self.in_task = False
        return Batch(self._task_time, [self._task_size, *self._task.take()])

    def _add_signal(self, signal: WorkflowExecutionSignaledEventAttributes) -> None:
        """Add a request of a caller. Signals of others are no inputs."""
        if signal.signal_name == SIGNAL:
            value = PayloadConverter.default.from_payload(signal.input.payloads[0])
            self._inbox.requests.append(from_signal(value))

    def _add_activity(self, event: HistoryEvent) -> bool:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled = event.activity_task_scheduled_event_attributes
                step_id, attempt = attempt_of_activity(scheduled.activity_id)
                self._activities[event.event_id] = (step_id, attempt, scheduled.activity_type.name)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                step_id, attempt, action = self._activities.pop(completed.scheduled_event_id)
                self._inbox.outcomes.append(self._outcome(step_id, attempt, action, completed.result))
                for answer in completed.result.payloads:
                    self._note_progress(step_id, attempt, progress_of_answer(answer))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                failed = event.activity_task_failed_event_attributes
                step_id, attempt, _ = self._activities.pop(failed.scheduled_event_id)
                error = _CONVERTER.failure_converter.from_failure(failed.failure, _CONVERTER.payload_converter)
                self._inbox.outcomes.append(outcome_of_error(step_id, attempt, error))
                self._note_progress(step_id, attempt, progress_of_error(error))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                timed_out = event.activity_task_timed_out_event_attributes
                step_id, attempt, _ = self._activities.pop(timed_out.scheduled_event_id)
                error = _CONVERTER.failure_converter.from_failure(timed_out.failure, _CONVERTER.payload_converter)
                self._inbox.outcomes.append(outcome_of_error(step_id, attempt, error))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
                canceled = event.activity_task_canceled_event_attributes
                step_id, attempt, _ = self._activities.pop(canceled.scheduled_event_id)
                self._inbox.outcomes.append(outcome_of_error(step_id, attempt, CancelledError()))
            case _:
                return False
        return True

    def _note_progress(self, step_id: str, attempt: int, progress: Progress | None) -> None:
        if progress is not None:
            self.last_progress = step_id, attempt, progress

    def _outcome(self, step_id: str, attempt: int, action: str, result: Payloads) -> DriverInput:
        """Return the outcome of an attempt that answered. An activity without an answer answers `null`."""
        assert self.start is not None, "the start is the first event of a history"
        value = result.payloads[0] if result.payloads else NO_VALUE
        return outcome_of_answer(step_id, attempt, action, value, max_bytes(self.start))

    def _add_timer(self, event: HistoryEvent) -> bool:
        match event.event_type:
            case EventType.EVENT_TYPE_TIMER_STARTED:
                name = PayloadConverter.default.from_payload(event.user_metadata.summary)
                self._timers[event.event_id] = name
            case EventType.EVENT_TYPE_TIMER_FIRED:
                started = event.timer_fired_event_attributes.started_event_id
                self._inbox.timers.append(TimerDue(self._timers.pop(started)))
            case EventType.EVENT_TYPE_TIMER_CANCELED:
                self._timers.pop(event.timer_canceled_event_attributes.started_event_id, None)
            case _:
                return False
        return True

    def _add_close(self, event: HistoryEvent) -> bool:
        closed = _CLOSES.get(event.event_type)
        if closed is None:
            return False
        self.closed, self.close_time = closed, event.event_time.ToNanoseconds()
        self.close_reason = event.workflow_execution_terminated_event_attributes.reason
        return True


_CLOSES = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued as new",
}
