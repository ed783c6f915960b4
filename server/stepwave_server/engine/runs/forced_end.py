"""The forced end of a run that the core cannot end: it is broken, or was ended from outside.

It is built from the committed events alone. It neither decides nor folds, so a defect in the core cannot prevent it.
Events that cannot be encoded are left out. The run's last event must be encoded.
"""

import logging
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from google.protobuf.message import DecodeError

from stepwave.v1 import workflow_pb2
from stepwave_server.core.info import RunInfo
from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepsAdded,
    StepStarted,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import Failure, Reason, Skip, SkipCause, State
from stepwave_server.engine.runs.recovery import FAILED_BY_DEFECT, decodable_events
from stepwave_server.journal import Ended, Header
from stepwave_server.wire.events.encode import Encoder, Record

__all__ = ["ForcedEnd", "forced_end"]

logger = logging.getLogger(__name__)


class ForcedEnd(NamedTuple):
    """The forced end of a run.

    Attributes:
        events: The run's last events.
        records: The encoded events, without those that cannot be encoded.
        ended: The journal's summary of the run.
    """

    events: Sequence[Event]
    records: Sequence[Record]
    ended: Ended


def forced_end(header: Header, records: Sequence[Record], now: int, failure: Failure = FAILED_BY_DEFECT) -> ForcedEnd:
    """Return the forced end of a run. Every step ends, and the run fails.

    Args:
        header: The run's definition.
        records: The run's committed events.
        now: The time in nanoseconds since the epoch.
        failure: Why the run fails.
    """
    history = _History(header, records, failure)
    now = max(now, history.time)
    encode = Encoder(header.key.run_id, history.definition.name, header.create_time).encode
    events: list[Event] = []
    added: list[Record] = []
    for event in history.missing_ends(now):
        events.append(event)
        try:
            added.append(encode(len(records) + len(added) + 1, event))
        except Exception:
            logger.exception(
                "an event of a broken run cannot be encoded, and is left out", extra={"run_id": header.key.run_id}
            )
        else:
            history.add(len(records) + len(added), event)
    events.append(history.run_finished(now))
    added.append(encode(len(records) + len(added) + 1, events[-1]))
    return ForcedEnd(events, added, history.summary(len(records) + len(added), now))


@dataclass(slots=True)
class _Step:
    """The history of a step.

    Attributes:
        state: Its final state; before its end, the state that the forced end gives it.
        finish: The sequence number of its `step_finished` event; 0: it has none.
    """

    id: str
    action: str
    index: int
    wave: int = 0
    attempts: int = 0
    ready_time: int | None = None
    start_time: int | None = None
    state: State = State.SKIPPED
    finish: int = 0

    def end(self, now: int, because: Failure) -> StepFinished:
        """Return the `step_finished` event of a step without one: cancelled if it was started, else skipped."""
        failure = skip = None
        if self.state is State.CANCELLED:
            failure = replace(because, reason=Reason.CANCELLED, step_id=self.id, attempt=self.attempts)
        else:
            skip = Skip(SkipCause.CANCELLED)
        return StepFinished(
            time=now,
            step_id=self.id,
            action=self.action,
            state=self.state,
            wave=self.wave,
            attempts=self.attempts,
            failure=failure,
            skip=skip,
            ready_time=self.ready_time,
            start_time=self.start_time,
        )


class _History:
    """The history of a run, from the parts of its definition and events that can be decoded.

    Attributes:
        definition: The workflow.
        time: The time of the newest event.
    """

    def __init__(self, header: Header, records: Sequence[Record], failure: Failure) -> None:
        self._header = header
        self._failure = failure
        self.definition = _definition(header)
        self.time = self._start_time = header.create_time
        self._steps = {step.id: _Step(step.id, step.action, index) for index, step in enumerate(self.definition.steps)}
        self._open_waves: set[int] = set()
        for sequence, event in decodable_events(records):
            self.add(sequence, event)

    def add(self, sequence: int, event: Event) -> None:
        """Add an event of the run."""
        self.time = event.time
        match event:
            case RunStarted():
                self._start_time = event.time
                for wave in event.waves:
                    for step_id in wave.step_ids:
                        self._step(step_id).wave = wave.index
            case StepsAdded():
                for added in event.steps:
                    self._step(added.id).action = added.action
                for wave in event.waves:
                    for step_id in wave.step_ids:
                        self._step(step_id).wave = wave.index
            case StepStarted():
                self._start_step(self._step(event.step_id), event)
            case StepFinished():
                step = self._step(event.step_id)
                step.state, step.finish = event.state, sequence
            case WaveStarted():
                self._open_waves.add(event.wave)
            case WaveFinished():
                self._open_waves.discard(event.wave)
            case _:
                pass

    def missing_ends(self, now: int) -> Iterator[Event]:
        """Yield the missing ends of steps and waves. Steps come in the order of their waves: dependencies first."""
        left = [step for step in self._steps.values() if not step.finish]
        for step in sorted(left, key=lambda step: (step.wave, step.index)):
            yield step.end(now, self._failure)
        for wave in sorted(self._open_waves):
            yield WaveFinished(now, wave)

    def run_finished(self, now: int) -> RunFinished:
        """Return the run's last event. It has no outputs; the steps keep theirs."""
        failures = (self._failure,)
        return RunFinished(
            time=now,
            state=State.FAILED,
            start_time=self._start_time,
            outputs=(),
            omitted=(),
            omitted_count=0,
            failures=failures,
            failure_count=len(failures),
            counts=self._counts(),
        )

    def summary(self, last: int, now: int) -> Ended:
        """Return the journal's summary of the run; `last` is the sequence number of its last event."""
        info = RunInfo(
            key=self._header.key,
            workflow_name=self.definition.name,
            state=State.FAILED,
            labels=dict(self.definition.labels),
            create_time=self._header.create_time,
            start_time=self._start_time,
            end_time=now,
            counts=self._counts(),
            last_sequence=last,
            open=False,
            stopping=False,
            rerun_of=self._header.rerun_of,
            workflow_digest=self._header.workflow_digest,
            created_by=self._header.created_by,
        )
        finishes = array("I", (step.finish for step in self._steps.values()))
        return Ended(info=info, finishes=finishes, outputs=array("I"))

    def _step(self, step_id: str) -> _Step:
        """Return a step. A step that the definition lacks is added after the others."""
        return self._steps.setdefault(step_id, _Step(step_id, "", len(self._steps)))

    def _start_step(self, step: _Step, event: StepStarted) -> None:
        step.wave, step.attempts, step.ready_time = event.wave, event.attempt, event.ready_time
        step.start_time = step.start_time or event.time
        step.state = State.CANCELLED

    def _counts(self) -> tuple[int, ...]:
        states = [step.state for step in self._steps.values()]
        return tuple(map(states.count, State))


def _definition(header: Header) -> workflow_pb2.Workflow:
    try:
        return workflow_pb2.Workflow.FromString(header.workflow)
    except DecodeError:
        return workflow_pb2.Workflow()
