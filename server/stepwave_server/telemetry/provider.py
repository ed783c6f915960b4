"""Export of runs' spans through the tracer provider that the process has set."""

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
from stepwave_server.telemetry.pipeline import SCOPE, Telemetry, TraceDetail, run_with_timeout
from stepwave_server.telemetry.tracer import RunTracer

__all__ = ["ProcessTelemetry", "telemetry_of_process"]

logger = logging.getLogger(__name__)


class ProcessTelemetry:
    """Exports the spans of runs through the tracer provider that the process sets, before or after the server's start.

    The provider belongs to the process: it is flushed when the server stops, and not shut down. A provider that is not
    the SDK's cannot take spans with given ids. Runs have no spans then, and the spans of their actions are children of
    the caller's span.

    Args:
        detail: What has spans.
    """

    def __init__(self, detail: TraceDetail = "attempts") -> None:
        self._detail = detail
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
        """Return the tracer of a run, as `Telemetry.run`; `None`: no provider is set, and the caller has no span."""
        provider = _provider()
        if parent is None and (provider is None or isinstance(provider, trace.ProxyTracerProvider)):
            return None
        if provider is not self._provider:
            self._provider, self._telemetry = provider, _telemetry_of(provider, self._detail)
        return self._telemetry.run(
            namespace=namespace, run_id=run_id, workflow_name=workflow_name, parent=parent, create_time=create_time
        )

    def shutdown(self, timeout: float = 5.0) -> None:
        """Flush the provider, within `timeout` seconds. Blocks.

        The process may end soon in a way that the provider does not notice.
        """
        flush = getattr(self._provider, "force_flush", None)
        if flush is None:
            return
        if not run_with_timeout(
            timeout, lambda: flush(round(timeout * 1_000)), "the provider that the process has set failed"
        ):
            logger.warning("spans may be lost: their export took longer than %g s", timeout)


def telemetry_of_process(detail: TraceDetail = "attempts") -> Telemetry | ProcessTelemetry | None:
    """Return the telemetry of the environment, else that of the process's provider; `None`: it is turned off.

    Args:
        detail: What has spans.

    Raises:
        TelemetryUnavailable: An exporter is missing or cannot be set up.
    """
    return Telemetry.from_environment(detail) or (None if environment.disabled() else ProcessTelemetry(detail))


class SpanRecreator(SpanProcessor):
    """Recreates ended spans with a provider's tracer, so that they pass through the whole provider.

    The spans are not given to the provider's processors directly: these are a private attribute, some of them need the
    start of a span as well as its end, and the provider's limits would not apply. The spans are not started when their
    runs start, because a run may outlive its process, and another process must then make the same span.

    Args:
        tracer: A tracer of the provider. It is copied, and the copy gets given ids and sampling decisions.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._given = _GivenContext()
        self._tracer = copy.copy(tracer)
        self._tracer.id_generator = self._given
        self._tracer.sampler = self._given

    def on_end(self, span: ReadableSpan) -> None:
        """Recreate a span, with its start and its end."""
        context = span.get_span_context()
        assert context is not None, "it has ended"
        self._given.context = context
        parent = Context() if span.parent is None else set_span_in_context(NonRecordingSpan(span.parent), Context())
        recreated = self._tracer.start_span(span.name, parent, span.kind, span.attributes, start_time=span.start_time)
        for event in span.events:
            recreated.add_event(event.name, event.attributes, event.timestamp)
        recreated.set_status(span.status)
        recreated.end(span.end_time)


class _GivenContext(IdGenerator, Sampler):
    """Generates given ids, and repeats the sampling decision on the whole run.

    Attributes:
        context: The context of the next span.
    """

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
    except Exception:  # the environment's provider cannot be loaded, which OpenTelemetry has logged
        return None


def _telemetry_of(provider: trace.TracerProvider | None, detail: TraceDetail) -> Telemetry:
    """Return telemetry that exports through a provider; without spans if the provider cannot take them."""
    try:
        tracer = provider.get_tracer(SCOPE.name, SCOPE.version) if provider is not None else None
    except Exception:
        logger.exception("the tracer provider that the process has set failed to return a tracer")
        tracer = None
    if not isinstance(tracer, Tracer):
        return Telemetry(None, resource=Resource.get_empty())
    return Telemetry(SpanRecreator(tracer), sampler=tracer.sampler, resource=tracer.resource, detail=detail)
