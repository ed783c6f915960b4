"""Open runs: steps that are added while the run lasts, the seal, and what is refused."""

import asyncio
import random

import grpc
import pytest

from integration.server.build import (
    bind,
    end_of,
    finished,
    flow,
    kinds_of,
    seconds,
    state_of,
    states,
    step,
    text,
    value_of,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.app import Server

INVALID = grpc.StatusCode.INVALID_ARGUMENT
NOT_OPEN = (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_OPEN")


async def test_an_added_step_runs_while_the_run_is_open(client: RawClient, controlled: ControlledActions) -> None:
    run = await client.open()
    assert run.open
    run = await client.add(step("a", "controlled"))
    assert (run.open, run.counts.pending + run.counts.running) == (True, 1)
    await controlled.wait_started("a")
    controlled.release("a")
    await client.add(step("b", "controlled", bindings=[bind("/value", "a")], given={"value": None}))
    await controlled.wait_started("b")
    controlled.release("b")
    assert not (await client.add(seal=True)).open
    events = await client.events("open")
    assert states(events) == {"a": "succeeded", "b": "succeeded"}
    assert {name: value_of(output) for name, output in end_of(events).outputs.items()} == {"b": "a"}
    assert kinds_of(events).count("steps_added") == 3


async def test_a_sealed_run_without_steps_succeeds(client: RawClient) -> None:
    await client.open()
    await client.add(seal=True)
    assert state_of(end_of(await client.events("open")).state) == "succeeded"


async def test_an_attached_run_may_be_open(client: RawClient) -> None:
    request = pb.ExecuteWorkflowRequest(workflow=flow(step("a")), run_id="open", open=True)
    call = client.stub.ExecuteWorkflow(request)
    await call.read()
    await client.add(step("b", after=["a"]), seal=True)
    assert states(await client.events("open")) == {"a": "succeeded", "b": "succeeded"}
    call.cancel()


async def test_a_step_may_refer_to_one_that_is_added_later(client: RawClient) -> None:
    await client.open()
    await client.add(step("b", after=["a"]))
    steps = (await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="open"))).step_results
    assert [(result.step_id, state_of(result.state)) for result in steps] == [("b", "pending")]
    [explained] = (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="open"))).steps
    assert "a" in str(explained)
    await client.add(step("a"), seal=True)
    assert list(states(await client.events("open"))) == ["a", "b"]


async def test_the_same_steps_may_be_added_again(client: RawClient, controlled: ControlledActions) -> None:
    await client.open()
    again = [step("a", "controlled"), step("b", given={"x": 1}, after=["a"])]
    await client.add(*again)
    await client.add(*again)
    await client.add(*again, step("c"), seal=True)
    await client.add(*again, step("c"), seal=True)
    controlled.release_all()
    events = await client.events("open")
    assert sorted(controlled.invoked) == ["a", "b", "c"]
    assert kinds_of(events).count("steps_added") == 2
    run = await client.add(*again, step("c"), seal=True)
    assert state_of(run.state) == "succeeded"


async def test_the_form_of_json_makes_no_other_step(client: RawClient) -> None:
    def spelled(given: str) -> workflow_pb2.Step:
        return workflow_pb2.Step(id="a", action="noop", input=text(given))

    await client.open()
    await client.add(spelled('{"x": 1, "y": [2.0]}'))
    await client.add(spelled('{"y":[2.0],"x":1}'))
    other = await refusal(client.add(spelled('{"y":[2],"x":1}')))
    assert other.fields == ["steps[0].id"]
    await client.add(seal=True)
    await client.events("open")
    await client.add(spelled('{"y":[2.0],  "x":1}'))


async def test_all_problems_of_an_addition_are_reported_and_nothing_of_it_is_applied(
    client: RawClient, controlled: ControlledActions
) -> None:
    await client.open(step("a"))
    steps = [
        step("good"),
        step("a", given={"other": True}),
        step("1 bad"),
        step("x", "controled"),
        step("y", "large_output", given={"size": "many"}),
        workflow_pb2.Step(id="z"),
        step("self", after=["self"]),
    ]
    refused = await refusal(client.add(*steps))
    assert (refused.code, refused.reason) == (INVALID, "INVALID_ARGUMENT")
    assert sorted(refused.fields) == [
        "steps[1].id",
        "steps[2].id",
        "steps[3].action",
        "steps[4].input",
        "steps[5].action",
        "steps[6].depends_on[0]",
    ]
    assert refused.description("steps[1].id") == 'the run has another step "a" already'
    assert 'did you mean "controlled"' in refused.description("steps[3].action")
    await client.add(step("good", "controlled", given={"value": 1}), seal=True)
    controlled.release_all()
    assert set(states(await client.events("open"))) == {"a", "good"}


async def test_a_refused_addition_leaves_the_run_going(client: RawClient, controlled: ControlledActions) -> None:
    await client.open(step("a", "controlled"))
    await controlled.wait_started("a")
    await client.add(step("b", after=["c"]))
    cycle = await refusal(client.add(step("c", after=["b"]), step("d")))
    assert cycle.violations == [("steps[0].depends_on", "dependency cycle: c → b → c")]
    unfulfilled = await refusal(client.add(step("d"), seal=True))
    assert unfulfilled.violations == [("seal", 'step "b" depends on "c", which was never added')]
    assert (await client.get("open")).open
    controlled.release("a")
    await client.add(step("c"), seal=True)
    assert states(await client.events("open")) == {"a": "succeeded", "b": "succeeded", "c": "succeeded"}


async def test_a_sealed_run_takes_no_more_steps(client: RawClient, controlled: ControlledActions) -> None:
    await client.open(step("a", "controlled"))
    await client.add(seal=True)
    refused = await refusal(client.add(step("b")))
    assert (refused.code, refused.reason) == NOT_OPEN
    assert refused.message == 'run "open" takes no more steps: it is sealed'
    controlled.release("a")
    await client.events("open")
    ended = await refusal(client.add(step("b")))
    assert (ended.code, ended.reason) == NOT_OPEN
    assert ended.message == 'run "open" takes no more steps: it has ended'


async def test_a_cancelled_run_takes_no_more_steps(client: RawClient, controlled: ControlledActions) -> None:
    await client.open(step("a", "stubborn"))
    await controlled.wait_started("a")
    await client.cancel("open", "enough")
    refused = await refusal(client.add(step("b")))
    assert (refused.code, refused.reason) == NOT_OPEN
    assert refused.message == 'run "open" takes no more steps: it is stopping: cancelled: enough'
    controlled.release("a")
    assert list(states(await client.events("open"))) == ["a"]


async def test_a_run_that_fails_fast_takes_no_more_steps(client: RawClient, controlled: ControlledActions) -> None:
    await client.open(step("a", "fails"), step("b", "stubborn"))
    await controlled.wait_started("a", "b")
    controlled.release("a")
    await client.watch("open").until("step_finished", "a")
    refused = await refusal(client.add(step("c")))
    assert (refused.code, refused.reason) == NOT_OPEN
    assert refused.message == 'run "open" takes no more steps: it is failing: step "a" failed'
    controlled.release("b")


async def test_a_run_that_was_never_open_takes_no_steps(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("a", "controlled")), run_id="closed")
    for _ in "under way", "ended":
        refused = await refusal(client.add(step("a", "controlled"), run_id="closed"))
        assert (refused.code, refused.reason) == NOT_OPEN
        assert refused.message == 'run "closed" takes no more steps: it was started without `open`'
        controlled.release("a")
        await client.events("closed")


async def test_an_unknown_run_takes_no_steps(client: RawClient) -> None:
    refused = await refusal(client.add(step("a"), run_id="nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_repeated_start_of_an_open_run_is_one_run(client: RawClient) -> None:
    await client.open()
    await client.add(step("a"))
    assert (await client.open()).open
    closed = await refusal(client.start(workflow_pb2.Workflow(name="test"), run_id="open"))
    assert (closed.code, closed.reason) == (grpc.StatusCode.ALREADY_EXISTS, "RUN_EXISTS")


async def test_a_closed_run_needs_a_step(client: RawClient) -> None:
    assert (await refusal(client.start(workflow_pb2.Workflow(name="test")))).fields == ["workflow.steps"]


async def test_an_idle_plan_ends_as_failed(client: RawClient) -> None:
    await client.open(step("a"), idle=0.05)
    result = end_of(await client.events("open"))
    assert state_of(result.state) == "failed"
    assert [failure.message for failure in result.failures] == [
        "no steps were added for 0.05 s, and the run was never sealed"
    ]


async def test_the_server_has_an_idle_limit_of_its_own(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(idle_timeout=0.05))
    limits = (await client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info.limits
    assert limits.default_idle_timeout == seconds(0.05)
    await client.open()
    assert state_of(end_of(await client.events("open")).state) == "failed"


async def test_an_idle_limit_needs_an_open_run_and_is_positive(client: RawClient) -> None:
    closed = pb.StartRunRequest(workflow=flow(step("a")), idle_timeout=seconds(5))
    assert (await refusal(client.stub.StartRun(closed))).fields == ["idle_timeout"]
    assert (await refusal(client.open(idle=-1))).fields == ["idle_timeout"]


async def test_an_open_run_cannot_be_scheduled_by_waves(client: RawClient) -> None:
    waves = flow(scheduling=workflow_pb2.SCHEDULING_WAVE)
    assert (await refusal(client.open(workflow=waves))).fields == ["workflow.scheduling"]


async def test_a_rerun_of_an_open_run_takes_its_added_steps_as_a_closed_workflow(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    await client.open(step("a", "controlled"))
    await client.add(step("c", "controlled", after=["b"]))
    await client.add(step("b", "fails", after=["a"]), seal=True)
    assert states(await client.events("open")) == {"a": "succeeded", "b": "failed", "c": "skipped"}
    controlled.invoked.clear()
    rerun = pb.Rerun(run_id="open", from_failed=True)
    run = (await client.stub.StartRun(pb.StartRunRequest(rerun=rerun, run_id="again"))).run
    assert not run.open
    assert (await client.stub.StartRun(pb.StartRunRequest(rerun=rerun, run_id="again"))).run.run_id == "again"
    assert states(await client.events("again")) == {"a": "succeeded", "b": "failed", "c": "skipped"}
    assert controlled.invoked == ["b"]
    refused = await refusal(client.stub.StartRun(pb.StartRunRequest(rerun=rerun, open=True)))
    assert refused.fields == ["open"]


@pytest.mark.one_server("runs end before it stops; on Temporal, they go on elsewhere")
async def test_a_server_that_drains_takes_steps_for_runs_under_way(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.open(step("a", "controlled"))
    await controlled.wait_started("a")
    drain = asyncio.create_task(server.drain())
    await client.begins_to_drain()
    await client.add(step("b", after=["a"]), seal=True)
    watch = client.watch("open")
    await watch.until("step_started", "a")
    controlled.release("a")
    assert states(await watch.rest()) == {"a": "succeeded", "b": "succeeded"}
    async with asyncio.timeout(GUARD):
        await drain


@pytest.mark.parametrize("serve", ["sqlite"], indirect=True)
async def test_a_drain_leaves_a_run_that_waits_for_steps_to_the_next_server(serve: Serve, connect: Connect) -> None:
    server = await serve(drain_timeout=3_600)
    client = connect(server)
    await client.open(step("a"))
    await client.watch("open").until("step_finished", "a")
    async with asyncio.timeout(GUARD):
        await server.drain()


@pytest.mark.one_server("it has more steps or larger outputs than Temporal takes in time")
async def test_many_steps_may_be_added_at_once(client: RawClient) -> None:
    count = 1_500  # parsed on a thread
    await client.open()
    steps = [step(f"s{number}", after=[f"s{number + 1}"] if number + 1 < count else []) for number in range(count)]
    await client.add(*steps, seal=True)
    result = end_of(await client.events("open"))
    assert result.counts.succeeded == count


@pytest.mark.parametrize("seed", range(3))
async def test_a_graph_in_any_parts_ends_as_in_one_workflow(
    client: RawClient, controlled: ControlledActions, seed: int
) -> None:
    controlled.release_all()
    draw = random.Random(seed)
    steps = [
        step(
            f"s{number}",
            draw.choice(["controlled", "controlled", "fails"]),
            after=[f"s{earlier}" for earlier in draw.sample(range(number), min(number, draw.randrange(4)))],
            join=draw.choice([workflow_pb2.JOIN_ALL, workflow_pb2.JOIN_ALL_DONE]),
            allow_failure=draw.random() < 0.3,
        )
        for number in range(40)
    ]
    draw.shuffle(steps)
    whole = await client.run(flow(*steps, failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE), run_id="whole")
    await client.open(workflow=flow(failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE))
    while steps:
        count = draw.randint(1, len(steps))
        await client.add(*steps[:count])
        del steps[:count]
    await client.add(seal=True)
    composed = await client.events("open")
    assert states(composed) == states(whole)
    assert {name: result.wave for name, result in finished(composed).items()} == {
        name: result.wave for name, result in finished(whole).items()
    }
    assert (end_of(composed).state, end_of(composed).counts) == (end_of(whole).state, end_of(whole).counts)
    assert set(end_of(composed).outputs) == set(end_of(whole).outputs)
