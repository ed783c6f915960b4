"""HTTP/JSON, gRPC-Web and plain gRPC through Envoy, with the configuration in `server/deploy/`."""

import asyncio
import json
import os
import re
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import grpc
import httpx
import pytest
import yaml
from google.protobuf.json_format import Parse
from google.protobuf.message import Message

from integration.deploy.envoy import envoy
from integration.deploy.tools import DEPLOY, system_tool
from integration.documents import blocks
from integration.server.build import check_sequences, end_of, flow, kind_of, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Serve
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent
from stepwave.v1.run_pb2 import STATE_CANCELLED, STATE_SUCCEEDED
from stepwave_server.app import Server

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)

SERVICE = "/stepwave.v1.OrchestratorService"
PAGE = {"Origin": "http://localhost:3000"}
FOREIGN_PAGE = {"Origin": "https://elsewhere.example"}
INVALID = {"name": "f", "steps": [{"id": "a", "action": "noop", "depends_on": ["b"]}, {"id": "c", "action": "none"}]}
GREETING = """\
name: greeting
input_schema: '{"required": ["name"]}'
steps: [{id: hello, action: core.echo, input: {hello: {$input: /name}}}]
"""


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "flows"
    folder.mkdir()
    (folder / "greeting.yaml").write_text(GREETING)
    return folder


@pytest.fixture
async def server(serve: Serve, flows: Path) -> Server:
    return await serve(workflows=flows)


@pytest.fixture
async def address(server: Server, tmp_path: Path) -> AsyncIterator[str]:
    """Run Envoy in front of the server, and return its address."""
    async with envoy(tmp_path, server.address) as address:
        yield address


@pytest.fixture
async def http(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{address}", timeout=GUARD, trust_env=False) as client:
        yield client


@pytest.fixture
async def through(address: str) -> AsyncIterator[RawClient]:
    client = RawClient(address)
    yield client
    await client.close()


def _request(*step_ids: str, action: str = "controlled", run_id: str = "r") -> dict[str, object]:
    """Return the JSON of a request to start a run."""
    steps = [{"id": step_id, "action": action} for step_id in step_ids]
    return {"run_id": run_id, "workflow": {"name": "flow", "steps": steps}}


async def _lines(response: httpx.Response) -> AsyncIterator[RunEvent]:
    """Yield the events of a stream in JSON, as they come."""
    async for line in response.aiter_lines():
        for event in Parse(line, pb.ExecuteWorkflowResponse()).events:
            yield event


async def _frames(response: httpx.Response) -> AsyncIterator[tuple[bool, bytes]]:
    """Yield the frames of gRPC-Web, as they come: whether it is the one with the trailers, and its content."""
    received = b""
    async for data in response.aiter_bytes():
        received += data
        while len(received) >= 5 and len(received) >= (end := 5 + int.from_bytes(received[1:5])):
            yield bool(received[0] & 0x80), received[5:end]
            received = received[end:]
    assert not received


def _web_call(http: httpx.AsyncClient, method: str, request: Message) -> AbstractAsyncContextManager[httpx.Response]:
    """Call a method by gRPC-Web, as a page does."""
    content = request.SerializeToString()
    frame = b"\0" + len(content).to_bytes(4) + content
    headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **PAGE}
    return http.stream("POST", f"{SERVICE}/{method}", content=frame, headers=headers)


async def _web_events(response: httpx.Response) -> AsyncIterator[RunEvent]:
    """Yield the events of a stream by gRPC-Web, as they come."""
    async for is_trailers, content in _frames(response):
        if not is_trailers:
            for event in pb.ExecuteWorkflowResponse.FromString(content).events:
                yield event


async def _until(events: AsyncIterator[RunEvent], kind: str) -> list[RunEvent]:
    """Return the events up to the first one of a kind."""
    seen: list[RunEvent] = []
    async with asyncio.timeout(GUARD):
        async for event in events:
            seen.append(event)
            if kind_of(event) == kind:
                break
    return seen


async def test_events_come_one_by_one_as_lines_of_json(http: httpx.AsyncClient, controlled: ControlledActions) -> None:
    async with http.stream("POST", "/v1/runs:execute", json=_request("a", "b")) as response:
        assert response.status_code == 200
        events = _lines(response)
        seen = await _until(events, "step_started")
        controlled.release("b")
        seen += await _until(events, "step_finished")
        assert seen[-1].step_finished.result.step_id == "b"
        controlled.release("a")
        seen += [event async for event in events]
    check_sequences(seen)
    assert end_of(seen).state == STATE_SUCCEEDED


async def test_a_watch_continues_after_a_sequence(http: httpx.AsyncClient) -> None:
    await http.post("/v1/runs:execute", json=_request("a", action="noop"))
    async with http.stream("GET", "/v1/runs/r/events", params={"after_sequence": 3}) as response:
        events = [event async for event in _lines(response)]
    assert events[0].sequence == 4
    assert end_of(events).run_id == "r"


async def test_runs_and_results_are_json_with_the_names_of_the_contract(http: httpx.AsyncClient) -> None:
    await http.post("/v1/runs:execute", json=_request("a", action="core.echo") | {"input": {"json": "[1]"}})
    result = (await http.get("/v1/runs/r/result")).json()["result"]
    runs = (await http.get("/v1/runs", params={"states": "STATE_SUCCEEDED"})).json()["runs"]
    labelled = await http.post("/v1/runs:list", json={"labels": {"team": "weather"}})
    assert (result["state"], result["outputs"]) == ("STATE_SUCCEEDED", {"a": {"json": "[1]"}})
    assert [run["run_id"] for run in runs] == ["r"]
    assert labelled.json() == {}


@pytest.mark.parametrize("url", ["/v1/runs", "/v1/runs:execute", "/v1/workflows:plan"])
async def test_an_invalid_workflow_is_a_400_with_all_its_problems(http: httpx.AsyncClient, url: str) -> None:
    response = await http.post(url, json={"workflow": INVALID})
    info, invalid = response.json()["details"]
    assert response.status_code == 400
    assert info["domain"] == "stepwave"
    assert {each["field"] for each in invalid["field_violations"]} == {
        "workflow.steps[0].depends_on[0]",
        "workflow.steps[1].action",
    }


async def test_the_stream_of_an_unknown_run_is_a_404(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/runs/none/events")
    assert response.status_code == 404
    assert response.json()["details"][0]["reason"] == "RUN_NOT_FOUND"


async def test_a_message_may_be_as_large_as_the_server_allows(http: httpx.AsyncClient) -> None:
    large = json.dumps("x\n" * 330_000)
    steps = [{"id": f"s{i}", "action": "core.echo", "input": {"json": large}} for i in range(3)]
    workflow = {"name": "large", "steps": steps, "outputs": ["s0"]}
    response = await http.post("/v1/runs:execute", json={"run_id": "r", "workflow": workflow})
    assert response.status_code == 200
    assert (await http.get("/v1/runs/r/result")).json()["result"]["outputs"] == {"s0": {"json": large}}


async def test_a_stream_may_be_longer_than_its_messages(http: httpx.AsyncClient) -> None:
    steps = [{"id": f"s{i}", "action": "large_output", "input": {"json": '{"size": 1000000}'}} for i in range(20)]
    body = {"workflow": {"name": "large", "steps": steps}}
    async with http.stream("POST", "/v1/runs:execute", json=body) as response:
        events = [event async for event in _lines(response)]
    check_sequences(events)
    assert end_of(events).state == STATE_SUCCEEDED
    assert sum(event.ByteSize() for event in events) > 20_000_000


async def test_more_streams_pass_than_envoy_admits_by_default(
    address: str, server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled")), run_id="r")
    async with AsyncExitStack() as stack:
        for _ in range(4):  # not all at once: gRPC refuses some of a burst
            channel = RawClient(address)
            stack.push_async_callback(channel.close)
            streams = [await stack.enter_async_context(channel.watch("r")) for _ in range(300)]
            await asyncio.gather(*(stream.until("step_started", "a") for stream in streams))
        assert server.engine.watchers == 1_200


@pytest.mark.parametrize("unknown", ["/v1/run", "/v1/runs?stat=STATE_FAILED", "/v1/runs?states=BROKEN"])
async def test_an_unknown_url_or_parameter_is_an_error(http: httpx.AsyncClient, unknown: str) -> None:
    assert (await http.get(unknown)).status_code in {400, 404}


async def test_leaving_a_stream_of_json_cancels_the_run(
    http: httpx.AsyncClient, client: RawClient, controlled: ControlledActions
) -> None:
    async with http.stream("POST", "/v1/runs:execute", json=_request("a")) as response:
        await _until(_lines(response), "step_started")
        await controlled.wait_started("a")
    assert end_of(await client.events("r")).state == STATE_CANCELLED
    assert controlled.cancelled == ["a"]


async def test_leaving_a_stream_of_plain_grpc_cancels_the_run(
    through: RawClient, client: RawClient, controlled: ControlledActions
) -> None:
    async with through.execute(flow(step("a", "controlled")), run_id="r") as stream:
        await stream.until("step_started", "a")
        await controlled.wait_started("a")
    assert end_of(await client.events("r")).state == STATE_CANCELLED
    assert controlled.cancelled == ["a"]


async def test_plain_grpc_passes_with_its_events_and_refusals(through: RawClient) -> None:
    events = await through.run(flow(step("a"), step("b", after=["a"])))
    refused = await refusal(through.result("none"))
    check_sequences(events)
    assert end_of(events).state == STATE_SUCCEEDED
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_page_calls_by_grpc_web(http: httpx.AsyncClient) -> None:
    async with _web_call(http, "GetServerInfo", pb.GetServerInfoRequest()) as response:
        (_, answer), (is_trailers, trailers) = [frame async for frame in _frames(response)]
    assert pb.GetServerInfoResponse.FromString(answer).server_info.engine == "local"
    assert is_trailers
    assert b"grpc-status:0" in trailers
    assert response.headers["access-control-allow-origin"] == PAGE["Origin"]


async def test_a_page_streams_by_grpc_web(http: httpx.AsyncClient, controlled: ControlledActions) -> None:
    request = pb.ExecuteWorkflowRequest(workflow=flow(step("a", "controlled")), run_id="r")
    async with _web_call(http, "ExecuteWorkflow", request) as response:
        events = _web_events(response)
        seen = await _until(events, "step_started")
        controlled.release("a")
        seen += [event async for event in events]
    check_sequences(seen)
    assert end_of(seen).state == STATE_SUCCEEDED


async def test_a_page_reads_the_reason_of_a_refusal_by_grpc_web(http: httpx.AsyncClient) -> None:
    async with _web_call(http, "GetResult", pb.GetResultRequest(run_id="none")) as response:
        await response.aread()
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert response.headers["grpc-status"] == "5"
    assert {"grpc-status", "grpc-message", "grpc-status-details-bin"} <= set(exposed)
    assert "grpc-status-details-bin" in response.headers


@pytest.mark.parametrize(("url", "method"), [("/v1/runs", "POST"), ("/v1/runs/r", "DELETE"), (f"{SERVICE}/x", "POST")])
async def test_a_browser_is_told_that_a_page_may_call(http: httpx.AsyncClient, url: str, method: str) -> None:
    asked = {"access-control-request-method": method, "access-control-request-headers": "content-type,x-grpc-web"}
    response = await http.options(url, headers=PAGE | asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert method in response.headers["access-control-allow-methods"]
    assert {"content-type", "x-grpc-web"} <= set(response.headers["access-control-allow-headers"].split(", "))


async def test_the_request_of_another_page_has_no_effect(http: httpx.AsyncClient) -> None:
    asked = await http.options("/v1/runs", headers=FOREIGN_PAGE | {"access-control-request-method": "POST"})
    refused = await http.post("/v1/runs", json=_request("a"), headers=FOREIGN_PAGE)
    assert "access-control-allow-origin" not in asked.headers
    assert refused.status_code == 403
    assert (await http.get("/v1/runs")).json() == {}


async def test_a_page_cannot_call_by_a_name_of_its_own(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/server", headers={"host": "elsewhere.example:8080"})).status_code == 404


@pytest.mark.usefixtures("serve")
def test_no_timeout_ends_a_stream() -> None:
    (listener,) = yaml.safe_load((DEPLOY / "envoy.yaml").read_text("utf-8"))["static_resources"]["listeners"]
    connections = listener["filter_chains"][0]["filters"][0]["typed_config"]
    routes = connections["route_config"]["virtual_hosts"][0]["routes"]
    assert connections["stream_idle_timeout"] == "0s"
    assert [each["route"]["timeout"] for each in routes if "route" in each] == ["0s"]


async def test_curl_shows_what_the_document_says(address: str) -> None:
    system_tool("curl")
    (screen,) = [each.text for each in blocks(DEPLOY / "README.md") if "$ curl" in each.text]
    for command, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", screen, re.MULTILINE):
        process = await asyncio.create_subprocess_shell(
            command.replace("localhost:8080", address), stdout=PIPE, env={**os.environ, "no_proxy": "*"}
        )
        answer, _ = await process.communicate()
        assert process.returncode == 0
        pattern = ".*".join(map(re.escape, shown.strip().split("…")))
        assert re.match(pattern, answer.decode(), re.DOTALL), answer.decode()


async def test_a_name_and_json_are_enough_for_a_run(http: httpx.AsyncClient) -> None:
    body = {"run_id": "r", "workflow_name": "greeting", "input": {"json": '{"name": "Ada"}'}}
    started = (await http.post("/v1/runs:execute", json=body)).status_code
    result = (await http.get("/v1/runs/r/result")).json()["result"]
    (listed,) = (await http.get("/v1/workflows")).json()["workflows"]
    assert (started, result["outputs"]) == (200, {"hello": {"json": '{"hello": "Ada"}'}})
    assert listed["digest"] == (await http.get("/v1/runs/r")).json()["run"]["workflow_digest"]


async def test_an_input_that_its_schema_refuses_is_a_400_with_the_place(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/runs", json={"workflow_name": "greeting", "input": {"json": "{}"}})
    _, invalid = response.json()["details"]
    assert response.status_code == 400
    assert invalid["field_violations"] == [{"field": "input", "description": "input: 'name' is a required property"}]


@pytest.mark.parametrize("step_id", ["ok", "pages[0]", "outer/ok", "many[0]/ok"])
async def test_a_step_is_completed_by_its_path(http: httpx.AsyncClient, step_id: str) -> None:
    waiting = {"id": "ok", "action": "core.wait"}
    inner = {"name": "inner", "steps": [waiting]}
    once = {"items": {"json": "[1]"}}
    steps = {
        "ok": waiting,
        "pages[0]": {"id": "pages", "action": "core.wait", "for_each": once},
        "outer/ok": {"id": "outer", "workflow": inner},
        "many[0]/ok": {"id": "many", "workflow": inner, "for_each": once},
    }
    await http.post("/v1/runs", json={"run_id": "r", "workflow": {"name": "flow", "steps": [steps[step_id]]}})
    completed = await http.post(f"/v1/runs/r/steps/{step_id}:complete", json={"output": {"json": "1"}})
    assert completed.status_code == 200
    assert (await http.get("/v1/runs/r")).json()["run"]["state"] == "STATE_SUCCEEDED"
