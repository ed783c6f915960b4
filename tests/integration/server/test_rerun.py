"""Reruns: the workflow and input of an earlier run, and its outputs if requested."""

import grpc
import pytest

from integration.server.build import bind, end_of, finished, flow, items, state_of, states, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent


@pytest.fixture
async def client(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve())


def _flow() -> workflow_pb2.Workflow:
    """Return a workflow whose second step fails, and whose third does not depend on it."""
    return flow(
        step("a", "controlled", given={"value": None}, bindings=[bind("/value", "input", "/city")]),
        step("b", "fails", after=["a"]),
        step("c", "noop"),
        step("d", "controlled", after=["b"]),
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
    )


async def _again(client: RawClient, earlier: str, *, from_failed: bool = False, run_id: str = "") -> list[RunEvent]:
    rerun = pb.Rerun(run_id=earlier, from_failed=from_failed)
    return [
        event
        async for response in client.stub.ExecuteWorkflow(pb.ExecuteWorkflowRequest(rerun=rerun, run_id=run_id))
        for event in response.events
    ]


async def _fail_once(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    events = await client.run(_flow(), given={"city": "Oslo"}, run_id="first")
    assert states(events) == {"a": "succeeded", "b": "failed", "c": "succeeded", "d": "skipped"}
    controlled.invoked.clear()


async def test_a_rerun_executes_the_same_workflow_on_the_same_input(
    client: RawClient, controlled: ControlledActions
) -> None:
    await _fail_once(client, controlled)
    events = await _again(client, "first", run_id="second")
    assert value_of(finished(events)["a"].output) == "Oslo"
    assert sorted(controlled.invoked) == ["a", "b", "c"]
    assert (await client.get("second")).rerun_of == "first"


async def test_a_rerun_from_failed_reuses_outputs_and_runs_the_rest(
    client: RawClient, controlled: ControlledActions
) -> None:
    await _fail_once(client, controlled)
    events = await _again(client, "first", from_failed=True, run_id="second")
    assert controlled.invoked == ["b"]
    steps = finished(events)
    assert (steps["a"].reused_from, steps["a"].attempts, value_of(steps["a"].output)) == ("first", 0, "Oslo")
    assert (steps["b"].reused_from, steps["b"].attempts) == ("", 1)
    assert state_of(end_of(events).state) == "failed"


async def test_a_rerun_can_be_started_detached(client: RawClient, controlled: ControlledActions) -> None:
    await _fail_once(client, controlled)
    rerun = pb.Rerun(run_id="first", from_failed=True)
    run = (await client.stub.StartRun(pb.StartRunRequest(rerun=rerun))).run
    assert run.run_id.startswith("test-")
    assert states(await client.events(run.run_id))["a"] == "succeeded"


async def test_a_repeated_rerun_request_is_one_run(client: RawClient, controlled: ControlledActions) -> None:
    await _fail_once(client, controlled)
    first = await _again(client, "first", from_failed=True, run_id="second")
    assert await _again(client, "first", from_failed=True, run_id="second") == first
    assert controlled.invoked == ["b"]


async def test_a_rerun_of_a_run_that_has_not_ended_is_refused(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("a", "controlled")), run_id="live")
    refused = await refusal(_again(client, "live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_ENDED")


async def test_a_rerun_of_an_unknown_run_is_refused(client: RawClient) -> None:
    refused = await refusal(_again(client, "nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_rerun_takes_no_input_of_its_own(client: RawClient) -> None:
    request = pb.StartRunRequest(rerun=pb.Rerun(run_id="first"))
    request.input.json = "1"
    refused = await refusal(client.stub.StartRun(request))
    assert refused.description("input") == "must not be set with `rerun`: it is the earlier run's"


async def test_a_rerun_must_name_the_earlier_run(client: RawClient) -> None:
    refused = await refusal(client.stub.StartRun(pb.StartRunRequest(rerun=pb.Rerun())))
    assert refused.fields == ["rerun.run_id"]


# Runs whose steps became several.


def _partial() -> workflow_pb2.Workflow:
    """Return a workflow whose list fails in part: its second item has no `value` that its second step can read."""
    body = flow(
        step("first", "controlled", given={}, bindings=[workflow_pb2.Binding(target="/value", item="/value")]),
        step("second", "controlled", given={}, bindings=[bind("/value", "first", "/x")]),
        name="body",
    )
    listed = items({"value": {"x": 1}}, {"value": {}}, {"value": {"x": 3}})
    return flow(
        step("pages", over=listed, body=body),
        step("end", "controlled", given={}, bindings=[bind("/value", "pages")]),
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
    )


async def test_a_rerun_from_failed_keeps_the_finished_children_of_a_list(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    events = await client.run(_partial(), run_id="first")
    assert states(events)["pages[1]/second"] == "failed"
    assert states(events)["pages"] == "failed"
    controlled.invoked.clear()
    events = await _again(client, "first", from_failed=True, run_id="second")
    assert controlled.invoked == []
    steps = finished(events)
    assert {step_id: result.reused_from for step_id, result in steps.items()} == {
        "pages[0]": "first",
        "pages[2]": "first",
        "pages[1]/first": "first",
        "pages[1]/second": "",
        "pages[1]": "",
        "pages": "",
        "end": "",
    }
    assert value_of(steps["pages[1]/first"].output) == {}


async def test_a_rerun_of_a_rerun_keeps_what_either_finished(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    await client.run(_partial(), run_id="first")
    await _again(client, "first", from_failed=True, run_id="second")
    steps = finished(await _again(client, "second", from_failed=True, run_id="third"))
    assert {step_id for step_id, result in steps.items() if result.reused_from == "second"} == {
        "pages[0]",
        "pages[2]",
        "pages[1]/first",
    }


async def test_a_workflow_that_an_action_chose_runs_again_as_a_whole(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    chosen = {"name": "w", "steps": [{"id": "x", "action": "noop"}, {"id": "y", "action": "fails", "dependsOn": ["x"]}]}
    await client.run(flow(step("sub", "core.workflow", given={"workflow": chosen})), run_id="first")
    controlled.invoked.clear()
    await _again(client, "first", from_failed=True, run_id="second")
    assert controlled.invoked == ["sub/x", "sub/y"]
