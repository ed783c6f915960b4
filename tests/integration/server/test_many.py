"""Many runs, large runs and limits: runs share nothing, none starves, and no depth causes recursion."""

import asyncio
import re

import grpc
import pytest

from integration.server.build import (
    bind,
    check_sequences,
    end_of,
    finished,
    flow,
    kinds_of,
    state_of,
    states,
    step,
    value_of,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import RawClient, refusal
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2

FOUR = flow(
    step("a", "core.echo", bindings=[bind("/n", "input", "/n")]),
    step("b", "core.echo", after=["a"]),
    step("c", "core.echo", after=["a"]),
    step("d", "core.echo", after=["b", "c"]),
)


@pytest.mark.one_server("it has more steps or larger outputs than Temporal takes in time")
async def test_a_thousand_runs_at_once_share_nothing(client: RawClient) -> None:
    runs = await asyncio.gather(*(client.run(FOUR, given={"n": n}, run_id=f"run{n}") for n in range(1_000)))
    for n, events in enumerate(runs):
        assert {event.run_id for event in events} == {f"run{n}"}
        check_sequences(events)
        assert value_of(finished(events)["d"].output) == {"b": {"a": {"n": n}}, "c": {"a": {"n": n}}}


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_a_small_run_that_arrives_later_ends_before_a_wide_one(serve: Serve, connect: Connect) -> None:
    """Ten thousand steps of one run wait for eight places. Each step that the test releases frees its place."""
    released = asyncio.Semaphore(0)
    went = asyncio.Queue[str]()
    order: list[str] = []

    @action
    async def ticket(context: Context) -> None:
        await released.acquire()
        went.put_nowait(context.run_id)

    server = await serve(ticket, max_attempts=8)
    client = connect(server)
    await client.start(flow(*(step(f"s{i}", "ticket") for i in range(10_000))), run_id="wide")
    await eventually(lambda: server.engine.attempts_in_flight == 8)
    small = client.execute(flow(*(step(f"t{i}", "ticket") for i in range(4))), run_id="small")
    await small.until("run_started")
    while order.count("small") < 4:
        released.release()
        order.append(await went.get())
    assert state_of(end_of(await small.rest()).state) == "succeeded"
    assert len(order) <= 20
    await client.cancel("wide")
    assert end_of(await client.events("wide")).counts.succeeded == order.count("wide")


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_the_limit_of_attempts_in_flight_is_never_exceeded(serve: Serve, connect: Connect) -> None:
    inside = most = 0

    @action
    async def counts() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    server = await serve(counts, max_attempts=7)
    client = connect(server)
    wide = flow(*(step(f"s{i}", "counts") for i in range(100)))
    await asyncio.gather(*(client.run(wide) for _ in range(5)))
    assert most == 7
    assert server.engine.attempts_in_flight == 0


@pytest.mark.parametrize("serve", ["sqlite"], indirect=True)
async def test_a_chain_of_20_000_steps_runs_to_its_end(client: RawClient) -> None:
    chain = flow(*(step(f"s{i}", after=[f"s{i - 1}"] if i else []) for i in range(20_000)))
    stream = client.execute(chain)
    events = await stream.rest()
    assert end_of(events).counts.succeeded == 20_000
    check_sequences(events)


@pytest.mark.parametrize("serve", ["sqlite"], indirect=True)
async def test_a_fan_out_of_100_000_steps_runs_to_its_end(client: RawClient) -> None:
    """The plan takes several events, and the client accepts no message over 3 MiB."""
    wide = flow(step("root"), *(step(f"s{i}", after=["root"]) for i in range(100_000)))
    events = await client.run(wide)
    assert end_of(events).counts.succeeded == 100_001
    plans = [event.run_started for event in events if event.HasField("run_started")]
    planned = [step_id for plan in plans for wave in plan.waves for step_id in wave.step_ids]
    assert planned == [spec.id for spec in wide.steps]
    assert [plan.more for plan in plans] == [True] * (len(plans) - 1) + [False]
    assert len(finished(events)) == 100_001


@pytest.mark.one_server("its max_runs bounds the runs in its memory")
async def test_more_runs_than_allowed_are_refused(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(max_runs=2))
    for name in ("one", "two"):
        await client.start(flow(step("a", "controlled")), run_id=name)
    refused = await refusal(client.start(flow(step("a")), run_id="three"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_RUNS")
    assert re.search(r"\b2 runs", refused.message)
    controlled.release("a")
    await client.events("one")
    await client.start(flow(step("a")), run_id="three")


async def test_open_streams_do_not_count_as_calls(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(max_calls=1, max_streams=2))
    await client.start(flow(step("a", "controlled")), run_id="live")
    watches = [client.watch("live") for _ in range(2)]
    for watch in watches:
        await watch.until("step_started")
    refused = await refusal(client.watch("live").rest())
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
    assert (await client.get("live")).run_id == "live"
    controlled.release("a")
    for watch in watches:
        await watch.rest()
    assert kinds_of(await client.events("live"))[-1] == "run_finished"


@pytest.mark.one_server("it has more steps or larger outputs than Temporal takes in time")
@pytest.mark.parametrize("scheduling", [workflow_pb2.SCHEDULING_EAGER, workflow_pb2.SCHEDULING_WAVE])
async def test_layers_of_steps_run_to_their_end(
    client: RawClient, scheduling: workflow_pb2.Scheduling.ValueType
) -> None:
    layers = [
        step(f"s{layer}_{place}", after=[f"s{layer - 1}_{(place + turn) % 30}" for turn in range(3)] if layer else [])
        for layer in range(30)
        for place in range(30)
    ]
    events = await client.run(flow(*layers, scheduling=scheduling))
    assert set(states(events).values()) == {"succeeded"}
    assert len([event for event in events if event.HasField("wave_finished")]) == 30


async def test_outputs_over_a_mebibyte_in_all_are_left_out_of_the_result_and_named(client: RawClient) -> None:
    wide = flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(5)))
    events = await client.run(wide, run_id="past")
    result = end_of(events)
    assert set(result.outputs) == {"s0", "s1"}
    assert (list(result.omitted_outputs), result.omitted_output_count) == (["s2", "s3", "s4"], 3)
    response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="past"))
    assert response.step_results
