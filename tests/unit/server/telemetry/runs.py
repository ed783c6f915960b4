"""Helpers that drive runs and collect their spans."""

from collections.abc import Iterable, Mapping

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from stepwave_server.core.decide import decide
from stepwave_server.core.evolve import new_run
from stepwave_server.core.inputs import EvaluationFailed, Values
from stepwave_server.core.messages import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptStarted,
    AttemptSucceeded,
    Event,
    Input,
    Started,
)
from stepwave_server.core.model import SECOND, Failure, FailurePolicy, ForEach, Payload, Reason, Step, Workflow
from stepwave_server.core.state import RunOptions
from stepwave_server.telemetry import RunTracer, Telemetry, TraceParent

__all__ = [
    "CALLER",
    "DIAMOND",
    "NOON",
    "UNSAMPLED",
    "Collector",
    "Run",
    "Spans",
    "attribute_of",
    "boom",
    "finish_diamond",
    "ids_of",
    "parents_of",
    "seconds_of",
]

NOON = 1_700_000_000 * SECOND
CALLER = TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=1")
UNSAMPLED = TraceParent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")

DIAMOND = (Step("a", "echo"), Step("b", "echo", ("a",)), Step("c", "echo", ("a",)), Step("d", "echo", ("b", "c")))

Spans = Mapping[str, ReadableSpan]


class NoInput:
    """Gives every step the input `null`. The input of the step `unfit` cannot be evaluated. A list is a count."""

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        if step.id == "unfit":
            raise EvaluationFailed("no such value")
        return "null"

    def check_input(self, schema: str, payload: Payload) -> None:
        raise AssertionError("no workflow has a schema")

    def condition(self, expression: str, values: Values) -> bool:
        raise AssertionError("no step has a condition")

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        return ["null"] * int(str(for_each.source))


class Collector:
    """Collects the spans of runs in memory."""

    def __init__(self, *, sampler: Sampler | None = None) -> None:
        self.exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self.exporter)
        self.telemetry = Telemetry(processor, sampler=sampler, resource=Resource.get_empty())

    def tracer(self, run_id: str = "run", *, parent: TraceParent | None = None, create_time: int = NOON) -> RunTracer:
        return self.telemetry.run(
            namespace="default", run_id=run_id, workflow_name="flow", parent=parent, create_time=create_time
        )

    def spans(self, run_id: str = "run") -> Spans:
        """Return the spans of a run by label, such as `wave 0`, `step a` and `attempt a 1`."""
        of_run = [span for span in self.exporter.get_finished_spans() if attribute_of(span, "run_id") == run_id]
        labelled = {_label(span): span for span in of_run}
        assert len(labelled) == len(of_run), "every span is exported once"
        return labelled


class Run:
    """Drives the core, and adds its events to a tracer. Inputs are one second apart."""

    def __init__(self, tracer: RunTracer, *steps: Step, keep_going: bool = False, is_open: bool = False) -> None:
        policy = FailurePolicy.CONTINUE if keep_going else FailurePolicy.FAIL_FAST
        workflow = Workflow(name="flow", steps=steps, failure_policy=policy)
        self.state = new_run(workflow, options=RunOptions(open=is_open))
        self.tracer = tracer
        self.now = NOON
        self.events: list[Event] = []
        self.feed(Started())

    def feed(self, event: Input) -> None:
        self.now += SECOND
        events = decide(self.state, event, self.now, NoInput()).events
        self.events += events
        self.tracer.add(events)

    def start(self, *step_ids: str) -> None:
        for step_id in step_ids:
            self.feed(AttemptStarted(step_id, 1))

    def succeed(self, *step_ids: str) -> None:
        for step_id in step_ids:
            self.feed(AttemptSucceeded(step_id, 1, "null"))

    def fail(self, step_id: str, failure: Failure) -> None:
        self.feed(AttemptFailed(step_id, 1, failure))

    def interrupt(self, step_id: str, *, abandoned: bool = False) -> None:
        failure = Failure(Reason.CANCELLED, "cancelled", step_id=step_id, attempt=1)
        self.feed(AttemptInterrupted(step_id, 1, failure, abandoned))


def attribute_of(span: ReadableSpan, key: str) -> object:
    return (span.attributes or {}).get(f"stepwave.{key}")


def _label(span: ReadableSpan) -> str:
    keys = {"run": (), "wave": ("wave",), "step": ("step_id",), "attempt": ("step_id", "attempt")}
    kind = span.name.removeprefix("stepwave.")
    return " ".join([kind, *(str(attribute_of(span, key)) for key in keys[kind])])


def parents_of(spans: Spans) -> dict[str, str | None]:
    labels = {span.context.span_id: label for label, span in spans.items() if span.context}
    return {label: labels.get(span.parent.span_id) if span.parent else None for label, span in spans.items()}


def ids_of(spans: Iterable[ReadableSpan]) -> list[tuple[int, int]]:
    return [(span.context.trace_id, span.context.span_id) for span in spans if span.context]


def seconds_of(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.start_time - NOON) // SECOND, (span.end_time - NOON) // SECOND


def finish_diamond(run: Run) -> None:
    run.start("a")
    run.succeed("a")
    run.start("b", "c")
    run.succeed("c", "b")
    run.start("d")
    run.succeed("d")


def boom(step_id: str) -> Failure:
    details = (("exception", "ValueError"), ("traceback", "Traceback: boom"))
    return Failure(Reason.ACTION_ERROR, "ValueError: boom", step_id=step_id, attempt=1, details=details)
