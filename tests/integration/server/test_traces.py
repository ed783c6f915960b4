"""One trace for every run: client, run, wave, step and attempt, with the right parents for concurrent runs too."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from integration.server.build import flow, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient
from stepwave import action
from stepwave_server.telemetry import Telemetry

DIAMOND = flow(step("a"), step("b", "looks", after=["a"]), step("c", "looks", after=["a"]), step("d", after=["b", "c"]))
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def seen() -> list[tuple[int, int]]:
    """The current trace and span of each action that ran."""
    return []


@pytest.fixture
async def client(
    serve: Serve, connect: Connect, exporter: InMemorySpanExporter, seen: list[tuple[int, int]]
) -> RawClient:
    @action
    async def looks() -> None:
        await asyncio.sleep(0)
        context = trace.get_current_span().get_span_context()
        seen.append((context.trace_id, context.span_id))

    @action
    def looks_on_thread() -> None:
        context = trace.get_current_span().get_span_context()
        seen.append((context.trace_id, context.span_id))

    telemetry = Telemetry(SimpleSpanProcessor(exporter))
    return connect(await serve(looks, looks_on_thread, telemetry=telemetry))


def _id(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.span_id


def _trace(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


def _label(span: ReadableSpan) -> str:
    """Return a label of a span, such as `step b`."""
    attributes = {key: str(value) for key, value in (span.attributes or {}).items()}
    kind = span.name.removeprefix("stepwave.")
    match kind:
        case "run":
            return f"run {attributes['stepwave.run_id']}"
        case "wave":
            return f"wave {attributes['stepwave.wave']}"
        case _:
            return f"{kind} {attributes['stepwave.step_id']}"


def _tree(spans: tuple[ReadableSpan, ...], run_id: str) -> dict[str, str]:
    """Return the label of each span of a run with that of its parent; empty: no parent in the run."""
    own = [span for span in spans if (span.attributes or {}).get("stepwave.run_id") == run_id]
    labels = {_id(span): _label(span) for span in own}
    assert len(labels) == len(own), "two spans have one id"
    return {_label(span): labels.get(span.parent.span_id, "") if span.parent else "" for span in own}


def _diamond_tree(run_id: str) -> dict[str, str]:
    waves = {"a": "wave 0", "b": "wave 1", "c": "wave 1", "d": "wave 2"}
    return {
        f"run {run_id}": "",
        **dict.fromkeys(waves.values(), f"run {run_id}"),
        **{f"step {step_id}": wave for step_id, wave in waves.items()},
        **{f"attempt {step_id}": f"step {step_id}" for step_id in waves},
    }


async def test_spans_nest_as_run_wave_step_and_attempt(client: RawClient, exporter: InMemorySpanExporter) -> None:
    await client.run(DIAMOND, run_id="mine")
    spans = exporter.get_finished_spans()
    assert _tree(spans, "mine") == _diamond_tree("mine")
    assert len({_trace(span) for span in spans}) == 1


async def test_runs_at_once_have_a_trace_each_with_correct_parents(
    client: RawClient, exporter: InMemorySpanExporter
) -> None:
    names = [f"run{i}" for i in range(25)]
    await asyncio.gather(*(client.run(DIAMOND, run_id=name) for name in names))
    spans = exporter.get_finished_spans()
    assert len({_trace(span) for span in spans}) == len(names)
    for name in names:
        assert _tree(spans, name) == _diamond_tree(name)
        assert len({_trace(span) for span in spans if (span.attributes or {})["stepwave.run_id"] == name}) == 1


async def test_a_callers_span_is_the_parent_of_its_run(client: RawClient, exporter: InMemorySpanExporter) -> None:
    metadata = [("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=x")]
    await client.execute(DIAMOND, run_id="mine", metadata=metadata).rest()
    spans = exporter.get_finished_spans()
    assert {f"{_trace(span):032x}" for span in spans} == {TRACE}
    (run,) = [span for span in spans if span.name == "stepwave.run"]
    assert run.parent is not None
    assert f"{run.parent.span_id:016x}" == SPAN
    assert run.context is not None
    assert run.context.trace_state.get("vendor") == "x"


async def test_the_spans_of_many_clients_are_kept_apart(client: RawClient, exporter: InMemorySpanExporter) -> None:
    async def run(number: int) -> None:
        metadata = [("traceparent", f"00-{number:032x}-{number:016x}-01")]
        await client.execute(DIAMOND, run_id=f"run{number}", metadata=metadata).rest()

    await asyncio.gather(*(run(number) for number in range(1, 21)))
    for span in exporter.get_finished_spans():
        assert (span.attributes or {})["stepwave.run_id"] == f"run{_trace(span)}"


@pytest.mark.parametrize("header", ["nonsense", "00-0-0-01", f"00-{'0' * 32}-{SPAN}-01", f"ff-{TRACE}-{SPAN}-01"])
async def test_a_malformed_trace_context_begins_a_new_trace(
    client: RawClient, exporter: InMemorySpanExporter, header: str
) -> None:
    await client.execute(DIAMOND, metadata=[("traceparent", header)]).rest()
    (run,) = [span for span in exporter.get_finished_spans() if span.name == "stepwave.run"]
    assert run.parent is None


async def test_a_caller_that_is_not_sampled_has_no_spans_exported(
    client: RawClient, exporter: InMemorySpanExporter
) -> None:
    await client.execute(DIAMOND, metadata=[("traceparent", f"00-{TRACE}-{SPAN}-00")]).rest()
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("name", ["looks", "looks_on_thread"])
async def test_an_action_runs_under_its_attempts_span(
    client: RawClient, exporter: InMemorySpanExporter, seen: list[tuple[int, int]], name: str
) -> None:
    await client.run(flow(*(step(f"s{i}", name) for i in range(10))))
    attempts = [span for span in exporter.get_finished_spans() if span.name == "stepwave.attempt"]
    assert sorted(seen) == sorted((_trace(span), _id(span)) for span in attempts)


async def test_spans_of_an_action_are_children_of_its_attempt(
    serve: Serve, connect: Connect, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tools")

    @action
    async def calls() -> None:
        with tracer.start_as_current_span("outgoing"):
            await asyncio.sleep(0)

    client = connect(await serve(calls, telemetry=Telemetry(SimpleSpanProcessor(exporter))))
    await client.run(flow(step("s", "calls")))
    spans = {span.name: span for span in exporter.get_finished_spans()}
    parent = spans["outgoing"].parent
    assert parent is not None
    assert parent.span_id == _id(spans["stepwave.attempt"])


async def test_spans_end_on_every_path(
    client: RawClient, exporter: InMemorySpanExporter, controlled: ControlledActions
) -> None:
    controlled.release("bad")
    await client.run(
        flow(step("bad", "fails"), step("blocked", "controlled"), step("next", after=["blocked"])), run_id="failed"
    )
    await client.start(flow(step("blocked", "controlled"), step("next", after=["blocked"])), run_id="cancelled")
    await controlled.wait_started("blocked")
    await client.cancel("cancelled")
    await client.events("cancelled")
    spans = exporter.get_finished_spans()
    assert set(_tree(spans, "cancelled")) == {"run cancelled", "wave 0", "step blocked", "attempt blocked"}
    assert "step next" not in _tree(spans, "failed")
    assert set(_tree(spans, "failed")) >= {"run failed", "wave 0", "step bad", "step blocked", "attempt blocked"}
    assert all(span.end_time is not None for span in spans)


async def test_a_failure_sets_error_and_records_the_exception(
    client: RawClient, exporter: InMemorySpanExporter, controlled: ControlledActions
) -> None:
    controlled.release("bad")
    await client.run(flow(step("bad", "fails")), run_id="failed")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    for name in ("stepwave.run", "stepwave.wave", "stepwave.step", "stepwave.attempt"):
        assert spans[name].status.status_code is StatusCode.ERROR
    (event,) = spans["stepwave.attempt"].events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.type"] == "ValueError"


async def test_a_later_run_of_the_same_id_has_another_trace(client: RawClient, exporter: InMemorySpanExporter) -> None:
    for _ in range(2):
        await client.run(flow(step("a")), run_id="mine")
        await client.delete("mine")
    assert len({_trace(span) for span in exporter.get_finished_spans()}) == 2
