"""The spans of one run, each made whole when it ends: ids, parents, times and attributes."""

from collections.abc import Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import AttributeValue

from stepwave_server.core.messages import StepFinished, StepStarted
from stepwave_server.core.model import Failure, State, immutable
from stepwave_server.telemetry.ids import SpanIds
from stepwave_server.telemetry.outcome import Outcome, wave_outcome

__all__ = ["OpenStep", "OpenWave", "Origin", "Place", "RunSpans"]

SECOND = 1_000_000_000

Attributes = Mapping[str, AttributeValue]


@immutable
class Origin:
    """Who makes spans: the service, and the library within it."""

    resource: Resource
    scope: InstrumentationScope


@immutable
class Place:
    """Where a run stands in the world's traces.

    Attributes:
        parent: The caller's span; `None`: the trace begins with the run.
        trace: The trace's id.
        flags: The W3C flags of the run's spans.
        vendor: The trace's vendor part.
        own: Whether the run has spans; else what its actions trace is under the caller's.
    """

    parent: SpanContext | None
    trace: int
    flags: TraceFlags
    vendor: TraceState | None
    own: bool = True


class OpenWave:
    """A wave that began, and what its steps have come to so far.

    Attributes:
        index: The wave.
        context: What its span is referred to by.
        start: When its first step started.
        end: When its last step so far ended.
        ran: How many of its steps started.
        failed: How many failed.
        failure: The first failure among them.
    """

    __slots__ = ("context", "end", "failed", "failure", "index", "ran", "start")

    def __init__(self, index: int, context: SpanContext, start: int) -> None:
        self.index = index
        self.context = context
        self.start = self.end = start
        self.ran = self.failed = 0
        self.failure: Failure | None = None

    def note(self, event: StepFinished) -> None:
        """Take the end of one of its steps."""
        self.end = event.time
        if event.state is State.FAILED:
            self.failed += 1
            self.failure = self.failure or event.failure


class OpenStep:
    """A step that began.

    Attributes:
        first: The start of its first attempt.
        last: The start of its last attempt so far.
        attempting: Whether that is under way.
    """

    __slots__ = ("attempting", "first", "last")

    def __init__(self, first: StepStarted) -> None:
        self.first = self.last = first
        self.attempting = True

    def retry(self, started: StepStarted) -> None:
        """Take the start of another attempt."""
        self.last = started
        self.attempting = True


class RunSpans:
    """Makes the spans of one run. There are no live ones: all that a span says is known when it ends.

    Args:
        origin: Who makes them.
        ids: Their ids.
        place: Where the run stands.
        attributes: What every span says.
    """

    __slots__ = ("_attributes", "_ids", "_origin", "_place", "_run")

    def __init__(self, origin: Origin, ids: SpanIds, place: Place, attributes: Attributes) -> None:
        self._origin = origin
        self._ids = ids
        self._place = place
        self._attributes = attributes
        self._run = self._context(ids.run)

    def attempt_context(self, wave: int, step_id: str, attempt: int) -> SpanContext:
        """Return what the span is referred to by that an attempt's action is under."""
        if not self._place.own:
            return self._place.parent or INVALID_SPAN_CONTEXT
        return self._context(self._ids.attempt(wave, step_id, attempt))

    def open_wave(self, index: int, start: int) -> OpenWave:
        """Return a wave that begins."""
        return OpenWave(index, self._context(self._ids.wave(index)), start)

    def run(self, start: int, end: int, attributes: Attributes, outcome: Outcome) -> ReadableSpan:
        """Return the run's span. It answers a call from outside, hence its kind."""
        place = self._place
        return self._span("stepwave.run", self._run, place.parent, attributes, start, end, outcome, SpanKind.SERVER)

    def wave(self, wave: OpenWave) -> ReadableSpan:
        """Return a wave's span."""
        attributes = {
            "stepwave.wave": wave.index,
            "stepwave.wave.steps": wave.ran,
            "stepwave.wave.failed": wave.failed,
        }
        outcome = wave_outcome(wave.failure, wave.failed)
        return self._span("stepwave.wave", wave.context, self._run, attributes, wave.start, wave.end, outcome)

    def step(self, step: OpenStep, wave: OpenWave, end: int, outcome: Outcome) -> ReadableSpan:
        """Return a step's span, from the start of its first attempt."""
        first = step.first
        attributes: Attributes = {
            "stepwave.wave": first.wave,
            "stepwave.step_id": first.step_id,
            "stepwave.action": first.action,
            "stepwave.attempts": step.last.attempt,
            "stepwave.wait_seconds": (first.time - first.ready_time) / SECOND,
        }
        context = self._step_context(first)
        return self._span("stepwave.step", context, wave.context, attributes, first.time, end, outcome)

    def attempt(self, started: StepStarted, end: int, outcome: Outcome) -> ReadableSpan:
        """Return an attempt's span."""
        attributes: Attributes = {
            "stepwave.wave": started.wave,
            "stepwave.step_id": started.step_id,
            "stepwave.action": started.action,
            "stepwave.attempt": started.attempt,
        }
        context = self.attempt_context(started.wave, started.step_id, started.attempt)
        parent = self._step_context(started)
        return self._span("stepwave.attempt", context, parent, attributes, started.time, end, outcome)

    def _step_context(self, started: StepStarted) -> SpanContext:
        return self._context(self._ids.step(started.wave, started.step_id))

    def _context(self, span_id: int) -> SpanContext:
        place = self._place
        return SpanContext(place.trace, span_id, is_remote=False, trace_flags=place.flags, trace_state=place.vendor)

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
