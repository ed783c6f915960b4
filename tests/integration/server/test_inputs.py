"""Inputs that do not fit their actions: constant ones are refused before anything runs, others fail their step."""

import pytest
from grpc import StatusCode

from integration.server.build import bind, fallback_to, finished, flow, reason_of, step, value_of
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave import action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2


@action
async def search(query: str, limit: int = 10) -> str:
    return f"{query} {limit}"


@pytest.fixture
async def searching(serve: Serve, connect: Connect) -> RawClient:
    return connect(await serve(search))


BAD = flow(
    step("a", "search", given={"query": 5, "limt": 1}),
    step("b", "search", given={"limit": "many"}, bindings=[bind("/query", "a")]),
    step("c", "search", given=[1]),
    step("d", "core.echo", fallback=fallback_to("search", {"limit": 1})),
)


async def test_constant_inputs_are_checked_before_anything_runs_with_all_problems_at_once(searching: RawClient) -> None:
    refused = await refusal(searching.run(BAD))
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert refused.fields == [
        "workflow.steps[0].input",
        "workflow.steps[0].input",
        "workflow.steps[1].input",
        "workflow.steps[2].input",
        "workflow.steps[3].fallback.action.input",
    ]
    assert refused.description("workflow.steps[2].input") == "the input must be an object (query, limit), got a list"


async def test_a_plan_finds_the_same_problems(searching: RawClient) -> None:
    refused = await refusal(searching.stub.PlanWorkflow(pb.PlanWorkflowRequest(workflow=BAD)))
    assert len(refused.fields) == 5


async def test_an_unknown_key_from_a_binding_fails_the_step(searching: RawClient) -> None:
    whole = step("s", "search", bindings=[bind("", "given")])
    events = await searching.run(flow(step("given", "core.echo", given={"query": "x", "limt": 1}), whole))
    failure = finished(events)["s"].failure
    assert reason_of(failure) == "invalid_input"
    assert failure.message == 'the action does not know the key "limt"; did you mean "limit"?'


@pytest.mark.parametrize(
    "taken",
    [
        step("s", "search"),
        step("s", "search", bindings=[bind("", "input")]),
        step("s", "core.fail", fallback=workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="search"))),
    ],
    ids=["by default", "bound whole", "by a fallback"],
)
async def test_unknown_keys_of_the_runs_input_are_ignored(searching: RawClient, taken: workflow_pb2.Step) -> None:
    events = await searching.run(flow(taken), given={"query": "x", "other": 1})
    assert value_of(finished(events)["s"].output) == "x 10"


async def test_unknown_outputs_by_step_id_are_ignored(searching: RawClient) -> None:
    after = step("s", "search", after=["query", "other"])
    events = await searching.run(
        flow(step("query", "core.echo", given="x"), step("other", "core.echo", given=1), after)
    )
    assert value_of(finished(events)["s"].output) == "x 10"
