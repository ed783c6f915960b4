"""The tracer provider that a process sets in code: runs' spans go its way, beside those of their actions."""

import copy
import logging
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceState, set_span_in_context
from opentelemetry.util.types import Attributes

from stepwave_server.telemetry import environment
from stepwave_server.telemetry.parent import TraceParent
from stepwave_server.telemetry.pipeline import SCOPE, Telemetry, within
from stepwave_server.telemetry.tracer import RunTracer

__all__ = ["ProcessTelemetry", "telemetry_of_process"]

logger = logging.getLogger(__name__)


class ProcessTelemetry:
    """Exports the spans of runs by the tracer provider that the process has set in code, perhaps later than its server.

    The provider is its owner's: it is flushed when the server stops, and never shut down. One that is not the SDK's
    cannot be given spans whose ids are known already. Runs have none then, and what their actions trace is under the
    caller's span.
    """

    def __init__(self) -> None:
        self._provider: trace.TracerProvider | None = None
        self._telemetry = Telemetry(None, resource=Resource.get_empty())

    def run(
        self,
        *,
        namespace: str,
        run_id: str,
        workflow_name: str,
        parent: TraceParent | None,
        create_time: int = 0,
    ) -> RunTracer | None:
        """Trace a run as `Telemetry.run` does; `None`: no provider is set, and the caller has no span."""
        provider = _provider()
        if parent is None and (provider is None or isinstance(provider, trace.ProxyTracerProvider)):
            return None
        if provider is not self._provider:
            self._provider, self._telemetry = provider, _following(provider)
        return self._telemetry.run(
            namespace=namespace, run_id=run_id, workflow_name=workflow_name, parent=parent, create_time=create_time
        )

    def shutdown(self, timeout: float = 5.0) -> None:
        """Let the provider export what waits, within `timeout` seconds. Blocks.

        The process may be about to end in a way that no provider hears of.
        """
        flush = getattr(self._provider, "force_flush", None)
        if flush is None:
            return
        if not within(timeout, lambda: flush(round(timeout * 1_000)), "the provider that the process has set failed"):
            logger.warning("spans may be lost: their export took longer than %g s", timeout)


def telemetry_of_process() -> Telemetry | ProcessTelemetry | None:
    """Return what the environment asks for, else what follows the process's own provider; `None`: it is turned off.

    Raises:
        TelemetryUnavailable: The environment asks for what cannot be had.
    """
    return Telemetry.from_environment() or (None if environment.disabled() else ProcessTelemetry())


class Retelling(SpanProcessor):
    """Makes spans that have ended once more by a provider's tracer, so that they go the provider's way from the start.

    Its processors could be given the spans as they are. But they stand in a private attribute; those that add to spans
    when they start, or match ends with starts, would miss half; and the provider's limits would not hold. Nor are the
    spans live from the start: a run may outlive its process, and who sees the end must make the same span.

    Args:
        tracer: A tracer of the provider. It is not touched: a copy has its ids and its samples told.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._told = _Told()
        self._tracer = copy.copy(tracer)
        self._tracer.id_generator = self._told
        self._tracer.sampler = self._told

    def on_end(self, span: ReadableSpan) -> None:
        """Make a span, with its start and its end."""
        context = span.get_span_context()
        assert context is not None, "it has ended"
        self._told.context = context
        parent = Context() if span.parent is None else set_span_in_context(NonRecordingSpan(span.parent), Context())
        made = self._tracer.start_span(span.name, parent, span.kind, span.attributes, start_time=span.start_time)
        for event in span.events:
            made.add_event(event.name, event.attributes, event.timestamp)
        made.set_status(span.status)
        made.end(span.end_time)


class _Told(IdGenerator, Sampler):
    """Tells a tracer what the next span's ids are, and that it is wanted: the sampler was asked for its whole run."""

    context: SpanContext

    def generate_span_id(self) -> int:
        return self.context.span_id

    def generate_trace_id(self) -> int:
        return self.context.trace_id

    def is_trace_id_random(self) -> bool:
        return False

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        decision = Decision.RECORD_AND_SAMPLE if self.context.trace_flags.sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, self.context.trace_state)

    def get_description(self) -> str:
        return "as its run"


def _provider() -> trace.TracerProvider | None:
    try:
        return trace.get_tracer_provider()
    except Exception:  # the environment names one that cannot be loaded; OpenTelemetry has logged it
        return None


def _following(provider: trace.TracerProvider | None) -> Telemetry:
    """Return what gives spans to a provider; where it cannot take them, what makes none."""
    try:
        tracer = provider.get_tracer(SCOPE.name, SCOPE.version) if provider is not None else None
    except Exception:
        logger.exception("the tracer provider that the process has set gives no tracer")
        tracer = None
    if not isinstance(tracer, Tracer):
        return Telemetry(None, resource=Resource.get_empty())
    return Telemetry(Retelling(tracer), sampler=tracer.sampler, resource=tracer.resource)
