"""Steps that call tools of an MCP server, which is a process that the tests share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.mcp.conftest import TOOLS, Log, answer, begun, calling, failure_of, serving
from stepwave import AsyncClient, Blob, FailureReason, RunFailed, StepProgress, Workflow
from stepwave_server.telemetry import Telemetry

pytestmark = pytest.mark.asyncio(loop_scope="module")

VALUE = "sk-live-0123456789abcdef"


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    """Return the spans of the server."""
    return InMemorySpanExporter()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(tmp_path_factory: pytest.TempPathFactory, spans: InMemorySpanExporter) -> AsyncIterator[AsyncClient]:
    """Return a client of a server that has the tools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEPWAVE_SECRET_KEY", VALUE)
        patch.setenv("NOT_FOR_TOOLS", "private")
        entry = TOOLS | {"env": {"KEY": {"secret": "KEY"}, "PLACE": "here"}}
        telemetry = Telemetry(SimpleSpanProcessor(spans))
        async with serving(tmp_path_factory.mktemp("mcp"), entry, telemetry) as client:
            yield client


async def test_structured_content_is_the_output(client: AsyncClient) -> None:
    assert await answer(client, "add", {"left": 2**53, "right": 1}) == {"sum": 2**53 + 1}


async def test_blocks_of_text_are_joined_by_newlines(client: AsyncClient) -> None:
    assert await answer(client, "lines", {"count": 2}) == "line 0\nline 1"


async def test_an_answer_without_blocks_is_null(client: AsyncClient) -> None:
    assert await answer(client, "lines", {"count": 0}) is None


async def test_a_picture_or_a_binary_resource_alone_is_a_blob(client: AsyncClient) -> None:
    assert await answer(client, "picture") == Blob(b"\x89PNG", "image/png")
    assert await answer(client, "resource") == Blob(b"\x00\x01", "application/octet-stream")


async def test_other_blocks_are_a_list(client: AsyncClient) -> None:
    text, picture = await answer(client, "mixed")
    assert text == {"type": "text", "text": "seen"}
    assert picture == {"type": "image", "data": "AAE=", "mimeType": "image/png"}


async def test_structured_content_with_a_picture_beside_it_is_both(client: AsyncClient) -> None:
    output = await answer(client, "mixed", {"structured": {"points": 3}})
    assert output["structuredContent"] == {"points": 3}
    assert output["content"] == await answer(client, "mixed")


async def test_tools_are_listed_with_their_schemas(client: AsyncClient) -> None:
    flow = Workflow("tools")
    flow.step("only", "mcp.list", {"server": "tools"})
    listed = {tool["name"]: tool for tool in (await client.run(flow)).outputs["only"]}
    assert listed["add"].keys() == {"name", "description", "input_schema"}
    assert listed["add"]["description"] == "Add two numbers."
    assert listed["add"]["input_schema"]["required"] == ["left", "right"]


async def test_both_actions_have_schemas(client: AsyncClient) -> None:
    actions = {action.name: action for action in await client.actions()}
    assert actions["mcp.call"].input_schema["required"] == ["server", "tool"]
    assert actions["mcp.list"].input_schema["required"] == ["server"]
    assert actions["mcp.list"].output_schema["type"] == "array"
    assert (actions["mcp.list"].idempotent, actions["mcp.call"].idempotent) == (True, False)
    assert actions["mcp.call"].source == "built-in"


async def test_an_error_of_a_tool_is_a_failure_with_its_text(client: AsyncClient) -> None:
    failure = await failure_of(client, "refuse")
    assert (failure.reason, failure.retryable) == (FailureReason.ACTION_ERROR, False)
    assert failure.message.startswith('MCP server "tools": the tool "refuse" failed: ')
    assert "no more tickets" in failure.message
    assert failure.details == {"mcp_server": "tools"}


async def test_unknown_tools_and_servers_are_not_found(client: AsyncClient) -> None:
    failure = await failure_of(client, "subtract")
    assert (failure.reason, failure.retryable) == (FailureReason.NOT_FOUND, False)
    flow = Workflow("one")
    flow.step("only", "mcp.list", {"server": "tolls"})
    with pytest.raises(RunFailed, match='unknown MCP server "tolls"; did you mean "tools"') as caught:
        await client.run(flow)
    assert caught.value.result.failures[0].reason is FailureReason.NOT_FOUND


async def test_progress_passes_through(client: AsyncClient) -> None:
    async with client.run(calling("stepped")) as run:
        found = [event async for event in run if isinstance(event, StepProgress)]
    assert [(event.fraction, event.message) for event in found] == [(0.5, "half"), (None, "more"), (None, "beyond")]


async def test_a_call_carries_the_idempotency_key_and_the_trace(
    client: AsyncClient, spans: InMemorySpanExporter
) -> None:
    result = await client.run(calling("told"), run_id="run-told")
    meta = result.outputs["only"]["meta"]
    assert meta["stepwave/idempotency_key"] == "default/run-told/only"
    attempts = [span for span in spans.get_finished_spans() if span.name == "stepwave.attempt"]
    contexts = [context for span in attempts if (context := span.get_span_context()) is not None]
    assert meta["traceparent"].split("-")[1] in {trace.format_trace_id(context.trace_id) for context in contexts}


async def test_a_process_gets_a_safe_environment_and_its_own_variables(client: AsyncClient) -> None:
    variables = (await answer(client, "told"))["variables"]
    assert {"KEY", "PATH", "PLACE"} <= set(variables)
    assert not {name for name in variables if name.startswith("STEPWAVE") or name == "NOT_FOR_TOOLS"}


async def test_the_secret_of_a_server_is_in_no_output_and_no_log(client: AsyncClient, log: Log) -> None:
    assert await answer(client, "variable", {"name": "KEY"}) == "It is [secret KEY]."
    await log.wait_for('MCP server "tools": KEY is [secret KEY]')
    assert VALUE not in log.text


async def test_calls_share_one_process(client: AsyncClient) -> None:
    flow = Workflow("many")
    for number in range(20):
        flow.step(f"call{number}", "mcp.call", {"server": "tools", "tool": "told"})
    outputs = (await client.run(flow)).outputs.values()
    assert len({output["process"] for output in outputs}) == 1


async def test_a_cancelled_call_is_cancelled_there_and_the_session_lives_on(client: AsyncClient, log: Log) -> None:
    process = (await answer(client, "told"))["process"]
    async with client.run(calling("hold")) as run:
        await begun(run)
        await run.cancel()
    await log.wait_for("hold was cancelled")
    assert (await answer(client, "told"))["process"] == process


async def test_the_timeout_of_an_attempt_ends_its_call(client: AsyncClient) -> None:
    with pytest.raises(RunFailed) as caught:
        await client.run(calling("hold", timeout=0.2))
    assert caught.value.result.failures[0].reason is FailureReason.TIMEOUT


async def test_an_answer_above_the_bound_is_refused(client: AsyncClient) -> None:
    failure = await failure_of(client, "large", {"size": 2 << 20})
    assert (failure.reason, failure.retryable) == (FailureReason.RESOURCE_EXHAUSTED, False)
    assert failure.message.startswith('MCP server "tools": it answered 2,097,1')
