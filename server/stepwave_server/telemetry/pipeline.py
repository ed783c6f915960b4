"""The way of a server's spans: who makes them, which are kept, and what exports them."""

import logging
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Decision, Sampler, SamplingResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, TraceFlags, get_current_span
from opentelemetry.util.types import Attributes, AttributeValue

from stepwave_server.telemetry import environment
from stepwave_server.telemetry.ids import SpanIds
from stepwave_server.telemetry.parent import TraceParent
from stepwave_server.telemetry.spans import Origin, Place, RunSpans
from stepwave_server.telemetry.tracer import Export, RunTracer

__all__ = ["SCOPE", "Telemetry", "within"]

logger = logging.getLogger(__name__)


def _version() -> str | None:
    try:
        return version("stepwave")
    except PackageNotFoundError:  # run from a checkout
        return None


SCOPE = InstrumentationScope("stepwave", _version())


class Telemetry:
    """Exports the spans of runs.

    Args:
        processor: Takes spans as they end, by `on_end` alone: none is ever live. `shutdown` shuts it down. `None`: runs
            have no spans, and what their actions trace is under the caller's.
        sampler: Decides once for every run; by default the caller's flag counts, and runs without a caller's span are
            kept.
        resource: The service; by default as the environment says.
    """

    def __init__(
        self, processor: SpanProcessor | None, *, sampler: Sampler | None = None, resource: Resource | None = None
    ) -> None:
        self._processor = processor
        self._export = None if processor is None else Export(processor)
        self._sampler = sampler or DEFAULT_ON
        self._distrusted = False
        self._origin = Origin(resource or environment.resource(), SCOPE)

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
        place, recorded = self._place(context, ids, attributes)
        spans = RunSpans(self._origin, ids, place, attributes)
        return RunTracer(run_id, spans, self._export if recorded else None)

    def provider(self) -> TracerProvider:
        """Return a provider whose spans go the same way.

        A process that only serves makes it its own, by `opentelemetry.trace.set_tracer_provider`: then the spans of
        actions, and of instrumented libraries that they call, are exported beside those of their runs.
        """
        provider = TracerProvider(self._sampler, self._origin.resource, shutdown_on_exit=False)
        if self._processor is not None:
            provider.add_span_processor(self._processor)
        return provider

    def shutdown(self, timeout: float = 5.0) -> None:
        """Export what waits and release everything, within `timeout` seconds: what waits still is lost. Blocks."""
        processor = self._processor
        if processor is None:
            return
        if not within(timeout, processor.shutdown, "the export of spans could not be ended in order"):
            logger.warning("spans were lost: their export took longer than %g s", timeout)

    def _place(self, context: Context, ids: SpanIds, attributes: dict[str, AttributeValue]) -> tuple[Place, bool]:
        """Return where a run stands, and whether its spans are recorded."""
        caller = get_current_span(context).get_span_context()
        parent = caller if caller.is_valid else None
        trace = ids.trace if parent is None else parent.trace_id
        if self._export is None:
            return Place(parent, trace, caller.trace_flags, caller.trace_state, own=False), False
        answer = self._sample(context, trace, attributes)
        sampled = answer.decision is Decision.RECORD_AND_SAMPLE
        attributes |= answer.attributes or {}
        flags = TraceFlags(
            caller.trace_flags | TraceFlags.SAMPLED if sampled else caller.trace_flags & ~TraceFlags.SAMPLED
        )
        return Place(parent, trace, flags, answer.trace_state), answer.decision is not Decision.DROP

    def _sample(self, context: Context, trace: int, attributes: Attributes) -> SamplingResult:
        """Ask the sampler about a run. One that fails has no say: no run is refused for its trace."""
        try:
            answer = self._sampler.should_sample(context, trace, "stepwave.run", SpanKind.SERVER, attributes, ())
            return SamplingResult(answer.decision, answer.attributes, answer.trace_state)  # whatever it was
        except Exception:
            if not self._distrusted:
                self._distrusted = True
                logger.exception("the sampler of spans failed; runs that it fails for have none")
            return SamplingResult(Decision.DROP)


def within(timeout: float, work: Callable[[], object], complaint: str) -> bool:
    """Do something that may block for ever on a thread, and say whether it ended within so many seconds."""

    def do() -> None:
        try:
            work()
        except Exception:
            logger.exception(complaint)

    thread = threading.Thread(target=do, name="stepwave-telemetry-shutdown", daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()
