"""The last resort for a run that the core cannot bring to an end: one made of what is committed alone.

It decides nothing and folds nothing, so a defect there cannot stop it. Events that cannot be made into bytes are left
out, but for the run's last one.
"""

import logging
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.message import DecodeError

from stepwave.v1 import workflow_pb2
from stepwave_server.core.info import RunInfo
from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import Failure, Reason, Skip, SkipCause, State
from stepwave_server.engine.runs.recovery import FAILED_BY_DEFECT, readable
from stepwave_server.journal import Ended, Header
from stepwave_server.wire.events.encode import Encoder, Record

__all__ = ["PlainEnd", "plain_end"]

logger = logging.getLogger(__name__)


class PlainEnd(NamedTuple):
    """The end of a run.

    Attributes:
        events: Its last events.
        records: Those of them that can be made into bytes.
        ended: What the journal keeps of it.
    """

    events: Sequence[Event]
    records: Sequence[Record]
    ended: Ended


def plain_end(header: Header, records: Sequence[Record], now: int) -> PlainEnd:
    """Return the end of a run whose committed events are these: every step has an end, and the run has failed."""
    known = _Known(header, records)
    now = max(now, known.time)
    encode = Encoder(header.key.run_id, known.definition.name, header.create_time).encode
    events: list[Event] = []
    added: list[Record] = []
    for event in known.closing(now):
        events.append(event)
        try:
            added.append(encode(len(records) + len(added) + 1, event))
        except Exception:
            logger.exception("an event of a run that broke is left out", extra={"run_id": header.key.run_id})
        else:
            known.take(len(records) + len(added), event)
    events.append(known.end(now))
    added.append(encode(len(records) + len(added) + 1, events[-1]))
    return PlainEnd(events, added, known.ended(len(records) + len(added), now))


@dataclass(slots=True)
class _Step:
    """What is known of a step.

    Attributes:
        state: What it came to, or comes to now.
        finish: The number of its `step_finished` event; 0: it has none.
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

    def end(self, now: int) -> StepFinished:
        """Return the end of a step that has none, as that of one whose run is stopped."""
        failure = skip = None
        if self.state is State.CANCELLED:
            failure = Failure(Reason.CANCELLED, FAILED_BY_DEFECT.message, step_id=self.id, attempt=self.attempts)
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


class _Known:
    """What a run's definition and events tell, as far as they can be read.

    Attributes:
        definition: The workflow.
        time: When the newest event happened.
    """

    def __init__(self, header: Header, records: Sequence[Record]) -> None:
        self._header = header
        self.definition = _definition(header)
        self.time = self._start_time = header.create_time
        self._steps = {step.id: _Step(step.id, step.action, index) for index, step in enumerate(self.definition.steps)}
        self._open_waves: set[int] = set()
        for sequence, event in readable(records):
            self.take(sequence, event)

    def take(self, sequence: int, event: Event) -> None:
        """Take an event of the run."""
        self.time = event.time
        match event:
            case RunStarted():
                self._start_time = event.time
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

    def closing(self, now: int) -> Iterator[Event]:
        """Yield the ends that are missing: a step's after those of its dependencies, which are in earlier waves."""
        left = [step for step in self._steps.values() if not step.finish]
        for step in sorted(left, key=lambda step: (step.wave, step.index)):
            yield step.end(now)
        for wave in sorted(self._open_waves):
            yield WaveFinished(now, wave)

    def end(self, now: int) -> RunFinished:
        """Return the run's last event. Its outputs stay with the steps that gave them."""
        failures = (FAILED_BY_DEFECT,)
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

    def ended(self, last: int, now: int) -> Ended:
        """Return what the journal keeps of the end; `last` is the number of the last event."""
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
        )
        return Ended(info, array("I", (step.finish for step in self._steps.values())), array("I"))

    def _step(self, step_id: str) -> _Step:
        """Return a step; one that the definition lacks stands behind the others."""
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
