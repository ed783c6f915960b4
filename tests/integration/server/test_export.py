"""Exports of a run: all that a replay of its decisions needs."""

import json

import grpc
import pytest

from integration.server.build import bind, flow, sequences, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import MAX_BYTES, RawClient, refusal
from stepwave import AsyncClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server
from stepwave_server.core.state import CORE_VERSION


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(step_timeout=90)


@pytest.fixture
async def client(server: Server, connect: Connect) -> RawClient:
    return connect(server)


async def _export(client: RawClient, run_id: str) -> list[pb.ExportRunResponse]:
    return [response async for response in client.stub.ExportRun(pb.ExportRunRequest(run_id=run_id))]


async def test_an_export_has_the_definition_and_then_the_events(client: RawClient) -> None:
    workflow = flow(step("a"), step("b", "large_output", given={"size": 3}, bindings=[bind("/size", "input", "/size")]))
    events = await client.run(workflow, given={"size": 5}, run_id="r")
    head, *rest = await _export(client, "r")
    definition = head.definition
    assert definition.workflow == workflow
    assert value_of(definition.input) == {"size": 5}
    assert (definition.run_id, definition.namespace, definition.rerun_of) == ("r", "default", "")
    assert (definition.default_step_timeout.seconds, definition.scheduler_version) == (90, CORE_VERSION)
    assert definition.create_time == (await client.get("r")).create_time
    assert [event for part in rest for event in part.events] == events
    assert not any(part.HasField("definition") for part in rest)


async def test_a_running_run_is_exported_up_to_its_newest_event(
    client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled"), step("b")), run_id="r")
    await controlled.wait_started("a")
    await client.watch("r").until("step_finished", "b")
    last = (await client.get("r")).last_sequence
    _, *rest = await _export(client, "r")
    assert sequences(event for part in rest for event in part.events) == list(range(1, last + 1))


async def test_a_large_run_is_exported_in_messages_of_bounded_size(client: RawClient) -> None:
    big = flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(12)))
    await client.run(big, run_id="r")
    parts = await _export(client, "r")
    assert max(part.ByteSize() for part in parts) < MAX_BYTES
    assert len(parts) > 3


@pytest.mark.one_server("Temporal takes less: tests/conformance/test_bounds.py")
async def test_a_definition_that_is_larger_than_a_message_comes_in_parts(client: RawClient, server: Server) -> None:
    steps = [step(f"s{i}", given="x" * 900_000) for i in range(5)]
    await client.open(run_id="r", given="y" * 1_000_000)
    for each in steps:
        await client.add(each, run_id="r")
    await client.add(seal=True, run_id="r")
    await client.events("r")
    await client.stub.StartRun(pb.StartRunRequest(rerun=pb.Rerun(run_id="r"), run_id="again"))
    events = await client.events("again")
    merged = pb.ExportRunResponse()
    for part in await _export(client, "again"):
        assert part.ByteSize() < MAX_BYTES
        merged.MergeFrom(part)
    assert [each.id for each in merged.definition.workflow.steps] == ["s0", "s1", "s2", "s3", "s4"]
    assert merged.definition.input.json == json.dumps("y" * 1_000_000)
    assert list(merged.events) == events
    async with AsyncClient(server.address) as sdk:
        exported = await sdk.export("again")
    assert exported.definition == merged.definition


async def test_an_unknown_run_cannot_be_exported(client: RawClient) -> None:
    refused = await refusal(_export(client, "nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
