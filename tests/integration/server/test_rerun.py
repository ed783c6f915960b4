"""Reruns: the workflow and input of an earlier run, and its outputs if requested."""

import grpc
import pytest

from integration.server.build import bind, end_of, finished, flow, state_of, states, step, value_of
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
