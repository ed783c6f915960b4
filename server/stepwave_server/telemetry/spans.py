"""The spans of one run. Each is created when it ends, with its id, parent, times and attributes."""

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

from stepwave_server.core.messages import StepFinished, StepStarted
from stepwave_server.core.model import SECOND, Failure, State, immutable
from stepwave_server.telemetry.ids import SpanIds
from stepwave_server.telemetry.outcome import Outcome, wave_outcome

__all__ = ["OpenStep", "OpenWave", "Origin", "RunSpans", "RunTrace"]

Attributes = Mapping[str, AttributeValue]


@immutable
class Origin:
    """The origin of spans.

    Attributes:
        resource: The service.
        scope: The library within the service.
    """

    resource: Resource
    scope: InstrumentationScope


@immutable
class RunTrace:
    """The trace of a run.

    Attributes:
        parent: The caller's span; `None`: the trace begins with the run.
        trace_id: The trace's id.
        flags: The W3C flags of the run's spans.
        state: The trace's vendor part.
        has_spans: Whether the run has spans. If not, the spans of its actions are children of the caller's.
    """

    parent: SpanContext | None
    trace_id: int
    flags: TraceFlags
    state: TraceState | None
    has_spans: bool = True


class OpenWave:
    """A wave under way.

    Attributes:
        index: The wave's number.
        context: The context of its span.
        start: Start of its first step, in nanoseconds since the epoch.
        end: End of the last step that has ended, in nanoseconds since the epoch.
        started_count: Number of steps that have started.
        failed_count: Number of steps that have failed.
        failure: The first failure.
    """

    __slots__ = ("context", "end", "failed_count", "failure", "index", "start", "started_count")

    def __init__(self, index: int, context: SpanContext, start: int) -> None:
        self.index = index
        self.context = context
        self.start = self.end = start
        self.started_count = self.failed_count = 0
        self.failure: Failure | None = None

    def add_end(self, event: StepFinished) -> None:
        """Add the end of one of its steps."""
        self.end = event.time
        if event.state is State.FAILED:
            self.failed_count += 1
            self.failure = self.failure or event.failure


class OpenStep:
    """A step under way.

    Attributes:
        first: The start of its first attempt.
        last: The start of its latest attempt.
        attempting: Whether the latest attempt is under way.
    """

    __slots__ = ("attempting", "first", "last")

    def __init__(self, first: StepStarted, *, attempting: bool = True) -> None:
        self.first = self.last = first
        self.attempting = attempting

    def retry(self, started: StepStarted) -> None:
        """Add the start of another attempt."""
        self.last = started
        self.attempting = True


class RunSpans:
    """Creates the spans of one run. Each is created when it has ended.

    Args:
        origin: The spans' origin.
        ids: The spans' ids.
        trace: The run's trace.
        attributes: Attributes of every span.
    """

    __slots__ = ("_attributes", "_ids", "_origin", "_run", "_trace")

    def __init__(self, origin: Origin, ids: SpanIds, trace: RunTrace, attributes: Attributes) -> None:
        self._origin = origin
        self._ids = ids
        self._trace = trace
        self._attributes = attributes
        self._run = self._context(ids.run)

    @property
    def trace_id(self) -> int:
        """The id of the run's trace."""
        return self._trace.trace_id

    @property
    def run_context(self) -> SpanContext:
        """The context of the run's span; of the caller's, if the run has no spans."""
        return self._run if self._trace.has_spans else self._trace.parent or INVALID_SPAN_CONTEXT

    def wave_context(self, wave: int) -> SpanContext:
        """Return the context of a wave's span."""
        return self._context(self._ids.wave(wave)) if self._trace.has_spans else self.run_context

    def attempt_context(self, wave: int, step_id: str, attempt: int) -> SpanContext:
        """Return the context of the span that is the parent of an action's own spans."""
        if not self._trace.has_spans:
            return self._trace.parent or INVALID_SPAN_CONTEXT
        return self._context(self._ids.attempt(wave, step_id, attempt))

    def open_wave(self, index: int, start: int) -> OpenWave:
        """Return a wave that has just started."""
        return OpenWave(index, self._context(self._ids.wave(index)), start)

    def run(self, start: int, end: int, attributes: Attributes, outcome: Outcome) -> ReadableSpan:
        """Return the run's span. Its kind is `SERVER`, because it serves a remote call."""
        parent = self._trace.parent
        return self._span("stepwave.run", self._run, parent, attributes, start, end, outcome, SpanKind.SERVER)

    def wave(self, wave: OpenWave) -> ReadableSpan:
        """Return a wave's span."""
        attributes = {
            "stepwave.wave": wave.index,
            "stepwave.wave.steps": wave.started_count,
            "stepwave.wave.failed": wave.failed_count,
        }
        outcome = wave_outcome(wave.failure, wave.failed_count)
        return self._span("stepwave.wave", wave.context, self._run, attributes, wave.start, wave.end, outcome)

    def step(self, step: OpenStep, wave: OpenWave, end: int, outcome: Outcome) -> ReadableSpan:
        """Return a step's span, from the start of its first attempt.

        Its parent is the span of its wave, or of the step that it belongs to.
        """
        first = step.first
        attributes: Attributes = {
            "stepwave.wave": first.wave,
            "stepwave.step_id": first.step_id,
            "stepwave.action": first.action,
            "stepwave.attempts": step.last.attempt,
            "stepwave.wait_seconds": (first.time - first.ready_time) / SECOND,
        }
        context = self._step_context(first.wave, first.step_id)
        around = parent_id(first.step_id)
        parent = self._step_context(first.wave, around) if around else wave.context
        return self._span("stepwave.step", context, parent, attributes, first.time, end, outcome)

    def attempt(self, started: StepStarted, end: int, outcome: Outcome) -> ReadableSpan:
        """Return an attempt's span."""
        attributes: Attributes = {
            "stepwave.wave": started.wave,
            "stepwave.step_id": started.step_id,
            "stepwave.action": started.action,
            "stepwave.attempt": started.attempt,
        }
        context = self.attempt_context(started.wave, started.step_id, started.attempt)
        parent = self._step_context(started.wave, started.step_id)
        return self._span("stepwave.attempt", context, parent, attributes, started.time, end, outcome)

    def _step_context(self, wave: int, step_id: str) -> SpanContext:
        return self._context(self._ids.step(wave, step_id))

    def _context(self, span_id: int) -> SpanContext:
        trace = self._trace
        return SpanContext(trace.trace_id, span_id, is_remote=False, trace_flags=trace.flags, trace_state=trace.state)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        start: int,
        end: int,
        outcome: Outcome,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            context,
            parent,
            self._origin.resource,
            {**self._attributes, **attributes, **outcome.attributes},
            outcome.events,
            kind=kind,
            status=outcome.status,
            start_time=start,
            end_time=end,
            instrumentation_scope=self._origin.scope,
        )


def parent_id(step_id: str) -> str:
    """Return the id of the step that a step belongs to: `pages[3]` of `pages[3]/fetch`, `pages` of `pages[3]`.

    It is empty for a step of the run's own workflow.
    """
    return step_id[: max(step_id.rfind("/"), step_id.rfind("["), 0)]
