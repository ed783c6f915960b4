"""What of a run is under way, by its events, and the export of what ends."""

import logging
from collections.abc import Iterable
from typing import assert_never

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event as SpanEvent
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import NonRecordingSpan, set_span_in_context
from opentelemetry.util.types import AttributeValue

from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepStarted,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import Failure, State
from stepwave_server.telemetry.outcome import (
    Outcome,
    broken_off,
    by_fallback,
    failure_attributes,
    original_attributes,
    outcome_of,
    run_outcome,
)
from stepwave_server.telemetry.spans import OpenStep, OpenWave, RunSpans

__all__ = ["Export", "RunTracer"]

logger = logging.getLogger(__name__)

MOST_EVENTS = 128
"""How many span events a run's span keeps, the newest, as OpenTelemetry bounds them; it tells how many were dropped."""


class Export:
    """Gives spans to a processor. Never raises: a processor is somebody else's code, and a trace has other spans.

    What it raises is logged once: what failed once would do so with every span.
    """

    __slots__ = ("_failed", "_processor")

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._failed = False

    def __call__(self, span: ReadableSpan) -> None:
        """Give it a span that has ended."""
        try:
            self._processor.on_end(span)
        except KeyboardInterrupt:
            raise
        except BaseException:
            if not self._failed:
                self._failed = True
                told = {"run_id": (span.attributes or {}).get("stepwave.run_id")}
                logger.exception("a span processor failed; it may miss spans, and so may those after it", extra=told)


class RunTracer:
    """Turns the committed events of one run into spans, each exported when it ends. `Telemetry.run` makes it.

    It holds what is under way and no more. A step that never started has no span, for nothing ran: it is a span event
    of the run's span. Not thread-safe.

    Args:
        run_id: The run, for the log.
        spans: Makes its spans.
        export: Where they go; `None`: there are none.
    """

    __slots__ = (
        "_broken",
        "_events",
        "_export",
        "_replaying",
        "_run_id",
        "_spans",
        "_start",
        "_steps",
        "_stopping",
        "_waves",
    )

    def __init__(self, run_id: str, spans: RunSpans, export: Export | None) -> None:
        self._run_id = run_id
        self._spans = spans
        self._export = export
        self._replaying = self._broken = False
        self._start = 0
        self._waves: dict[int, OpenWave] = {}
        self._steps: dict[str, OpenStep] = {}
        self._stopping: Failure | None = None
        self._events: BoundedList[SpanEvent] = BoundedList(MOST_EVENTS)

    def record(self, events: Iterable[Event]) -> None:
        """Take the run's next committed events, in order. Never raises: a trace is worth less than its run."""
        if self._export is None:
            return
        for event in events:
            try:
                self._take(event)
            except Exception:
                self._complain()

    def replay(self, events: Iterable[Event]) -> None:
        """Take events that an earlier process recorded, in order. Spans that ended with them were its to export."""
        self._replaying = True
        try:
            self.record(events)
        finally:
            self._replaying = False

    def abandon(self, time: int, message: str) -> None:
        """End every span that is under way, in error, because the run will have no more events. Never raises.

        Args:
            time: When, in nanoseconds since the epoch.
            message: Why.
        """
        if self._export is None:
            return
        try:
            self._end_leftovers(time, message)
            self._end_run(self._start or time, time, {}, broken_off(message))
        except Exception:
            self._complain()

    def attempt_context(self, step_id: str, wave: int, attempt: int) -> Context:
        """Return the context to run an attempt's action in: its attempt's span is the current one, sampled or not."""
        span = NonRecordingSpan(self._spans.attempt_context(wave, step_id, attempt))
        return set_span_in_context(span, Context())

    def _take(self, event: Event) -> None:  # the most frequent first
        match event:
            case StepFinished():
                self._step_finished(event)
            case StepStarted():
                self._step_started(event)
            case WaveStarted():
                self._waves[event.wave] = self._spans.open_wave(event.wave, event.time)
            case WaveFinished():
                self._end_wave(self._waves[event.wave])
            case StepRetrying():
                self._step_retrying(event)
            case RunStarted():
                self._start = event.time
            case RunStopping():
                self._run_stopping(event)
            case RunFinished():
                self._run_finished(event)
            case StepsAdded() | StepReady():
                pass
            case _:
                assert_never(event)

    def _step_started(self, event: StepStarted) -> None:
        step = self._steps.get(event.step_id)
        if step is None:
            self._steps[event.step_id] = OpenStep(event)
            self._waves[event.wave].ran += 1
        else:
            step.retry(event)

    def _step_retrying(self, event: StepRetrying) -> None:
        step = self._steps.get(event.step_id)
        if step is not None and step.attempting:
            outcome = outcome_of(State.FAILED, event.failure, event.time, abandoned=event.abandoned)
            self._end_attempt(step, event.time, outcome)

    def _step_finished(self, event: StepFinished) -> None:
        wave = self._waves.get(event.wave)
        if wave is not None:
            wave.note(event)
        step = self._steps.get(event.step_id)
        if step is None:
            self._note_unstarted(event)
            return
        outcome = outcome_of(event.state, event.failure, event.time, abandoned=event.abandoned)
        if step.attempting:
            self._end_attempt(step, event.time, _last_outcome(event, step.last.attempt, outcome))
        self._end_step(step, event.time, outcome if event.original is None else by_fallback(outcome, event.original))

    def _note_unstarted(self, event: StepFinished) -> None:
        attributes: dict[str, AttributeValue] = {"stepwave.step_id": event.step_id, "stepwave.wave": event.wave}
        if event.failure is not None:
            attributes |= failure_attributes(event.failure)
        if event.original is not None:
            attributes |= original_attributes(event.original)
        if event.reused_from:
            attributes["stepwave.reused_from"] = event.reused_from
        if event.skip is not None:
            attributes["stepwave.skip.cause"] = event.skip.cause.name.lower()
            if event.skip.step_id:
                attributes["stepwave.skip.step_id"] = event.skip.step_id
        self._events.append(SpanEvent(f"stepwave.step_{event.state.name.lower()}", attributes, event.time))

    def _run_stopping(self, event: RunStopping) -> None:
        self._stopping = event.failure
        self._events.append(SpanEvent("stepwave.run_stopping", failure_attributes(event.failure), event.time))

    def _run_finished(self, event: RunFinished) -> None:
        self._end_leftovers(event.time, "the run ended first")
        attributes = {
            f"stepwave.steps.{state.name.lower()}": count
            for state, count in zip(State, event.counts, strict=True)
            if state not in (State.PENDING, State.RUNNING)
        }
        self._end_run(event.start_time, event.time, attributes, run_outcome(event, self._stopping))

    def _end_attempt(self, step: OpenStep, time: int, outcome: Outcome) -> None:
        step.attempting = False
        if self._export is not None and not self._replaying:
            self._export(self._spans.attempt(step.last, time, outcome))

    def _end_step(self, step: OpenStep, time: int, outcome: Outcome) -> None:
        del self._steps[step.first.step_id]
        if self._export is not None and not self._replaying:
            self._export(self._spans.step(step, self._waves[step.first.wave], time, outcome))

    def _end_wave(self, wave: OpenWave) -> None:
        del self._waves[wave.index]
        if self._export is not None and not self._replaying:
            self._export(self._spans.wave(wave))

    def _end_run(self, start: int, end: int, attributes: dict[str, int], outcome: Outcome) -> None:
        self._events.extend(outcome.events)
        outcome = Outcome(outcome.status, outcome.attributes, self._events)
        if self._export is not None and not self._replaying:
            self._export(self._spans.run(start, end, attributes, outcome))

    def _end_leftovers(self, time: int, message: str) -> None:
        """End what did not end of itself, from the inside out."""
        outcome = broken_off(message)
        for step in [*self._steps.values()]:
            if step.attempting:
                self._end_attempt(step, time, outcome)
            self._waves[step.first.wave].end = time
            self._end_step(step, time, outcome)
        for wave in [*self._waves.values()]:
            self._end_wave(wave)

    def _complain(self) -> None:
        """Log once that the trace is not whole: what broke it once would do so with every event."""
        if not self._broken:
            self._broken = True
            logger.exception("the trace of a run is incomplete", extra={"run_id": self._run_id})


def _last_outcome(event: StepFinished, attempt: int, outcome: Outcome) -> Outcome:
    """Return how a step's last attempt ended: in failure where a fixed value then answered in the step's place."""
    original = event.original
    if event.state is State.SUCCEEDED and original is not None and original.attempt == attempt:
        return outcome_of(State.FAILED, original, event.time, abandoned=event.abandoned)
    return outcome
