"""All that is kept of a run, for whoever wants to make its decisions again."""

import grpc
import pytest

from integration.server.build import bind, flow, sequences, step, value_of
from integration.server.caller import MAX_BYTES, Caller, refusal
from integration.server.serving import Call, Serve
from integration.server.stage import Stage
from stepwave.v1 import orchestrator_pb2 as pb


@pytest.fixture
async def caller(serve: Serve, call: Call) -> Caller:
    return call(await serve(step_timeout=90))


async def _export(caller: Caller, run_id: str) -> list[pb.ExportRunResponse]:
    return [response async for response in caller.stub.ExportRun(pb.ExportRunRequest(run_id=run_id))]


async def test_an_export_tells_what_the_run_was_given_and_then_its_events(caller: Caller) -> None:
    workflow = flow(step("a"), step("b", "bulk", given={"size": 3}, bindings=[bind("/size", "input", "/size")]))
    events = await caller.run(workflow, given={"size": 5}, run_id="r")
    head, *rest = await _export(caller, "r")
    definition = head.definition
    assert definition.workflow == workflow
    assert value_of(definition.input) == {"size": 5}
    assert (definition.run_id, definition.namespace, definition.rerun_of) == ("r", "default", "")
    assert (definition.default_step_timeout.seconds, definition.scheduler_version) == (90, 1)
    assert definition.create_time == (await caller.get("r")).create_time
    assert [event for part in rest for event in part.events] == events
    assert not any(part.HasField("definition") for part in rest)


async def test_a_run_under_way_is_exported_as_far_as_it_has_come(caller: Caller, stage: Stage) -> None:
    await caller.start(flow(step("a", "gated"), step("b")), run_id="r")
    await stage.here("a")
    await caller.watch("r").until("step_finished", "b")
    last = (await caller.get("r")).last_sequence
    _, *rest = await _export(caller, "r")
    assert sequences(event for part in rest for event in part.events) == list(range(1, last + 1))


async def test_a_large_run_is_exported_in_messages_of_bounded_size(caller: Caller) -> None:
    big = flow(*(step(f"s{i}", "bulk", given={"size": 400_000}) for i in range(12)))
    await caller.run(big, run_id="r")
    parts = await _export(caller, "r")
    assert max(part.ByteSize() for part in parts) < MAX_BYTES
    assert len(parts) > 3


async def test_a_run_that_never_was_cannot_be_exported(caller: Caller) -> None:
    refused = await refusal(_export(caller, "nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
