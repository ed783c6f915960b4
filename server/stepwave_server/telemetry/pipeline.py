"""The pipeline of a server's spans: sampling, creation and export."""

import logging
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeAlias

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
from stepwave_server.telemetry.redaction import RedactingProcessor
from stepwave_server.telemetry.spans import Origin, RunSpans, RunTrace
from stepwave_server.telemetry.tracer import Export, RunTracer
from stepwave_server.telemetry.wave_tracer import WaveTracer

__all__ = ["SCOPE", "Telemetry", "TraceDetail", "run_with_timeout"]

logger = logging.getLogger(__name__)

TraceDetail: TypeAlias = Literal["attempts", "waves"]
"""The detail of traces: spans of runs, waves, steps and attempts, or of runs and waves alone."""


def _version() -> str | None:
    try:
        return version("stepwave")
    except PackageNotFoundError:  # run from a checkout
        return None


SCOPE = InstrumentationScope("stepwave", _version())


class Telemetry:
    """Exports the spans of runs.

    Args:
        processor: Gets every span when it has ended, by `on_end`; `on_start` is not called. `shutdown` shuts it down.
            `None`: runs have no spans, and the spans of their actions are children of the caller's.
        sampler: Decides once per run; by default by the caller's flag, and runs without a caller's span are sampled.
        resource: The resource of the spans; by default from the environment.
        detail: What has spans: runs, waves, steps and attempts (`attempts`), or runs and waves alone (`waves`).
    """

    def __init__(
        self,
        processor: SpanProcessor | None,
        *,
        sampler: Sampler | None = None,
        resource: Resource | None = None,
        detail: TraceDetail = "attempts",
    ) -> None:
        self._tracer_kind = WaveTracer if detail == "waves" else RunTracer
        self._processor = processor
        self._export = None if processor is None else Export(processor)
        self._sampler = sampler or DEFAULT_ON
        self._sampler_failed = False
        self._origin = Origin(resource or environment.resource(), SCOPE)

    @classmethod
    def from_environment(cls, detail: TraceDetail = "attempts") -> "Telemetry | None":
        """Return telemetry as OpenTelemetry's `OTEL_*` variables say; `None`: they name no exporter.

        Args:
            detail: What has spans.

        Raises:
            TelemetryUnavailable: An exporter is missing or cannot be set up.
        """
        processor = environment.processor()
        return None if processor is None else cls(processor, sampler=environment.sampler(), detail=detail)

    def run(
        self,
        *,
        namespace: str,
        run_id: str,
        workflow_name: str,
        parent: TraceParent | None,
        create_time: int = 0,
    ) -> RunTracer:
        """Return the tracer of a run.

        Args:
            namespace: The run's namespace.
            run_id: The run.
            workflow_name: The name of its workflow.
            parent: The caller's span; `None`: the run begins a trace.
            create_time: When the run was accepted, in nanoseconds since the epoch. Span ids are derived from it, the
                namespace and the run id. Without it, a later run of the same id has the same trace.
        """
        ids = SpanIds(namespace, run_id, create_time)
        context = Context() if parent is None else parent.context()
        attributes: dict[str, AttributeValue] = {
            "stepwave.namespace": namespace,
            "stepwave.run_id": run_id,
            "stepwave.workflow": workflow_name,
        }
        run_trace, recorded = self._trace(context, ids, attributes)
        spans = RunSpans(origin=self._origin, ids=ids, trace=run_trace, attributes=attributes)
        tracer = self._tracer_kind if recorded else RunTracer
        return tracer(run_id, spans, self._export if recorded else None)

    def provider(self) -> TracerProvider:
        """Return a tracer provider whose spans are exported in the same way.

        A process that only serves sets it with `opentelemetry.trace.set_tracer_provider`. Then the spans of actions and
        of instrumented libraries are exported together with those of their runs.
        """
        provider = TracerProvider(self._sampler, self._origin.resource, shutdown_on_exit=False)
        if self._processor is not None:
            provider.add_span_processor(RedactingProcessor(self._processor))
        return provider

    def shutdown(self, timeout: float = 5.0) -> None:
        """Export the waiting spans and shut down, within `timeout` seconds. The remaining spans are lost. Blocks."""
        processor = self._processor
        if processor is None:
            return
        if not run_with_timeout(timeout, processor.shutdown, "the export of spans could not be shut down"):
            logger.warning("spans were lost: their export took longer than %g s", timeout)

    def _trace(self, context: Context, ids: SpanIds, attributes: dict[str, AttributeValue]) -> tuple[RunTrace, bool]:
        """Return the trace of a run, and whether its spans are recorded."""
        caller = get_current_span(context).get_span_context()
        parent = caller if caller.is_valid else None
        trace_id = ids.trace if parent is None else parent.trace_id
        if self._export is None:
            unrecorded = RunTrace(
                parent=parent,
                trace_id=trace_id,
                flags=caller.trace_flags,
                state=caller.trace_state,
                has_spans=False,
            )
            return unrecorded, False
        sampling = self._sample(context, trace_id, attributes)
        sampled = sampling.decision is Decision.RECORD_AND_SAMPLE
        attributes |= sampling.attributes or {}
        flags = TraceFlags(
            caller.trace_flags | TraceFlags.SAMPLED if sampled else caller.trace_flags & ~TraceFlags.SAMPLED
        )
        run_trace = RunTrace(parent=parent, trace_id=trace_id, flags=flags, state=sampling.trace_state)
        return run_trace, sampling.decision is not Decision.DROP

    def _sample(self, context: Context, trace_id: int, attributes: Attributes) -> SamplingResult:
        """Return the sampler's decision on a run. If the sampler fails, the run goes on without spans."""
        try:
            result = self._sampler.should_sample(context, trace_id, "stepwave.run", SpanKind.SERVER, attributes, ())
            return SamplingResult(result.decision, result.attributes, result.trace_state)  # it may be of any class
        except Exception:
            if not self._sampler_failed:
                self._sampler_failed = True
                logger.exception("the sampler of spans failed; the runs that it fails for have no spans")
            return SamplingResult(Decision.DROP)


def run_with_timeout(timeout: float, function: Callable[[], object], error_message: str) -> bool:
    """Call a function that may block, on a thread, and return whether it returned within `timeout` seconds.

    An exception is logged with `error_message`.
    """

    def call() -> None:
        try:
            function()
        except Exception:
            logger.exception(error_message)

    thread = threading.Thread(target=call, name="stepwave-telemetry-shutdown", daemon=True)
    thread.start()
    thread.join(timeout)
    return not thread.is_alive()
