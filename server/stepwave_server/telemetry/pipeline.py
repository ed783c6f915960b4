"""The way of a server's spans: who makes them, which are kept, and what exports them."""

import logging
import threading
from importlib.metadata import PackageNotFoundError, version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, TraceFlags, get_current_span
from opentelemetry.util.types import AttributeValue

from stepwave_server.telemetry import environment
from stepwave_server.telemetry.ids import SpanIds
from stepwave_server.telemetry.parent import TraceParent
from stepwave_server.telemetry.spans import Origin, Place, RunSpans
from stepwave_server.telemetry.tracer import RunTracer

__all__ = ["ProcessTelemetry", "Telemetry", "telemetry_of_process"]

logger = logging.getLogger(__name__)


class Telemetry:
    """Exports the spans of runs.

    Args:
        processor: Takes spans as they end, by `on_end` alone: none is ever live. `shutdown` shuts it down.
        sampler: Decides once for every run; by default the caller's flag counts, and runs without a caller's span are
            kept.
        resource: The service; by default as the environment says.
    """

    def __init__(
        self, processor: SpanProcessor, *, sampler: Sampler | None = None, resource: Resource | None = None
    ) -> None:
        self._processor = processor
        self._sampler = sampler or DEFAULT_ON
        self._origin = Origin(resource or environment.resource(), InstrumentationScope("stepwave", _version()))

    @classmethod
    def from_environment(cls) -> "Telemetry | None":
        """Set up what OpenTelemetry's `OTEL_*` variables ask for; `None` if they ask for nothing.

        Raises:
            TelemetryUnavailable: They ask for what cannot be had.
        """
        processor = environment.processor()
        return None if processor is None else cls(processor, sampler=environment.sampler())

    def run(
        self,
        *,
        namespace: str,
        run_id: str,
        workflow_name: str,
        parent: TraceParent | None,
        create_time: int = 0,
    ) -> RunTracer:
        """Trace a run.

        Args:
            namespace: The run's namespace.
            run_id: The run.
            workflow_name: What it runs.
            parent: The caller's span; `None`: the run begins a trace.
            create_time: When the run was accepted, in nanoseconds since the epoch. Ids of spans are made of it, the
                namespace and the run id: without it, runs that bear the same id one after another share a trace.
        """
        ids = SpanIds(namespace, run_id, create_time)
        context = Context() if parent is None else parent.context()
        attributes: dict[str, AttributeValue] = {
            "stepwave.namespace": namespace,
            "stepwave.run_id": run_id,
            "stepwave.workflow": workflow_name,
        }
        place, sampled = self._place(context, ids, attributes)
        spans = RunSpans(self._origin, ids, place, attributes)
        return RunTracer(run_id, spans, self._processor if sampled else None)

    def provider(self) -> TracerProvider:
        """Return a provider whose spans go the same way.

        A process that only serves makes it its own, by `opentelemetry.trace.set_tracer_provider`: then the spans of
        actions, and of instrumented libraries that they call, are exported beside those of their runs.
        """
        provider = TracerProvider(self._sampler, self._origin.resource, shutdown_on_exit=False)
        provider.add_span_processor(self._processor)
        return provider

    def shutdown(self, timeout: float = 5.0) -> None:
        """Export what waits and release everything, within `timeout` seconds: what waits still is lost. Blocks."""
        thread = threading.Thread(target=self._shut_down, name="stepwave-telemetry-shutdown", daemon=True)
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            logger.warning("spans were lost: their export took longer than %g s", timeout)

    def _shut_down(self) -> None:
        try:
            self._processor.shutdown()
        except Exception:
            logger.exception("the export of spans could not be ended in order")

    def _place(self, context: Context, ids: SpanIds, attributes: dict[str, AttributeValue]) -> tuple[Place, bool]:
        caller = get_current_span(context).get_span_context()
        parent = caller if caller.is_valid else None
        trace = ids.trace if parent is None else parent.trace_id
        answer = self._sampler.should_sample(context, trace, "stepwave.run", SpanKind.SERVER, attributes, ())
        sampled = answer.decision is Decision.RECORD_AND_SAMPLE
        attributes |= answer.attributes or {}
        flags = TraceFlags.get_default() if parent is None else parent.trace_flags
        flags = TraceFlags(flags | TraceFlags.SAMPLED if sampled else flags & ~TraceFlags.SAMPLED)
        return Place(parent, trace, flags, answer.trace_state), sampled


class ProcessTelemetry:
    """Exports the spans of runs by the tracer provider that the process has set in code, perhaps later than its server.

    The provider is its owner's: it is flushed when the server stops, and never shut down. A provider that is not the
    SDK's cannot take spans that were made elsewhere; then there are none.
    """

    def __init__(self) -> None:
        self._provider: TracerProvider | None = None
        self._telemetry: Telemetry | None = None

    def run(
        self,
        *,
        namespace: str,
        run_id: str,
        workflow_name: str,
        parent: TraceParent | None,
        create_time: int = 0,
    ) -> RunTracer | None:
        """Trace a run as `Telemetry.run` does; `None`: no provider is set."""
        telemetry = self._current()
        if telemetry is None:
            return None
        return telemetry.run(
            namespace=namespace, run_id=run_id, workflow_name=workflow_name, parent=parent, create_time=create_time
        )

    def shutdown(self, timeout: float = 5.0) -> None:
        """Let the provider export what waits, within `timeout` seconds. Blocks."""
        if self._provider is None:
            return
        try:
            self._provider.force_flush(round(timeout * 1_000))
        except Exception:
            logger.exception("the provider that the process has set could not export its spans")

    def _current(self) -> Telemetry | None:
        provider = trace.get_tracer_provider()
        if provider is not self._provider:
            self._provider = provider if isinstance(provider, TracerProvider) else None
            self._telemetry = None if self._provider is None else _following(self._provider)
        return self._telemetry


def telemetry_of_process() -> Telemetry | ProcessTelemetry | None:
    """Return what the environment asks for, else what follows the process's own provider; `None`: it is turned off.

    Raises:
        TelemetryUnavailable: The environment asks for what cannot be had.
    """
    return Telemetry.from_environment() or (None if environment.disabled() else ProcessTelemetry())


def _following(provider: TracerProvider) -> Telemetry | None:
    """Return what gives spans to the processors of a provider.

    Its tracers cannot be used instead: they make the ids of spans themselves, and those of a run's spans must be the
    same whoever makes them. The SDK has no public way to its processors; the attribute is as old as the SDK.
    """
    processor = getattr(provider, "_active_span_processor", None)
    if not isinstance(processor, SpanProcessor):
        return None
    return Telemetry(processor, sampler=provider.sampler, resource=provider.resource)


def _version() -> str | None:
    try:
        return version("stepwave")
    except PackageNotFoundError:  # run from a checkout
        return None
