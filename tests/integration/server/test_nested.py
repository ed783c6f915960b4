"""Nested workflows: inline, chosen by an action, and what is passed down to them."""

import json

import pytest
from google.protobuf import json_format

from integration.server.build import (
    bind,
    check_sequences,
    end_of,
    finished,
    flow,
    items,
    reason_of,
    state_of,
    states,
    step,
    value_of,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient, workflow_refusal
from stepwave.v1 import event_pb2, run_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

CONTINUE = workflow_pb2.FAILURE_POLICY_CONTINUE
ECHOES = flow(step("x", "core.echo"), step("y", "core.echo", after=["x"]), name="echoes")


def _call(workflow: workflow_pb2.Workflow, given: object = None) -> dict[str, object]:
    """Return the input of `core.workflow` for a workflow."""
    return {"workflow": json_format.MessageToDict(workflow), "input": given}


async def test_a_step_runs_a_workflow_within_its_run(client: RawClient) -> None:
    workflow = flow(
        step("a", "core.echo", given={"q": 1}),
        step("sub", after=["a"], body=ECHOES),
        step("end", "core.echo", after=["sub"]),
    )
    events = await client.run(workflow, run_id="run")
    check_sequences(events)
    assert value_of(end_of(events).outputs["end"]) == {"sub": {"y": {"x": {"a": {"q": 1}}}}}
    assert list(finished(events)) == ["a", "sub/x", "sub/y", "sub", "end"]
    assert finished(events)["sub"].action == "core.workflow"
    assert {finished(events)[step_id].wave for step_id in ("sub", "sub/x", "sub/y")} == {1}
    listed = (await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="run"))).step_results
    assert [result.step_id for result in listed] == ["a", "sub", "end", "sub/x", "sub/y"]


async def test_the_input_of_the_step_is_that_of_its_workflow(client: RawClient) -> None:
    body = flow(step("x", "core.echo"), step("y", "core.echo", bindings=[bind("", "input", "/q")]))
    events = await client.run(flow(step("sub", body=body, given={"q": 5})), given={"q": 1})
    assert value_of(end_of(events).outputs["sub"]) == {"x": {"q": 5}, "y": 5}


async def test_the_outputs_of_the_workflow_are_the_output_of_the_step(client: RawClient) -> None:
    body = flow(step("x", "core.echo", given=1), step("y", "core.echo", after=["x"]), outputs=["x"])
    assert value_of(end_of(await client.run(flow(step("sub", body=body)))).outputs["sub"]) == {"x": 1}


async def test_an_action_runs_a_workflow_that_its_input_gives(client: RawClient) -> None:
    events = await client.run(flow(step("sub", "core.workflow", given=_call(ECHOES, {"n": 1}))))
    assert value_of(end_of(events).outputs["sub"]) == {"y": {"x": {"n": 1}}}
    assert states(events) == {"sub/x": "succeeded", "sub/y": "succeeded", "sub": "succeeded"}
    (expanded,) = [event.step_expanded for event in events if event.HasField("step_expanded")]
    assert expanded.workflow.name == "echoes"


async def test_an_action_runs_a_workflow_that_an_earlier_step_made(client: RawClient) -> None:
    workflow = flow(
        step("plan", "core.echo", given=json_format.MessageToDict(ECHOES)),
        step("sub", "core.workflow", given={"input": 7}, bindings=[bind("/workflow", "plan")]),
    )
    assert value_of(end_of(await client.run(workflow)).outputs["sub"]) == {"y": {"x": 7}}


async def test_a_workflow_that_the_server_does_not_know_is_not_found(client: RawClient) -> None:
    events = await client.run(flow(step("sub", "core.workflow", given={"name": "nowhere"})))
    failure = finished(events)["sub"].failure
    assert reason_of(failure) == "not_found"
    assert "nowhere" in failure.message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "either `name` or `workflow`"),
        ({"name": "x", "workflow": {}}, "either `name` or `workflow`"),
        ({"workflow": {"name": "w", "steps": [{"id": "a", "action": "nowhere"}]}}, "nowhere"),
        ({"workflow": {"name": "w", "steps": [{"id": "a", "action": "noop", "dependsOn": ["b"]}]}}, 'unknown step "b"'),
        ({"workflow": {"name": "w", "step": []}}, "step"),
        ({"workflow": {"name": "w"}}, "at least one step"),
    ],
)
async def test_a_workflow_that_cannot_run_fails_the_step(client: RawClient, given: object, words: str) -> None:
    bound = [workflow_pb2.Binding(target="", input="")]
    events = await client.run(flow(step("sub", "core.workflow", bindings=bound)), given=given)
    failure = finished(events)["sub"].failure
    assert reason_of(failure) == "invalid_input"
    assert words in failure.message


async def test_workflows_nest_eight_deep_and_no_deeper(client: RawClient) -> None:
    deep = flow(step("leaf", "core.echo", given=1))
    for _ in range(8):
        deep = flow(step("w", body=deep))
    events = await client.run(deep)
    assert state_of(end_of(events).state) == "succeeded"
    assert "/".join("w" * 8) + "/leaf" in finished(events)
    refused = await workflow_refusal(client, flow(step("w", body=deep)))
    assert refused.description(refused.fields[0]) == "more than 8 workflows are nested"


async def test_workflows_that_actions_choose_nest_eight_deep_and_no_deeper(client: RawClient) -> None:
    body = flow(step("leaf", "core.echo"))
    for _ in range(9):
        body = flow(step("w", "core.workflow", given=_call(body)))
    events = await client.run(body)
    path = "/".join("w" * 9)
    assert finished(events)[path].failure.message == "more than 8 workflows would be nested"
    assert state_of(end_of(events).state) == "failed"


async def test_a_failure_inside_is_handled_by_the_policy_inside_and_fails_the_step(
    client: RawClient, controlled: ControlledActions
) -> None:
    body = flow(step("x", "core.fail"), step("y", "core.echo"), failure_policy=CONTINUE)
    workflow = flow(step("sub", body=body), step("end", "core.echo", after=["sub"]))
    events = await client.run(workflow)
    assert states(events) == {"sub/x": "failed", "sub/y": "succeeded", "sub": "failed", "end": "skipped"}
    failure = finished(events)["sub"].failure
    assert failure.cause == run_pb2.FAILURE_CAUSE_NESTED_STEP_FAILED
    assert failure.message.startswith('step "sub/x" failed: ')


async def test_cancelling_is_passed_down(client: RawClient, controlled: ControlledActions) -> None:
    middle = flow(step("sub", body=flow(step("x", "controlled"), step("y", after=["x"]))))
    await client.start(flow(step("sub", body=middle)), run_id="run")
    await controlled.wait_started("sub/sub/x")
    await client.cancel("run", "enough")
    events = await client.events("run")
    assert states(events) == {
        "sub/sub/x": "cancelled",
        "sub/sub/y": "skipped",
        "sub/sub": "cancelled",
        "sub": "cancelled",
    }
    assert finished(events)["sub/sub/y"].skip_reason.cause == run_pb2.SKIP_CAUSE_CANCELLED
    assert controlled.cancelled == ["sub/sub/x"]


@pytest.mark.parametrize("where", ["step", "workflow", "total", "run"])
async def test_deadlines_are_passed_down(client: RawClient, controlled: ControlledActions, where: str) -> None:
    limit = 0.02
    body = flow(step("x", "controlled"), timeout=limit if where == "workflow" else None)
    workflow = flow(
        step(
            "sub",
            body=body,
            timeout=limit if where == "step" else None,
            total_timeout=limit if where == "total" else None,
        ),
        timeout=limit if where == "run" else None,
    )
    events = await client.run(workflow)
    assert states(events) == {"sub/x": "cancelled", "sub": "cancelled" if where == "run" else "failed"}
    assert state_of(end_of(events).state) == "failed"
    assert reason_of(end_of(events).failures[0]) == "timeout"
    assert controlled.cancelled == ["sub/x"]


async def test_a_failure_outside_ends_what_is_inside(client: RawClient, controlled: ControlledActions) -> None:
    workflow = flow(step("sub", body=flow(step("x", "controlled"))), step("other", "fails"))
    await client.start(workflow, run_id="run")
    await controlled.wait_started("sub/x", "other")
    controlled.release("other")
    assert states(await client.events("run")) == {"other": "failed", "sub/x": "cancelled", "sub": "cancelled"}


async def test_a_fallback_answers_for_a_workflow_that_failed(client: RawClient) -> None:
    fallback = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="core.echo"))
    workflow = flow(step("sub", body=flow(step("x", "core.fail")), given={"q": 1}, fallback=fallback))
    events = await client.run(workflow)
    assert value_of(end_of(events).outputs["sub"]) == {"q": 1}
    assert finished(events)["sub"].original_failure.cause == run_pb2.FAILURE_CAUSE_NESTED_STEP_FAILED


async def test_a_run_says_what_its_nested_steps_wait_for(client: RawClient, controlled: ControlledActions) -> None:
    body = flow(step("x", "controlled"), step("y", "controlled"), step("ok", "core.wait"), max_parallelism=1)
    await client.start(flow(step("sub", body=body)), run_id="run")
    await controlled.wait_started("sub/x")
    groups = {
        group.cause: list(group.step_ids)
        for group in (await client.stub.GetRun(pb.GetRunRequest(run_id="run"))).waiting
    }
    assert groups == {event_pb2.WAIT_CAUSE_CONCURRENCY: ["sub/y"], event_pb2.WAIT_CAUSE_EXTERNAL: ["sub/ok"]}
    explained = (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="run"))).steps
    messages = {step.step_id: step.message for step in explained}
    assert messages["sub"] == "0 of its 3 steps have ended"
    await client.cancel("run")


async def test_a_list_in_a_workflow_in_a_list_runs(client: RawClient) -> None:
    inner = flow(step("each", "core.echo", over=workflow_pb2.ForEach(input="")))
    events = await client.run(flow(step("rows", over=items([1, 2], [3]), body=inner)))
    assert value_of(end_of(events).outputs["rows"]) == [{"each": [1, 2]}, {"each": [3]}]
    assert "rows[0]/each[1]" in finished(events)


async def test_the_input_of_an_action_in_a_list_names_a_workflow_for_each_item(client: RawClient) -> None:
    given = _call(ECHOES, 1), json.loads(json.dumps(_call(ECHOES, 2)))
    events = await client.run(flow(step("list", "core.workflow", over=items(*given))))
    assert value_of(end_of(events).outputs["list"]) == [{"y": {"x": 1}}, {"y": {"x": 2}}]
