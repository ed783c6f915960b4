"""The tracer of a run: it turns events into spans, and exports each span when it ends."""

import contextvars
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
    StepExpanded,
    StepFinished,
    StepReady,
    StepRetrying,
    StepsAdded,
    StepsReused,
    StepStarted,
    StepStopping,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import Failure, State
from stepwave_server.telemetry.outcome import (
    Outcome,
    failure_attributes,
    incomplete_outcome,
    original_attributes,
    outcome_of,
    run_outcome,
    with_fallback,
)
from stepwave_server.telemetry.parent import variables_with
from stepwave_server.telemetry.spans import OpenStep, OpenWave, RunSpans

__all__ = ["Export", "RunTracer"]

logger = logging.getLogger(__name__)

MAX_EVENTS = 128
"""Span events of a run's span, as OpenTelemetry bounds them. The newest are kept, and the dropped ones are counted."""


class Export:
    """Gives spans to a processor. Never raises, because an error of a processor must not break a run.

    Only the first error is logged, because the same error would follow for every span.
    """

    __slots__ = ("_failed", "_processor")

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._failed = False

    def __call__(self, span: ReadableSpan) -> None:
        """Give the processor a span that has ended."""
        try:
            self._processor.on_end(span)
        except KeyboardInterrupt:
            raise
        except BaseException:
            if not self._failed:
                self._failed = True
                extra = {"run_id": (span.attributes or {}).get("stepwave.run_id")}
                logger.exception("a span processor failed; it may miss spans, and so may those after it", extra=extra)


class RunTracer:
    """Turns the committed events of one run into spans, each exported when it ends. Created by `Telemetry.run`.

    It keeps only the waves and steps that are under way. A step that never started has no span; it is an event of the
    run's span. Not thread-safe.

    Args:
        run_id: The run, for the log.
        spans: Creates the run's spans.
        export: Exports the spans; `None`: the run has none.
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
        "_unrecorded",
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
        self._unrecorded: contextvars.Context | None = None
        self._events: BoundedList[SpanEvent] = BoundedList(MAX_EVENTS)

    @property
    def trace_id(self) -> str:
        """The id of the run's trace in hexadecimal digits; empty: the run has no spans."""
        return "" if self._export is None else f"{self._spans.trace_id:032x}"

    def add(self, events: Iterable[Event]) -> None:
        """Add the run's next committed events, in order. Never raises, because a trace must not break its run."""
        if self._export is None:
            return
        for event in events:
            try:
                self._handle(event)
            except Exception:
                self._log_first_error()

    def replay(self, events: Iterable[Event]) -> None:
        """Add events that an earlier process has committed, in order. Spans that end with them are not exported."""
        self._replaying = True
        try:
            self.add(events)
        finally:
            self._replaying = False

    def abandon(self, time: int, message: str) -> None:
        """End every open span with an error, because the run will have no more events. Never raises.

        Args:
            time: The end, in nanoseconds since the epoch.
            message: The description of the error.
        """
        if self._export is None:
            return
        try:
            self._end_open_spans(time, message)
            self._end_run(self._start or time, time, {}, incomplete_outcome(message))
        except Exception:
            self._log_first_error()

    def attempt_context(self, step_id: str, wave: int, attempt: int) -> Context:
        """Return the context for an attempt's action, in which the attempt's span is current, sampled or not."""
        span = NonRecordingSpan(self._spans.attempt_context(wave, step_id, attempt))
        return set_span_in_context(span, Context())

    def attempt_variables(self, step_id: str, wave: int, attempt: int) -> contextvars.Context:
        """Return context variables in which the attempt's span is current.

        The attempts of a run without spans share one span that is not recorded: that of the run, or the caller's.
        """
        if self._export is not None:
            return variables_with(self.attempt_context(step_id, wave, attempt))
        if self._unrecorded is None:
            context = set_span_in_context(NonRecordingSpan(self._spans.run_context), Context())
            self._unrecorded = variables_with(context)
        return self._unrecorded.copy()

    def _handle(self, event: Event) -> None:  # the most frequent events first
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
            case StepExpanded():
                self._step_expanded(event)
            case StepsAdded() | StepReady() | StepsReused():
                pass
            case StepStopping():
                self._events.append(SpanEvent("stepwave.step_stopping", failure_attributes(event.failure), event.time))
            case _:
                assert_never(event)

    def _step_started(self, event: StepStarted) -> None:
        step = self._steps.get(event.step_id)
        if step is None:
            self._steps[event.step_id] = OpenStep(event)
            self._waves[event.wave].started_count += 1
        else:
            step.retry(event)

    def _step_expanded(self, event: StepExpanded) -> None:
        """Open the span of a step that became several, or end the attempt that chose its workflow."""
        step = self._steps.get(event.step_id)
        if step is None:
            begun = StepStarted(event.time, event.step_id, event.action, event.wave, 0, None, event.ready_time)
            self._steps[event.step_id] = OpenStep(begun, attempting=False)
            self._waves[event.wave].started_count += 1
        elif step.attempting:
            self._end_attempt(step, event.time, outcome_of(State.SUCCEEDED, None, event.time, abandoned=False))

    def _step_retrying(self, event: StepRetrying) -> None:
        step = self._steps.get(event.step_id)
        if step is not None and step.attempting:
            outcome = outcome_of(State.FAILED, event.failure, event.time, abandoned=event.abandoned)
            self._end_attempt(step, event.time, outcome)

    def _step_finished(self, event: StepFinished) -> None:
        wave = self._waves.get(event.wave)
        if wave is not None:
            wave.add_end(event)
        step = self._steps.get(event.step_id)
        if step is None:
            self._add_unstarted(event)
            return
        outcome = outcome_of(event.state, event.failure, event.time, abandoned=event.abandoned)
        if step.attempting:
            self._end_attempt(step, event.time, _last_outcome(event, step.last.attempt, outcome))
        self._end_step(step, event.time, outcome if event.original is None else with_fallback(outcome, event.original))

    def _add_unstarted(self, event: StepFinished) -> None:
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
        self._end_open_spans(event.time, "the run ended first")
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
        outcome = Outcome(status=outcome.status, attributes=outcome.attributes, events=self._events)
        if self._export is not None and not self._replaying:
            self._export(self._spans.run(start, end, attributes, outcome))

    def _end_open_spans(self, time: int, message: str) -> None:
        """End the spans that are still open, children first."""
        outcome = incomplete_outcome(message)
        for step in reversed([*self._steps.values()]):
            if step.attempting:
                self._end_attempt(step, time, outcome)
            self._waves[step.first.wave].end = time
            self._end_step(step, time, outcome)
        for wave in [*self._waves.values()]:
            self._end_wave(wave)

    def _log_first_error(self) -> None:
        """Log the first error of the trace. The same error would follow for every event."""
        if not self._broken:
            self._broken = True
            logger.exception("the trace of a run is incomplete", extra={"run_id": self._run_id})


def _last_outcome(event: StepFinished, attempt: int, outcome: Outcome) -> Outcome:
    """Return the outcome of a step's last attempt. It failed if a fallback value then became the step's output."""
    original = event.original
    if event.state is State.SUCCEEDED and original is not None and original.attempt == attempt:
        return outcome_of(State.FAILED, original, event.time, abandoned=event.abandoned)
    return outcome
