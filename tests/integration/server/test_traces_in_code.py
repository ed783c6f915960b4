"""Spans with a tracer provider that the process sets in code."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, SamplingResult
from opentelemetry.trace import NoOpTracerProvider

from integration.server.build import end_of, fallback_to, flow, state_of, step
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient
from integration.server.span_processors import CallRecorder, FailingProcessor, FixedSampler, SpanRecorder
from stepwave import AsyncClient, Workflow, action
from stepwave_server.app import Server
from stepwave_server.telemetry import ProcessTelemetry, Telemetry, telemetry_of_process

pytestmark = pytest.mark.no_engine("a process exports its spans")

OTEL = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
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


def _set_provider(monkeypatch: pytest.MonkeyPatch, provider: object) -> None:
    """Set the global provider for one test. The API allows it once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)


def _trace(name: str) -> None:
    with trace.get_tracer("tools").start_as_current_span(name):
        pass


@action
async def looks() -> None:
    await asyncio.sleep(0)
    _trace("on loop")


@action
def looks_on_thread() -> None:
    _trace("on thread")


@action
async def looks_in_stream() -> AsyncIterator[int]:
    for number in range(2):
        _trace(f"in stream {number}")
        yield number
        await asyncio.sleep(0)


ACTIONS = (looks, looks_on_thread, looks_in_stream)
LOOKING = flow(
    step("a", "looks"),
    step("b", "looks_on_thread", after=["a"]),
    step("c", "looks_in_stream"),
    step("d", "core.fail", fallback=fallback_to("looks", {})),
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
    _set_provider(monkeypatch, provider)
    workflow = Workflow("looking")
    for name in ("looks", "looks_on_thread", "looks_in_stream"):
        workflow.step(name, name)
    server = await serve(*ACTIONS)
    async with AsyncClient(server.address) as sdk:
        with provider.get_tracer("mine").start_as_current_span("caller"):
            await sdk.run(workflow)
    spans = _names(exporter)
    for name in ("on loop", "on thread", "in stream 0", "in stream 1"):
        assert _lineage(spans, name) == [name, *UNDER, "caller"]
    assert {span.resource.attributes["service.name"] for span in spans.values()} == {"mine"}
    assert len({span.get_span_context().trace_id for span in spans.values()}) == 1  # type: ignore[union-attr]  # finished


async def test_a_provider_that_is_set_after_the_start_is_used_by_later_runs(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    client = connect(await serve(*ACTIONS))
    await client.run(LOOKING)
    _set_provider(monkeypatch, provider)
    await client.run(LOOKING)
    spans = _names(exporter)
    assert sum(span.name == "stepwave.run" for span in spans.values()) == 1
    assert _lineage(spans, "on thread") == ["on thread", *UNDER]


async def test_the_providers_sampler_decides(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    _set_provider(monkeypatch, provider)
    await connect(await serve(*ACTIONS)).run(LOOKING)
    assert exporter.get_finished_spans() == ()


@pytest.mark.parametrize("other", [NoOpTracerProvider(), object(), None], ids=["no-op", "foreign", "none"])
async def test_a_provider_other_than_the_sdks_does_no_harm(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, other: object
) -> None:
    _set_provider(monkeypatch, other)
    events = await connect(await serve()).run(flow(step("s")))
    assert state_of(end_of(events).state) == "succeeded"


@pytest.mark.parametrize("error", [OSError("no route"), SystemExit(1), asyncio.CancelledError()], ids=repr)
@pytest.mark.parametrize("where", ["start", "end"])
async def test_a_processor_that_raises_harms_no_run_and_no_earlier_processor_and_is_logged_once(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
    caplog: pytest.LogCaptureFixture,
    where: str,
    error: BaseException,
) -> None:
    provider.add_span_processor(FailingProcessor(where, error))
    _set_provider(monkeypatch, provider)
    client = connect(await serve())
    for _ in range(2):
        events = await client.run(flow(step("s"), step("t", after=["s"])))
        assert state_of(end_of(events).state) == "succeeded"
    expected = 2 * (1 + 2 + 2 + 2) if where == "end" else 0  # a span that could not be started has no end
    assert len(exporter.get_finished_spans()) == expected
    assert caplog.text.count("a span processor failed") == 1


async def test_processors_are_called_at_the_start_of_a_span_and_may_add_to_it(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, marks = TracerProvider(shutdown_on_exit=False), SpanRecorder()
    provider.add_span_processor(marks)
    _set_provider(monkeypatch, provider)
    await connect(await serve()).run(flow(step("s")))
    assert marks.started == [span.name for span in marks.ended] == UNDER
    assert {(span.attributes or {})["team"] for span in marks.ended} == {"blue"}


async def test_the_limits_of_the_provider_apply(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, exporter: InMemorySpanExporter
) -> None:
    provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(max_span_attribute_length=8))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    _set_provider(monkeypatch, provider)
    await connect(await serve()).run(flow(step("s", "core.fail", given={"message": "a long story"})))
    messages = [(span.attributes or {})["stepwave.failure.message"] for span in exporter.get_finished_spans()[:2]]
    assert {len(str(message)) for message in messages} == {8}


async def test_spans_are_the_same_with_a_provider_and_with_the_environments_exporter(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    def described(span: ReadableSpan) -> object:
        return (
            span.name,
            span.kind,
            {*(span.attributes or {})},
            span.status.status_code,
            [e.name for e in span.events],
        )

    plain = InMemorySpanExporter()
    workflow = flow(step("a", "core.fail"), step("b", after=["a"]), step("c"))
    await connect(await serve(telemetry=Telemetry(SimpleSpanProcessor(plain)))).run(workflow)
    _set_provider(monkeypatch, provider)
    await connect(await serve()).run(workflow)
    assert sorted(map(str, map(described, exporter.get_finished_spans()))) == sorted(
        map(str, map(described, plain.get_finished_spans()))
    )
    assert all(span.start_time and span.end_time for span in exporter.get_finished_spans())
    assert {span.instrumentation_scope for span in exporter.get_finished_spans()} == {
        span.instrumentation_scope for span in plain.get_finished_spans()
    }


async def test_spans_that_are_only_recorded_reach_the_processors_unsampled(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler, marks = FixedSampler(SamplingResult(Decision.RECORD_ONLY)), SpanRecorder()
    provider = TracerProvider(sampler, shutdown_on_exit=False)
    provider.add_span_processor(marks)
    _set_provider(monkeypatch, provider)
    await connect(await serve()).run(flow(step("s")))
    assert [span.name for span in marks.ended] == UNDER
    assert not any(span.get_span_context().trace_flags.sampled for span in marks.ended)  # type: ignore[union-attr]  # ended
    assert sampler.asked == 1, "once for the whole run"


@pytest.mark.parametrize("answer", [RuntimeError("no rules"), None], ids=["raises", "no answer"])
async def test_a_sampler_that_fails_harms_no_run(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: object
) -> None:
    _set_provider(monkeypatch, TracerProvider(FixedSampler(answer), shutdown_on_exit=False))
    client = connect(await serve())
    for _ in range(2):
        assert state_of(end_of(await client.run(flow(step("s")))).state) == "succeeded"
    assert caplog.text.count("the sampler of spans failed") == 1


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize("other", [NoOpTracerProvider(), object(), None], ids=["no-op", "foreign", "none"])
async def test_without_spans_of_runs_spans_of_actions_are_children_of_the_clients_span(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider, other: object
) -> None:
    seen: list[tuple[str, str]] = []

    @action
    async def sees() -> None:
        context = trace.get_current_span().get_span_context()
        seen.append((f"{context.trace_id:032x}", f"{context.span_id:016x}"))

    _set_provider(monkeypatch, other)
    with provider.get_tracer("mine").start_as_current_span("what the server was started under"):
        client = connect(await serve(sees))
    await client.execute(flow(step("s", "sees")), metadata=[("traceparent", f"00-{TRACE}-{SPAN}-01")]).rest()
    assert seen == [(TRACE, SPAN)]


async def test_a_provider_other_than_the_sdks_gets_root_spans_for_clients_without_a_span(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, provider: TracerProvider
) -> None:
    seen: list[bool] = []

    @action
    async def sees() -> None:
        seen.append(trace.get_current_span().get_span_context().is_valid)

    _set_provider(monkeypatch, NoOpTracerProvider())
    with provider.get_tracer("mine").start_as_current_span("what the server was started under"):
        client = connect(await serve(sees))
    await client.run(flow(step("s", "sees")))
    assert seen == [False]


async def test_a_server_that_stops_flushes_the_provider_and_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, processor = TracerProvider(shutdown_on_exit=False), CallRecorder()
    provider.add_span_processor(processor)
    _set_provider(monkeypatch, provider)
    async with AsyncClient.local(entry_points=False) as sdk:
        await sdk.parallel(["core.echo"], 1)
    assert processor.asked == ["flush"]


async def test_a_flush_that_hangs_does_not_delay_the_stop_of_a_server(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    released = threading.Event()

    class Stuck(SpanProcessor):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            return released.wait(60)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Stuck())
    _set_provider(monkeypatch, provider)
    telemetry = telemetry_of_process()
    assert isinstance(telemetry, ProcessTelemetry)
    telemetry.run(namespace="default", run_id="run", workflow_name="flow", parent=None)
    await asyncio.wait_for(asyncio.to_thread(telemetry.shutdown, 0.05), 30)
    assert "spans may be lost" in caplog.text
    released.set()


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_each_setting_that_disables_tracing_disables_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    assert isinstance(telemetry_of_process(), ProcessTelemetry)
    monkeypatch.setenv(variable, value)
    assert telemetry_of_process() is None


async def test_an_exporter_of_the_environment_gets_each_span_once(
    serve: Serve,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    provider: TracerProvider,
    exporter: InMemorySpanExporter,
) -> None:
    _set_provider(monkeypatch, provider)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    server: Server = await serve(*ACTIONS)
    client: RawClient = connect(server)
    await client.run(flow(step("s")))
    assert exporter.get_finished_spans() == (), "the environment's exporter has them"
