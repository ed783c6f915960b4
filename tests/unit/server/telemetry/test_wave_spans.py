"""Traces with less: spans of waves alone, and runs without spans."""

import contextvars

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanContext

from stepwave_server.core.model import Step
from stepwave_server.telemetry import RunTracer, Telemetry, TraceParent
from unit.server.telemetry.runs import (
    CALLER,
    DIAMOND,
    NOON,
    UNSAMPLED,
    Collector,
    Run,
    attribute_of,
    boom,
    finish_diamond,
)

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("test_wave_spans", default="")


class WaveCollector(Collector):
    """Collects the spans of runs whose steps and attempts have none."""

    def __init__(self) -> None:
        super().__init__()
        self.telemetry = Telemetry(SimpleSpanProcessor(self.exporter), resource=Resource.get_empty(), detail="waves")


def _current(variables: contextvars.Context) -> SpanContext:
    return variables.run(trace.get_current_span).get_span_context()


def test_a_run_has_spans_of_itself_and_its_waves_alone() -> None:
    collector = WaveCollector()
    finish_diamond(Run(collector.tracer(), *DIAMOND))
    spans = collector.spans()
    assert sorted(spans) == ["run", "wave 0", "wave 1", "wave 2"]
    assert attribute_of(spans["wave 1"], "wave.steps") == 2
    assert attribute_of(spans["run"], "steps.succeeded") == 4


def test_a_wave_shows_its_failed_steps_and_the_run_those_that_never_started() -> None:
    collector = WaveCollector()
    run = Run(collector.tracer(), Step("a", "echo"), Step("b", "echo", ("a",)))
    run.start("a")
    run.fail("a", boom("a"))
    spans = collector.spans()
    assert sorted(spans) == ["run", "wave 0"]
    assert attribute_of(spans["wave 0"], "wave.failed") == 1
    assert [event.name for event in spans["run"].events if event.name != "exception"] == ["stepwave.step_skipped"]


def test_spans_of_an_action_are_children_of_the_span_of_its_wave() -> None:
    collector = WaveCollector()
    tracer = collector.tracer()
    current = [_current(tracer.attempt_variables(step_id, 0, 1)) for step_id in ("a", "b")]
    finish_diamond(Run(tracer, *DIAMOND))
    wave = collector.spans()["wave 0"].get_span_context()
    assert wave is not None
    assert {context.span_id for context in current} == {wave.span_id}


@pytest.mark.parametrize("parent", [None, UNSAMPLED, CALLER])
def test_the_attempts_of_an_unsampled_run_share_one_span_that_is_not_sampled(parent: TraceParent | None) -> None:
    tracer = Collector(sampler=ALWAYS_OFF).tracer(parent=parent)
    first, second = _current(tracer.attempt_variables("a", 0, 1)), _current(tracer.attempt_variables("b", 0, 1))
    assert first == second
    assert first.is_valid
    assert not first.trace_flags.sampled
    assert tracer.trace_id == ""


@pytest.mark.parametrize("tracer", [Collector(sampler=ALWAYS_OFF).tracer(), WaveCollector().tracer()])
def test_what_one_attempt_puts_into_its_context_no_other_sees(tracer: RunTracer) -> None:
    first, second = tracer.attempt_variables("a", 0, 1), tracer.attempt_variables("b", 0, 1)
    first.run(VARIABLE.set, "mine")
    assert second.run(VARIABLE.get) == ""


def test_a_broken_run_ends_the_spans_of_its_waves() -> None:
    collector = WaveCollector()
    tracer = collector.tracer()
    Run(tracer, *DIAMOND).start("a")
    tracer.abandon(NOON, "over")
    assert sorted(collector.spans()) == ["run", "wave 0"]
