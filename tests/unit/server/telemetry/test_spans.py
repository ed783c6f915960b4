"""The spans of a run: tree, times, ids, attributes and sampling."""

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind

from stepwave_server.core.messages import AddSteps
from stepwave_server.core.model import Step
from stepwave_server.telemetry import TraceParent
from unit.server.telemetry.runs import (
    CALLER,
    DIAMOND,
    NOON,
    UNSAMPLED,
    Collector,
    Run,
    finish_diamond,
    ids_of,
    parents_of,
    seconds_of,
)


def test_a_diamond_becomes_a_tree_of_run_waves_steps_and_attempts() -> None:
    collector = Collector()
    finish_diamond(Run(collector.tracer(), *DIAMOND))
    assert parents_of(collector.spans()) == {
        "run": None,
        "wave 0": "run",
        "wave 1": "run",
        "wave 2": "run",
        "step a": "wave 0",
        "step b": "wave 1",
        "step c": "wave 1",
        "step d": "wave 2",
        **{f"attempt {step_id} 1": f"step {step_id}" for step_id in "abcd"},
    }


def test_spans_last_from_start_to_end_and_a_wave_from_its_first_start_to_its_last_end() -> None:
    collector = Collector()
    finish_diamond(Run(collector.tracer(), *DIAMOND))
    spans = collector.spans()
    assert seconds_of(spans["run"]) == (1, 9)
    assert seconds_of(spans["wave 1"]) == (4, 7)
    assert seconds_of(spans["step b"]) == seconds_of(spans["attempt b 1"]) == (4, 7)
    assert seconds_of(spans["step c"]) == (5, 6)


def test_the_wave_of_an_open_run_ends_with_its_last_step_not_with_the_seal() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "echo"), is_open=True)
    run.start("a")
    run.succeed("a")
    run.feed(AddSteps((), seal=True))
    assert seconds_of(collector.spans()["wave 0"]) == (2, 3)
    assert seconds_of(collector.spans()["run"]) == (1, 4)


def test_interleaved_runs_have_traces_of_their_own() -> None:
    collector = Collector()
    runs = {run_id: Run(collector.tracer(run_id), *DIAMOND) for run_id in ("one", "two")}
    for step_id in "abcd":
        for run in runs.values():
            run.start(step_id)
        for run in reversed(runs.values()):
            run.succeed(step_id)
    one, two = collector.spans("one"), collector.spans("two")
    assert parents_of(one) == parents_of(two)
    assert {span.context.trace_id for span in one.values() if span.context}.isdisjoint(
        span.context.trace_id for span in two.values() if span.context
    )
    assert len({span_id for _, span_id in ids_of([*one.values(), *two.values()])}) == 24


def test_the_callers_span_is_the_parent_of_the_runs_span() -> None:
    collector = Collector()
    finish_diamond(Run(collector.tracer(parent=CALLER), *DIAMOND))
    spans = collector.spans()
    run = spans["run"]
    assert run.kind is SpanKind.SERVER
    assert run.parent is not None
    assert run.parent.is_remote
    assert f"{run.parent.span_id:016x}" in CALLER.traceparent
    assert {f"{trace_id:032x}" for trace_id, _ in ids_of(spans.values())} == {"4bf92f3577b34da6a3ce929d0e0e4736"}
    assert all(dict(span.context.trace_state) == {"vendor": "1"} for span in spans.values() if span.context)


def test_two_tracers_derive_the_same_ids_for_a_run() -> None:
    first, second = Collector(), Collector()
    for collector in (first, second):
        finish_diamond(Run(collector.tracer(), *DIAMOND))
    assert ids_of(first.spans().values()) == ids_of(second.spans().values())


def test_a_later_run_of_the_same_id_has_a_trace_of_its_own() -> None:
    first, second = Collector(), Collector()
    finish_diamond(Run(first.tracer(), *DIAMOND))
    finish_diamond(Run(second.tracer(create_time=NOON + 1), *DIAMOND))
    assert set(ids_of(first.spans().values())).isdisjoint(ids_of(second.spans().values()))


def test_after_a_crash_another_process_exports_exactly_the_remaining_spans() -> None:
    whole = Collector()
    run = Run(whole.tracer(), *DIAMOND)
    finish_diamond(run)
    for crash in range(len(run.events) + 1):
        before, after = Collector(), Collector()
        before.tracer().add(run.events[:crash])
        successor = after.tracer()
        successor.replay(run.events[:crash])
        successor.add(run.events[crash:])
        exported = [*before.exporter.get_finished_spans(), *after.exporter.get_finished_spans()]
        assert [span.to_json() for span in exported] == [span.to_json() for span in whole.spans().values()]


def test_attributes_name_the_run_the_step_and_the_action() -> None:
    collector = Collector()
    run = Run(collector.tracer(), Step("a", "search"))
    run.start("a")
    run.succeed("a")
    common = {"stepwave.namespace": "default", "stepwave.run_id": "run", "stepwave.workflow": "flow"}
    step = {**common, "stepwave.wave": 0, "stepwave.step_id": "a", "stepwave.action": "search"}
    spans = collector.spans()
    assert dict(spans["attempt a 1"].attributes or {}) == {**step, "stepwave.attempt": 1, "stepwave.state": "succeeded"}
    assert dict(spans["step a"].attributes or {}) == {
        **step,
        "stepwave.attempts": 1,
        "stepwave.wait_seconds": 1.0,
        "stepwave.state": "succeeded",
    }
    assert dict(spans["wave 0"].attributes or {}) == {
        **common,
        "stepwave.wave": 0,
        "stepwave.wave.steps": 1,
        "stepwave.wave.failed": 0,
    }
    assert dict(spans["run"].attributes or {}) == {
        **common,
        "stepwave.state": "succeeded",
        "stepwave.steps.succeeded": 1,
        "stepwave.steps.failed": 0,
        "stepwave.steps.cancelled": 0,
        "stepwave.steps.skipped": 0,
    }


@pytest.mark.parametrize(("sampler", "parent"), [(None, UNSAMPLED), (ALWAYS_OFF, None), (ALWAYS_OFF, CALLER)])
def test_an_unsampled_run_exports_nothing_and_its_actions_are_unsampled(
    sampler: Sampler | None, parent: TraceParent | None
) -> None:
    collector = Collector(sampler=sampler)
    tracer = collector.tracer(parent=parent)
    finish_diamond(Run(tracer, *DIAMOND))
    tracer.abandon(NOON, "over")
    assert not collector.exporter.get_finished_spans()
    context = trace.get_current_span(tracer.attempt_context("a", 0, 1)).get_span_context()
    assert context.is_valid
    assert not context.trace_flags.sampled


def test_an_always_on_sampler_overrides_the_callers_flag() -> None:
    collector = Collector(sampler=ALWAYS_ON)
    finish_diamond(Run(collector.tracer(parent=UNSAMPLED), *DIAMOND))
    assert len(collector.spans()) == 12


def test_spans_of_an_action_are_children_of_its_attempts_span() -> None:
    collector = Collector()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(collector.exporter))
    tracer = collector.tracer()
    run = Run(tracer, Step("a", "echo"))
    run.start("a")
    token = otel_context.attach(tracer.attempt_context("a", 0, 1))
    with trace.get_tracer("action", tracer_provider=provider).start_as_current_span("fetch"):
        pass
    otel_context.detach(token)
    run.succeed("a")
    fetch = collector.exporter.get_finished_spans()[0]
    attempt = collector.spans()["attempt a 1"]
    assert fetch.name == "fetch"
    assert fetch.parent == attempt.context


def test_spans_of_telemetrys_provider_are_exported_as_well() -> None:
    collector = Collector()
    tracer = trace.get_tracer("action", tracer_provider=collector.telemetry.provider())
    with tracer.start_as_current_span("fetch", context=collector.tracer().attempt_context("a", 0, 1)):
        pass
    assert [span.name for span in collector.exporter.get_finished_spans()] == ["fetch"]
