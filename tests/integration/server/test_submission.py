"""Submitting twice, and what makes two submissions the same."""

from pathlib import Path

import grpc
import pytest

from integration.server.build import bind, end_of, flow, kinds_of, state_of, step, text, value_of
from integration.server.caller import Caller, refusal
from integration.server.serving import Call, Serve
from integration.server.stage import Stage
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import payload_pb2, workflow_pb2

ONE = flow(step("a"), labels={"team": "red", "stage": "test"})


def _spaced(message: workflow_pb2.Workflow) -> workflow_pb2.Workflow:
    copy = workflow_pb2.Workflow()
    copy.CopyFrom(message)
    return copy


async def test_the_same_submission_is_the_same_run(caller: Caller, stage: Stage) -> None:
    first = await caller.start(ONE, run_id="mine")
    await caller.events("mine")
    again = await caller.start(ONE, run_id="mine")
    assert again.create_time == first.create_time
    assert state_of(again.state) == "succeeded"
    assert stage.invoked == ["a"]


async def test_executing_the_same_again_streams_the_run_from_its_first_event(caller: Caller, stage: Stage) -> None:
    events = await caller.run(ONE, run_id="mine")
    assert await caller.run(ONE, run_id="mine") == events
    assert stage.invoked == ["a"]


async def test_executing_a_run_that_is_under_way_joins_it(caller: Caller, stage: Stage) -> None:
    held = flow(step("a", "gated"))
    first, second = (caller.execute(held, run_id="mine") for _ in range(2))
    await first.until("step_started", "a")
    await second.until("step_started", "a")
    stage.let("a")
    assert await first.rest() == await second.rest()
    assert stage.invoked == ["a"]


@pytest.mark.parametrize(
    ("given", "again"),
    [
        ('{"a":1,"b":[1.50,true]}', ' {"b" : [ 1.50 , true ],\n "a" : 1 } '),
        ('"caf\\u00e9"', '"café"'),
        ("null", "null "),
    ],
    ids=["keys and spaces", "escapes", "null"],
)
async def test_the_form_of_the_json_does_not_matter(caller: Caller, given: str, again: str) -> None:
    def submission(form: str) -> workflow_pb2.Workflow:
        own = step("a", "core.echo", bindings=[bind("/x", "input", default=text(form))])
        own.input.json = f'{{"own":{form}}}'
        return flow(own)

    await caller.start(submission(given), given=text(given), run_id="mine")
    await caller.start(submission(again), given=text(again), run_id="mine")


async def test_no_input_is_null(caller: Caller) -> None:
    await caller.start(ONE, run_id="mine")
    await caller.start(ONE, given=text("null"), run_id="mine")


@pytest.mark.parametrize(
    ("workflow", "given"),
    [
        (ONE, text("2")),
        (ONE, text("1.0")),
        (ONE, payload_pb2.Payload(blob=payload_pb2.Blob(data=b"1"))),
        (flow(step("a"), labels={"team": "blue", "stage": "test"}), text("1")),
        (flow(step("a"), step("b"), labels=ONE.labels), text("1")),
        (flow(step("a", given={}), labels=ONE.labels), text("1")),
        (flow(step("a", timeout=5), labels=ONE.labels), text("1")),
    ],
    ids=["input", "digits", "blob", "labels", "steps", "step input", "timeout"],
)
async def test_other_content_under_the_same_id_is_refused(
    caller: Caller, workflow: workflow_pb2.Workflow, given: payload_pb2.Payload
) -> None:
    await caller.start(ONE, given=text("1"), run_id="mine")
    for refused in (
        await refusal(caller.start(workflow, given=given, run_id="mine")),
        await refusal(caller.run(workflow, given=given, run_id="mine")),
    ):
        assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS")


async def test_a_forgotten_id_can_be_used_again(caller: Caller) -> None:
    await caller.run(ONE, run_id="mine")
    await caller.delete("mine")
    assert kinds_of(await caller.run(flow(step("b")), run_id="mine"))[-1] == "run_finished"


async def test_a_deep_input_can_be_submitted_twice_in_another_form(caller: Caller) -> None:
    for depth in range(900, 1_000, 11):
        deep = f"{'[' * depth}{']' * depth}"
        codes = []
        for given in (deep, f" {deep}"):
            try:
                await caller.start(ONE, given=text(given), run_id=f"deep{depth}")
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
        assert set(codes) <= {grpc.StatusCode.INVALID_ARGUMENT}


async def test_a_named_workflow_runs_by_its_name(serve: Serve, call: Call, tmp_path: Path) -> None:
    (tmp_path / "morning.yaml").write_text("name: morning\nsteps:\n  - {id: a, action: core.echo}\n")
    caller = call(await serve(workflows=tmp_path))
    request = pb.StartRunRequest(workflow_name="morning", run_id="mine")
    request.input.json = '"good"'
    run = (await caller.stub.StartRun(request)).run
    assert run.workflow_name == "morning"
    assert value_of(end_of(await caller.events("mine")).outputs["a"]) == "good"


async def test_an_unknown_workflow_is_named_with_a_near_one(serve: Serve, call: Call, tmp_path: Path) -> None:
    (tmp_path / "morning.yaml").write_text("name: morning\nsteps:\n  - {id: a, action: core.echo}\n")
    caller = call(await serve(workflows=tmp_path))
    refused = await refusal(caller.stub.StartRun(pb.StartRunRequest(workflow_name="mourning")))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "WORKFLOW_NOT_FOUND")
    assert refused.message == 'no workflow "mourning" on this server; did you mean "morning"?'
