"""The trace of a run on Temporal."""

from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stepwave import AsyncClient, Workflow, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.telemetry import Telemetry
from temporal_server import TemporalServer


async def test_an_action_runs_under_the_span_of_its_attempt(temporal_server: TemporalServer) -> None:
    seen: list[int] = []

    @action("look")
    async def look() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    exporter = InMemorySpanExporter()
    settings = Settings(
        listen="127.0.0.1:0", engine="temporal", temporal_address=temporal_server.address, entry_points=False
    )
    flow = Workflow("looks")
    flow.step("only", "look")
    async with (
        Server(settings, actions=[look], telemetry=Telemetry(SimpleSpanProcessor(exporter))) as server,
        AsyncClient(server.address) as client,
    ):
        await client.run(flow)
    contexts = {span.name: span.get_span_context() for span in exporter.get_finished_spans()}
    assert sorted(contexts) == ["stepwave.attempt", "stepwave.run", "stepwave.step", "stepwave.wave"]
    assert len({context.trace_id for context in contexts.values() if context is not None}) == 1
    attempt = contexts["stepwave.attempt"]
    assert attempt is not None
    assert seen == [attempt.span_id]
