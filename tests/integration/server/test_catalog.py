"""What a server reports about itself: information, actions, workflows and plans; and where it listens."""

import json
import re
import socket
from pathlib import Path

import grpc
import jsonschema
import pytest
from google.protobuf.message import Message

from integration.server.build import bind, fallback_to, flow, payload, retry, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.rpc.listening import ListenError

FOLDER = {
    "evening.json": '{"name": "evening", "steps": [{"id": "a", "action": "core.echo"}]}',
    "morning.yaml": "name: morning\nlabels: {team: red}\nsteps: [{id: a, action: core.echo}, {id: b, action: noop}]\n",
    "notes.txt": "no workflow",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, content in FOLDER.items():
        (tmp_path / name).write_text(content)
    return tmp_path


async def _actions(client: RawClient) -> dict[str, pb.Action]:
    response = await client.stub.ListActions(pb.ListActionsRequest(page_size=1_000))
    return {found.name: found for found in response.actions}


@pytest.mark.one_server("its engine, its journal and its limits")
async def test_server_info_has_version_engine_journal_and_limits(serve: Serve, connect: Connect) -> None:
    server = await serve(max_steps=7, max_attempts=9, step_timeout=1.5)
    client = connect(server)
    info = (await client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info
    assert info.version
    assert (info.engine, info.journal, info.draining) == ("local", server.settings.journal.partition(":")[0], False)
    assert (info.limits.max_steps, info.limits.max_attempts_in_flight) == (7, 9)
    assert info.limits.max_payload_bytes == 1 << 20
    assert info.limits.default_step_timeout.ToMilliseconds() == 1_500
    assert info.start_time.seconds > 0


async def test_actions_are_listed_by_name_with_their_descriptions(serve: Serve, connect: Connect) -> None:
    @action("web.search")
    async def search(query: str, limit: int = 10) -> list[str]:
        """Search the web.

        More than a line of it.
        """
        return [query] * limit

    actions = await _actions(connect(await serve(search)))
    assert list(actions) == sorted(actions)
    assert {"core.echo", "core.sleep", "core.fail", "web.search", "noop"} <= set(actions)
    assert actions["web.search"].description == "Search the web."
    assert actions["web.search"].source.endswith(
        ":test_actions_are_listed_by_name_with_their_descriptions.<locals>.search"
    )
    assert actions["core.echo"].source == "built-in"
    assert not actions["web.search"].streaming


async def test_an_actions_schema_describes_its_input(serve: Serve, connect: Connect) -> None:
    @action
    async def search(query: str, context: Context, limit: int = 10) -> list[str]:
        return [query] * limit

    schema = json.loads((await _actions(connect(await serve(search))))["search"].input_schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {"query", "limit"}
    assert schema["required"] == ["query"]
    jsonschema.validate({"query": "x"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"query": "x", "limit": "many"}, schema)


async def test_an_actions_output_and_whether_it_may_be_repeated_are_listed(serve: Serve, connect: Connect) -> None:
    @action(idempotent=True)
    async def count(text: str) -> int:
        return len(text)

    actions = await _actions(connect(await serve(count)))
    assert (json.loads(actions["count"].output_schema), actions["count"].idempotent) == ({"type": "integer"}, True)
    assert (actions["core.workflow"].output_schema, actions["core.workflow"].idempotent) == ("", False)


async def test_every_built_in_action_publishes_valid_schemas(client: RawClient) -> None:
    for found in (await _actions(client)).values():
        jsonschema.Draft202012Validator.check_schema(json.loads(found.input_schema))
        jsonschema.Draft202012Validator.check_schema(json.loads(found.output_schema or "{}"))


async def test_actions_come_in_pages(client: RawClient) -> None:
    every = list(await _actions(client))
    names: list[str] = []
    token = ""
    while True:
        page = await client.stub.ListActions(pb.ListActionsRequest(page_size=3, page_token=token))
        names += [found.name for found in page.actions]
        assert len(page.actions) <= 3
        token = page.next_page_token
        if not token:
            break
    assert names == every


async def test_workflows_of_a_folder_are_listed(serve: Serve, connect: Connect, folder: Path) -> None:
    client = connect(await serve(workflows=folder))
    found = (await client.stub.ListWorkflows(pb.ListWorkflowsRequest())).workflows
    assert [(known.name, known.step_count, dict(known.labels)) for known in found] == [
        ("evening", 1, {}),
        ("morning", 2, {"team": "red"}),
    ]


async def test_a_server_without_a_folder_has_no_workflows(client: RawClient) -> None:
    assert not (await client.stub.ListWorkflows(pb.ListWorkflowsRequest())).workflows


async def test_pages_are_never_longer_than_a_message(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    """A hundred workflows with labels of 40 KB each do not fit one message."""
    labels = {f"{place:03}" + "k" * 253: "v" * 256 for place in range(64)}
    for number in range(120):
        known = {"name": f"flow{number:03}", "labels": labels, "steps": [{"id": "a", "action": "core.echo"}]}
        (tmp_path / f"{number:03}.json").write_text(json.dumps(known))
    client = connect(await serve(workflows=tmp_path))
    names: list[str] = []
    token = ""
    while True:
        page = await client.stub.ListWorkflows(pb.ListWorkflowsRequest(page_size=1_000, page_token=token))
        names += [known.name for known in page.workflows]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"flow{number:03}" for number in range(120)]


PLANNED = flow(
    step("fetch", given={"url": "x"}),
    step("free"),
    step("parse", after=["fetch"], bindings=[bind("/x", "input", "/y", default=1)]),
    step("join", after=["parse", "free"]),
)


async def _plan(
    client: RawClient, workflow: workflow_pb2.Workflow, size: int = 0, token: str = ""
) -> pb.PlanWorkflowResponse:
    request = pb.PlanWorkflowRequest(workflow=workflow, page_size=size, page_token=token)
    return await client.stub.PlanWorkflow(request)


async def test_a_plan_has_waves_width_edges_and_outputs(client: RawClient) -> None:
    plan = (await _plan(client, PLANNED)).plan
    assert (plan.workflow_name, plan.step_count, plan.edge_count, plan.width) == ("test", 4, 3, 2)
    assert list(plan.wave_sizes) == [2, 1, 1]
    assert list(plan.outputs) == ["join"]


async def test_a_plan_describes_the_input_of_each_step(client: RawClient) -> None:
    steps = {planned.step_id: planned for planned in (await _plan(client, PLANNED)).plan.steps}
    assert list(steps) == ["fetch", "free", "parse", "join"]
    rules = {step_id: pb.InputRule.Name(planned.input_rule) for step_id, planned in steps.items()}
    assert rules == {
        "fetch": "INPUT_RULE_OWN",
        "free": "INPUT_RULE_RUN",
        "parse": "INPUT_RULE_OWN",
        "join": "INPUT_RULE_DEPENDENCIES",
    }
    assert value_of(steps["fetch"].input) == {"url": "x"}
    assert list(steps["join"].depends_on) == ["parse", "free"]
    assert steps["parse"].bindings == PLANNED.steps[2].bindings
    assert [steps[step_id].wave for step_id in ("fetch", "parse", "join")] == [0, 1, 2]


async def test_a_plan_describes_each_steps_retries_fallback_and_timeouts(client: RawClient) -> None:
    own = step("own", retry=retry(5, 0.25), timeout=3, total_timeout=60, fallback=fallback_to("noop", {"x": 1}))
    workflow = flow(own, step("usual"))
    workflow.retry.CopyFrom(retry(2))
    plan = (await client.stub.PlanWorkflow(pb.PlanWorkflowRequest(workflow=workflow))).plan
    first, usual = plan.steps
    assert (first.retry.max_attempts, first.retry.initial_backoff.nanos) == (5, 250_000_000)
    assert first.retry.max_backoff.seconds == 30, "defaults are filled in"
    assert (first.timeout.seconds, first.total_timeout.seconds) == (3, 60)
    assert first.fallback == own.fallback
    assert usual.retry.max_attempts == 2, "the workflow's policy is in force"
    assert not any(usual.HasField(name) for name in ("timeout", "total_timeout", "fallback"))


async def test_a_plan_comes_in_pages(client: RawClient) -> None:
    first = await _plan(client, PLANNED, size=3)
    second = await _plan(client, PLANNED, size=3, token=first.next_page_token)
    assert [planned.step_id for planned in first.plan.steps] == ["fetch", "free", "parse"]
    assert [planned.step_id for planned in second.plan.steps] == ["join"]
    assert second.next_page_token == ""
    assert first.plan.step_count == second.plan.step_count == 4


async def test_a_plan_of_large_inputs_is_never_longer_than_a_message(client: RawClient) -> None:
    large = flow(*(step(f"s{i}", given=payload("x" * 700_000)) for i in range(4)))
    seen: list[str] = []
    token = ""
    while True:
        page = await _plan(client, large, token=token)
        seen += [planned.step_id for planned in page.plan.steps]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["s0", "s1", "s2", "s3"]


async def test_a_named_workflow_can_be_planned(serve: Serve, connect: Connect, folder: Path) -> None:
    client = connect(await serve(workflows=folder))
    plan = (await client.stub.PlanWorkflow(pb.PlanWorkflowRequest(workflow_name="evening"))).plan
    assert plan.step_count == 1


async def test_an_address_in_use_is_reported(server: Server) -> None:
    second = Server(Settings(listen=server.address, entry_points=False))
    with pytest.raises(ListenError, match="is it in use"):
        await second.start()


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:0", "example.com:0", "[::]:0"])
async def test_plain_text_is_served_on_loopback_only(listen: str) -> None:
    with pytest.raises(ListenError, match="is not loopback"):
        await Server(Settings(listen=listen, entry_points=False)).start()


@pytest.mark.parametrize("listen", ["0.0.0.0:50051", "203.0.113.1:50051"], ids=["refused", "not to be had"])
async def test_a_server_that_cannot_listen_releases_its_journal(listen: str, tmp_path: Path) -> None:
    journal = f"sqlite:{tmp_path}/journal.db"
    insecure = listen.startswith("203")
    with pytest.raises(ListenError):
        await Server(Settings(listen=listen, insecure=insecure, entry_points=False, journal=journal)).start()
    async with Server(Settings(listen="127.0.0.1:0", entry_points=False, journal=journal)) as server:
        assert server.address


async def test_plain_text_beyond_loopback_is_served_when_configured(serve: Serve, connect: Connect) -> None:
    server = await serve(listen="0.0.0.0:0", insecure=True)
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), GUARD):
        pass


async def test_a_server_listens_at_a_unix_socket(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    server = await serve(listen=f"unix:{tmp_path}/s")
    assert server.address == f"unix:{tmp_path}/s"
    assert "core.echo" in await _actions(connect(server))


async def test_a_stopped_server_releases_its_address(serve: Serve) -> None:
    first = Server(Settings(listen="127.0.0.1:0", entry_points=False))
    async with first:
        address = first.address
    async with Server(Settings(listen=address, entry_points=False)) as second:
        assert second.address == address


async def test_an_unknown_method_is_unimplemented(client: RawClient) -> None:
    method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    method = client.channel.unary_unary("/stepwave.v1.OrchestratorService/Guess")
    assert (await refusal(method(b""))).code is grpc.StatusCode.UNIMPLEMENTED


def _comments() -> str:
    folder = Path(__file__).parents[3] / "proto" / "stepwave" / "v1"
    lines = "".join(file.read_text() for file in sorted(folder.glob("*.proto"))).splitlines()
    return " ".join(line.strip().removeprefix("//").strip() for line in lines)


async def test_the_contract_explains_every_capability_that_it_names(client: RawClient) -> None:
    explained = set(re.findall(r"- `(\w+)`: ", _comments()))
    assert set(re.findall(r"the capability `(\w+)`", _comments())) <= explained
    served = (await client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info.capabilities
    assert list(served) == sorted(served)
    assert set(served) < explained


@pytest.mark.parametrize(
    ("capability", "request_"),
    [
        ("namespaces", pb.ListRunsRequest(namespace="other")),
    ],
)
async def test_what_needs_a_capability_that_is_not_served_is_unimplemented(
    client: RawClient, capability: str, request_: Message
) -> None:
    served = (await client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info.capabilities
    assert capability not in served
    refused = await refusal(getattr(client.stub, request_.DESCRIPTOR.name.removesuffix("Request"))(request_))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED")
