"""Repeated submissions, and when two submissions are the same."""

from pathlib import Path

import grpc
import pytest

from integration.server.build import bind, end_of, flow, kinds_of, state_of, step, text, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import payload_pb2, workflow_pb2
from stepwave.v1.event_pb2 import EventKind

ONE = flow(step("a"), labels={"team": "red", "controlled": "test"})


def _spaced(message: workflow_pb2.Workflow) -> workflow_pb2.Workflow:
    copy = workflow_pb2.Workflow()
    copy.CopyFrom(message)
    return copy


async def test_the_same_submission_is_the_same_run(client: RawClient, controlled: ControlledActions) -> None:
    first = await client.start(ONE, run_id="mine")
    await client.events("mine")
    again = await client.start(ONE, run_id="mine")
    assert again.create_time == first.create_time
    assert state_of(again.state) == "succeeded"
    assert controlled.invoked == ["a"]


async def test_a_repeated_execute_streams_the_run_from_its_first_event(
    client: RawClient, controlled: ControlledActions
) -> None:
    events = await client.run(ONE, run_id="mine")
    assert await client.run(ONE, run_id="mine") == events
    assert controlled.invoked == ["a"]


async def test_executing_a_running_run_joins_it(client: RawClient, controlled: ControlledActions) -> None:
    waiting = flow(step("a", "controlled"))
    first, second = (client.execute(waiting, run_id="mine") for _ in range(2))
    await first.until("step_started", "a")
    await second.until("step_started", "a")
    controlled.release("a")
    assert await first.rest() == await second.rest()
    assert controlled.invoked == ["a"]


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ('{"a":1,"b":[1.50,true]}', ' {"b" : [ 1.50 , true ],\n "a" : 1 } '),
        ('"caf\\u00e9"', '"café"'),
        ("null", "null "),
    ],
    ids=["keys and spaces", "escapes", "null"],
)
async def test_the_form_of_the_json_does_not_matter(client: RawClient, given: str, again: str) -> None:
    def submission(form: str) -> workflow_pb2.Workflow:
        own = step("a", "core.echo", bindings=[bind("/x", "input", default=text(form))])
        own.input.json = f'{{"own":{form}}}'
        return flow(own)

    await client.start(submission(given), given=text(given), run_id="mine")
    await client.start(submission(again), given=text(again), run_id="mine")


async def test_no_input_is_null(client: RawClient) -> None:
    await client.start(ONE, run_id="mine")
    await client.start(ONE, given=text("null"), run_id="mine")


@pytest.mark.parametrize(
    ("workflow", "given"),
    [
        (ONE, text("2")),
        (ONE, text("1.0")),
        (ONE, payload_pb2.Payload(blob=payload_pb2.Blob(data=b"1"))),
        (flow(step("a"), labels={"team": "blue", "controlled": "test"}), text("1")),
        (flow(step("a"), step("b"), labels=ONE.labels), text("1")),
        (flow(step("a", given={}), labels=ONE.labels), text("1")),
        (flow(step("a", timeout=5), labels=ONE.labels), text("1")),
    ],
    ids=["input", "digits", "blob", "labels", "steps", "step input", "timeout"],
)
async def test_other_content_with_the_same_id_is_refused(
    client: RawClient, workflow: workflow_pb2.Workflow, given: payload_pb2.Payload
) -> None:
    await client.start(ONE, given=text("1"), run_id="mine")
    for refused in (
        await refusal(client.start(workflow, given=given, run_id="mine")),
        await refusal(client.run(workflow, given=given, run_id="mine")),
    ):
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS")


async def test_the_id_of_a_deleted_run_can_be_used_again(client: RawClient) -> None:
    await client.run(ONE, run_id="mine")
    await client.delete("mine")
    assert kinds_of(await client.run(flow(step("b")), run_id="mine"))[-1] == "run_finished"


async def test_a_deep_input_can_be_submitted_twice_in_another_form(client: RawClient) -> None:
    for depth in range(900, 1_000, 11):
        deep = f"{'[' * depth}{']' * depth}"
        codes = []
        for given in (deep, f" {deep}"):
            try:
                await client.start(ONE, given=text(given), run_id=f"deep{depth}")
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
        assert set(codes) <= {grpc.StatusCode.INVALID_ARGUMENT}


async def test_a_named_workflow_runs_by_its_name(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "morning.yaml").write_text("name: morning\nsteps:\n  - {id: a, action: core.echo}\n")
    client = connect(await serve(workflows=tmp_path))
    request = pb.StartRunRequest(workflow_name="morning", run_id="mine")
    request.input.json = '"good"'
    run = (await client.stub.StartRun(request)).run
    assert run.workflow_name == "morning"
    assert value_of(end_of(await client.events("mine")).outputs["a"]) == "good"


async def test_an_unknown_workflow_is_named_with_a_near_one(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "morning.yaml").write_text("name: morning\nsteps:\n  - {id: a, action: core.echo}\n")
    client = connect(await serve(workflows=tmp_path))
    refused = await refusal(client.stub.StartRun(pb.StartRunRequest(workflow_name="mourning")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")
    assert refused.message == 'no workflow "mourning" on this server; did you mean "morning"?'


async def test_the_headers_and_the_first_message_have_the_runs_id_before_any_event(
    client: RawClient, controlled: ControlledActions
) -> None:
    request = pb.ExecuteWorkflowRequest(
        workflow=flow(step("a", "controlled")), kinds=[EventKind.EVENT_KIND_RUN_FINISHED]
    )
    call = client.stub.ExecuteWorkflow(request)
    headers = dict(await call.initial_metadata())
    first = await call.read()
    assert isinstance(first, pb.ExecuteWorkflowResponse)
    assert headers["stepwave-run-id"] == first.run_id
    assert not first.events
    await controlled.wait_started("a")
    controlled.release("a")
    assert state_of(end_of(await client.events(first.run_id)).state) == "succeeded"


async def test_the_runs_id_is_in_the_first_message_only(client: RawClient) -> None:
    call = client.stub.ExecuteWorkflow(pb.ExecuteWorkflowRequest(workflow=flow(step("a")), run_id="mine"))
    messages = [message async for message in call]
    assert [message.run_id for message in messages] == ["mine", *[""] * (len(messages) - 1)]
