"""A tracer provider that a process sets in code gets the spans of runs, and actions' spans have the right parents."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

from integration.server.build import end_of, flow, instead, state_of, step
from integration.server.caller import Caller
from integration.server.serving import Call, Serve
from stepwave import AsyncClient, Workflow, action
from stepwave_server.app import Server
from stepwave_server.telemetry import ProcessTelemetry, telemetry_of_process

OTEL = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in OTEL:
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> Iterator[TracerProvider]:
    made = TracerProvider(resource=Resource.create({"service.name": "mine"}))
    made.add_span_processor(SimpleSpanProcessor(exporter))
    yield made
    made.shutdown()


def _set(monkeypatch: pytest.MonkeyPatch, provider: object) -> None:
    """Make a provider the process's own, for one test: the API allows that once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


def _own(name: str) -> None:
    with trace.get_tracer("tools").start_as_current_span(name):
        pass


@action
async def looks() -> None:
    await asyncio.sleep(0)
    _own("on loop")


@action
def looks_on_thread() -> None:
    _own("on thread")


@action
async def looks_in_stream() -> AsyncIterator[int]:
    for number in range(2):
        _own(f"in stream {number}")
        yield number
        await asyncio.sleep(0)


ACTIONS = (looks, looks_on_thread, looks_in_stream)
LOOKING = flow(
    step("a", "looks"),
    step("b", "looks_on_thread", after=["a"]),
    step("c", "looks_in_stream"),
    step("d", "core.fail", fallback=instead("looks", {})),
)


def _names(exporter: InMemorySpanExporter) -> dict[int, ReadableSpan]:
    return {span.get_span_context().span_id: span for span in exporter.get_finished_spans()}  # type: ignore[union-attr]  # finished


def _lineage(spans: dict[int, ReadableSpan], name: str) -> list[str]:
    """Return the names of a span and of all above it."""
    (span,) = [span for span in spans.values() if span.name == name]
    names = [span.name]
    while span.parent is not None and span.parent.span_id in spans:
        span = spans[span.parent.span_id]
        names.append(span.name)
    return names


UNDER = ["stepwave.attempt", "stepwave.step", "stepwave.wave", "stepwave.run"]


async def test_actions_spans_are_under_their_attempts_in_the_callers_trace(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    _set(monkeypatch, provider)
    workflow = Workflow("looking")
    for name in ("looks", "looks_on_thread", "looks_in_stream"):
        workflow.step(name, name)
    server = await serve(*ACTIONS)
    async with AsyncClient(server.address) as client:
        with provider.get_tracer("mine").start_as_current_span("caller"):
            await client.run(workflow)
    spans = _names(exporter)
    for name in ("on loop", "on thread", "in stream 0", "in stream 1"):
        assert _lineage(spans, name) == [name, *UNDER, "caller"]
    assert {span.resource.attributes["service.name"] for span in spans.values()} == {"mine"}
    assert len({span.get_span_context().trace_id for span in spans.values()}) == 1  # type: ignore[union-attr]  # finished


async def test_a_provider_that_is_set_after_the_server_began_is_used_by_the_runs_that_follow(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    caller = call(await serve(*ACTIONS))
    await caller.run(LOOKING)
    _set(monkeypatch, provider)
    await caller.run(LOOKING)
    spans = _names(exporter)
    assert sum(span.name == "stepwave.run" for span in spans.values()) == 1
    assert _lineage(spans, "on thread") == ["on thread", *UNDER]


async def test_the_providers_sampler_decides(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    _set(monkeypatch, provider)
    await call(await serve(*ACTIONS)).run(LOOKING)
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("other", [NoOpTracerProvider(), object(), None], ids=["no-op", "foreign", "none"])
async def test_another_provider_than_the_sdks_harms_nobody(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, other: object
) -> None:
    _set(monkeypatch, other)
    events = await call(await serve()).run(flow(step("s")))
    assert state_of(end_of(events).state) == "succeeded"


async def test_a_processor_that_raises_harms_no_run(serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise OSError("no route")

    provider = TracerProvider()
    provider.add_span_processor(Broken())
    _set(monkeypatch, provider)
    events = await call(await serve()).run(flow(step("s")))
    assert state_of(end_of(events).state) == "succeeded"


class Patient(SpanProcessor):
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def shutdown(self) -> None:
        self.asked.append("shutdown")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self.asked.append("flush")
        return True


async def test_a_server_that_stops_flushes_the_provider_and_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, processor = TracerProvider(shutdown_on_exit=False), Patient()
    provider.add_span_processor(processor)
    _set(monkeypatch, provider)
    async with AsyncClient.local(entry_points=False) as client:
        await client.parallel(["core.echo"], 1)
    assert processor.asked == ["flush"]


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_what_turns_tracing_off_turns_it_off(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    assert isinstance(telemetry_of_process(), ProcessTelemetry)
    monkeypatch.setenv(variable, value)
    assert telemetry_of_process() is None


async def test_what_the_environment_asks_for_is_exported_once(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    _set(monkeypatch, provider)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    server: Server = await serve(*ACTIONS)
    caller: Caller = call(server)
    await caller.run(flow(step("s")))
    assert exporter.get_finished_spans() == (), "the environment's exporter has them"
