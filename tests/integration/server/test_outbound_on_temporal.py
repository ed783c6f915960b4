"""Actions that call services on Temporal: a server runs them there, with the same failures and chunks."""

import json
from pathlib import Path

import pytest

from integration.mcp.conftest import bad, entry_text
from integration.server.build import bind, finished, flow, retry, state_of, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.http_service import Exchange, answer, as_json, http_service
from stepwave.v1 import workflow_pb2

pytestmark = pytest.mark.parametrize("serve", ["temporal"], indirect=True)


async def test_a_request_is_tried_again_on_temporal_and_its_answer_reaches_a_model(
    serve: Serve, connect: Connect
) -> None:
    async with http_service() as service:

        async def recover(exchange: Exchange) -> None:
            busy = len(service.requests) == 1
            await (answer(503, headers={"Retry-After": "0"}) if busy else as_json("fjords"))(exchange)

        async def complete(exchange: Exchange) -> None:
            parts = [{"delta": {"content": "Good "}}, {"delta": {"content": "day"}, "finish_reason": "stop"}]
            lines = "".join(f"data: {json.dumps({'choices': [part]})}\n\n" for part in parts).encode()
            await answer(200, lines, {"Content-Type": "text/event-stream"})(exchange)

        service.handlers |= {"/a": recover, "/chat/completions": complete}
        given = {"url": service.url(), "model": "m", "messages": [{"role": "user", "content": ""}]}
        workflow = flow(
            step("get", "http.request", given={"url": service.url("/a"), "method": "POST"}, retry=retry(2)),
            step("ask", "chat.complete", given=given, bindings=[bind("/messages/0/content", "get", "/body")]),
        )
        events = await connect(await serve(http_allow="127.0.0.1")).run(workflow, run_id="run")
    results = finished(events)
    assert {name: state_of(result.state) for name, result in results.items()} == {
        "get": "succeeded",
        "ask": "succeeded",
    }
    assert [sent.headers["idempotency-key"] for sent in service.requests] == ["default/run/get"] * 2 + [
        "default/run/ask"
    ]
    assert json.loads(service.requests[2].body)["messages"] == [{"role": "user", "content": "fjords"}]
    answered = value_of(results["ask"].output)
    assert isinstance(answered, dict)
    assert answered["text"] == "Good day"
    chunks = [value_of(event.step_chunk.payload) for event in events if event.HasField("step_chunk")]
    assert chunks == ["Good ", "day"]


async def test_a_closed_address_is_refused_on_temporal(serve: Serve, connect: Connect) -> None:
    async with http_service() as service:
        workflow = flow(step("get", "http.request", given={"url": service.url("/a")}))
        found = finished(await connect(await serve()).run(workflow))["get"].failure
    assert "it is a loopback address" in found.message
    assert (found.retryable, service.connections) == (False, 0)


async def test_tools_are_called_on_temporal(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "mcp_servers.toml"
    file.write_text(entry_text(bad()))
    workflow = flow(
        step("call", "mcp.call", given={"server": "tools", "tool": "process"}),
        step(
            "fail", "mcp.call", given={"server": "tools", "tool": "refuses", "arguments": {"code": 7, "message": "no"}}
        ),
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
    )
    results = finished(await connect(await serve(mcp_servers=file)).run(workflow))
    assert str(value_of(results["call"].output)).isdecimal()
    assert results["fail"].failure.message == 'MCP server "tools": no'
