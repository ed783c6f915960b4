"""The measures of one run: its committed events become numbers."""

import logging
from collections.abc import Iterable, Sequence

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    StepExpanded,
    StepFinished,
    StepRetrying,
    StepStarted,
)
from stepwave_server.core.model import WORKFLOW_ACTION, Failure, Reason, State
from stepwave_server.core.state import RunState
from stepwave_server.telemetry.metrics.measures import Measures

__all__ = ["RunMeasures"]

logger = logging.getLogger(__name__)

UNFINISHED = Failure(Reason.CANCELLED, "")

_SUCCEEDED = State.SUCCEEDED


class RunMeasures:
    """Turns the committed events of one run into numbers.

    Most steps succeed with their first attempt. Such a step costs two samples, and nothing is kept of it. Other steps
    are *irregular*: until they end, the action and the start of their attempt are kept, or that there is none.

    Args:
        key: The run.
        state: The state of the run, for the action and the start of a step. Its newest events may not be committed.
        measures: The numbers of the process.
        attempts: Whether its attempts are measured; `False`: the hosts that run them do that.
    """

    __slots__ = ("_attempts", "_broken", "_irregular", "_key", "_measures", "_state")

    def __init__(self, key: RunKey, state: RunState, measures: Measures, *, attempts: bool = True) -> None:
        self._attempts = attempts
        self._key = key
        self._state = state
        self._measures = measures
        self._irregular: dict[str, tuple[str, int] | None] = {}
        self._broken = False

    def add(self, events: Sequence[Event]) -> None:
        """Add the run's next committed events, in order. Never raises, because a metric must not break its run."""
        try:
            (self._add if self._attempts else self._add_steps)(events)
            self._measures.note(len(events))
        except Exception:
            if not self._broken:
                self._broken = True
                logger.exception("the metrics of a run are incomplete", extra={"run_id": self._key.run_id})

    def _add(self, events: Iterable[Event]) -> None:
        """Add events. Every step passes here twice, so this spares calls and lookups."""
        irregular, known, action_of = self._irregular, self._measures.actions, self._measures.action
        for event in events:  # the most frequent events first
            if isinstance(event, StepFinished):
                if (
                    event.attempts == 1
                    and event.state is _SUCCEEDED
                    and event.original is None
                    and event.step_id not in irregular
                    and (start := event.start_time) is not None
                ):
                    (known.get(event.action) or action_of(event.action)).regular(event.time - start)
                else:
                    self._step_finished(event)
            elif isinstance(event, StepStarted):
                (known.get(event.action) or action_of(event.action)).waits(event.time - event.ready_time)
                if event.attempt > 1 or event.step_id in irregular:
                    irregular[event.step_id] = event.action, event.time
            else:
                self._handle(event)

    def _add_steps(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, StepFinished):
                self._step_ended(event)
            elif isinstance(event, (RunStarted, RunFinished)):
                self._handle(event)

    def replay(self, events: Iterable[Event]) -> None:
        """Add events that an earlier process has committed, in order. They are not counted."""
        for event in events:
            if isinstance(event, StepFinished):
                self._irregular.pop(event.step_id, None)
            elif isinstance(event, StepStarted):
                if event.attempt > 1 or event.step_id in self._irregular:
                    self._irregular[event.step_id] = event.action, event.time
            elif isinstance(event, (StepRetrying, StepExpanded)):
                self._irregular[event.step_id] = None

    def _handle(self, event: Event) -> None:
        match event:
            case StepRetrying():
                self._attempt_ended(event.step_id, event.attempt, event.failure, event.time)
            case StepExpanded():
                attempt = self._state.steps[event.step_id].attempt if event.workflow is not None else 0
                self._attempt_ended(event.step_id, attempt, None, event.time)
            case RunStarted(more=False):
                self._measures.run_started(self._key.namespace)
            case RunFinished():
                self._measures.run_ended(self._key.namespace, event)

    def _step_finished(self, event: StepFinished) -> None:
        """Count an irregular step, and its last attempt if that is under way."""
        self._step_ended(event)
        self._attempt_ended(event.step_id, event.attempts, _last_failure(event), event.time)
        del self._irregular[event.step_id]

    def _step_ended(self, event: StepFinished) -> None:
        measures = self._measures.action(event.action or WORKFLOW_ACTION)
        measures.step_ended(event.state)
        if event.start_time is not None and self._state.steps[event.step_id].spec.for_each is None:
            measures.irregular_steps(event.time - event.start_time)

    def _attempt_ended(self, step_id: str, attempt: int, failure: Failure | None, time: int) -> None:
        """Count the end of the attempt that is under way, if there is one. The step is irregular from now on."""
        step = self._state.steps[step_id]
        first = (step.spec.action, step.start_time) if attempt and step.start_time is not None else None
        action, start = self._irregular.get(step_id, first) or ("", 0)
        self._irregular[step_id] = None
        if start:
            self._measures.action(action).attempt_ended(failure, time - start)


def _last_failure(event: StepFinished) -> Failure | None:
    """Return the failure of a step's last attempt; `None`: it succeeded.

    It failed if a fallback value then became the step's output.
    """
    if event.state is not _SUCCEEDED:
        return event.failure or UNFINISHED
    original = event.original
    return original if original is not None and original.attempt == event.attempts else None
