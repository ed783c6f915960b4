"""Ended runs: lists, results, steps, deletion and retention."""

import asyncio
from collections.abc import Iterable

import grpc
import pytest

from integration.server.build import end_of, finished, flow, kinds_of, state_of, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2


async def _list(
    client: RawClient,
    *,
    states: Iterable[run_pb2.State.ValueType] = (),
    workflow: str = "",
    prefix: str = "",
    size: int = 0,
) -> list[str]:
    """List runs page by page, and return their ids."""
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListRunsRequest(
            states=states, workflow_name=workflow, run_id_prefix=prefix, page_size=size, page_token=token
        )
        page = await client.stub.ListRuns(request)
        found += [run.run_id for run in page.runs]
        assert not size or len(page.runs) <= size
        token = page.next_page_token
        if not token:
            return found


async def _steps(client: RawClient, run_id: str, size: int = 0) -> list[run_pb2.StepResult]:
    found: list[run_pb2.StepResult] = []
    token = ""
    while True:
        request = pb.ListStepResultsRequest(run_id=run_id, page_size=size, page_token=token)
        page = await client.stub.ListStepResults(request)
        found += page.step_results
        assert not size or len(page.step_results) <= size
        token = page.next_page_token
        if not token:
            return found


async def test_runs_are_listed_by_labels_and_time(client: RawClient) -> None:
    await client.run(flow(step("a"), labels={"team": "red", "tier": "1"}), run_id="one")
    await client.run(flow(step("a"), labels={"team": "red"}), run_id="two")
    middle = (await client.get("two")).create_time

    async def listed(**fields: object) -> list[str]:
        return [run.run_id for run in (await client.stub.ListRuns(pb.ListRunsRequest(**fields))).runs]  # type: ignore[arg-type]

    assert await listed(labels={"team": "red"}) == ["two", "one"]
    assert await listed(labels={"team": "red", "tier": "1"}) == ["one"]
    assert await listed(labels={"team": "blue"}) == []
    assert await listed(create_time_from=middle) == ["two"]
    assert await listed(create_time_before=middle) == ["one"]


async def test_runs_are_listed_newest_first(client: RawClient, controlled: ControlledActions) -> None:
    for name in ("one", "two", "three"):
        await client.run(flow(step("a")), run_id=name)
    await client.start(flow(step("blocked", "controlled")), run_id="four")
    assert await _list(client) == ["four", "three", "two", "one"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_runs_come_in_pages(client: RawClient, size: int) -> None:
    names = [f"run{i}" for i in range(7)]
    for name in names:
        await client.run(flow(step("a")), run_id=name)
    assert await _list(client, size=size) == names[::-1]


async def test_new_runs_do_not_change_later_pages(client: RawClient) -> None:
    for name in ("one", "two", "three"):
        await client.run(flow(step("a")), run_id=name)
    first = await client.stub.ListRuns(pb.ListRunsRequest(page_size=2))
    await client.run(flow(step("a")), run_id="four")
    second = await client.stub.ListRuns(pb.ListRunsRequest(page_size=2, page_token=first.next_page_token))
    assert [run.run_id for run in (*first.runs, *second.runs)] == ["three", "two", "one"]


async def test_runs_are_found_by_state(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release("bad")
    await client.run(flow(step("a")), run_id="good")
    await client.run(flow(step("bad", "fails")), run_id="bad")
    await client.start(flow(step("blocked", "controlled")), run_id="live")
    await controlled.wait_started("blocked")
    assert await _list(client, states=[run_pb2.STATE_FAILED]) == ["bad"]
    assert await _list(client, states=[run_pb2.STATE_SUCCEEDED, run_pb2.STATE_RUNNING]) == ["live", "good"]


async def test_runs_are_found_by_workflow_and_by_prefix(client: RawClient) -> None:
    for name, run_id in (("x", "x-1"), ("y", "y-1"), ("x", "x-2"), ("x", "z-1")):
        await client.run(flow(step("a"), name=name), run_id=run_id)
    assert await _list(client, workflow="x") == ["z-1", "x-2", "x-1"]
    assert await _list(client, prefix="x-") == ["x-2", "x-1"]
    assert await _list(client, workflow="x", prefix="z", size=1) == ["z-1"]
    assert await _list(client, prefix="nobody") == []


async def test_an_unknown_state_is_refused(client: RawClient) -> None:
    request = pb.ListRunsRequest()
    request.states.append(run_pb2.State.ValueType(77))
    refused = await refusal(client.stub.ListRuns(request))
    assert (refused.code, refused.fields) == (grpc.StatusCode.UNIMPLEMENTED, ["states"])


async def test_a_page_of_runs_with_long_labels_is_never_longer_than_a_message(client: RawClient) -> None:
    labels = {f"{place:03}" + "k" * 253: "v" * 256 for place in range(64)}
    names = [f"run{i:03}" for i in range(110)]
    for few in range(0, len(names), 10):  # Temporal's development server is slow with labels of this size
        await asyncio.gather(*(client.start(flow(step("a"), labels=labels), run_id=it) for it in names[few : few + 10]))
    assert sorted(await _list(client, size=1_000)) == names


async def test_get_run_returns_the_state_of_a_running_run(client: RawClient, controlled: ControlledActions) -> None:
    wide = flow(
        step("done"),
        step("blocked", "controlled"),
        step("next", after=["blocked"]),
        labels={"team": "red"},
        name="wide",
    )
    await client.start(wide, run_id="live")
    async with client.watch("live") as watch:
        await watch.until("step_finished", "done")
    run = await client.get("live")
    assert (run.run_id, run.namespace, run.workflow_name, dict(run.labels)) == (
        "live",
        "default",
        "wide",
        {"team": "red"},
    )
    assert (state_of(run.state), run.stopping, run.open) == ("running", False, False)
    assert (run.counts.succeeded, run.counts.running, run.counts.pending) == (1, 1, 1)
    assert run.HasField("start_time")
    assert not run.HasField("end_time")


async def test_get_run_returns_the_final_state_of_a_run(client: RawClient) -> None:
    events = await client.run(flow(step("a")), run_id="past")
    run = await client.get("past")
    assert state_of(run.state) == "succeeded"
    assert run.last_sequence == events[-1].sequence
    assert run.end_time == events[-1].time


async def test_get_run_of_an_unknown_run_is_not_found(client: RawClient) -> None:
    assert (await refusal(client.get("nowhere"))).reason == "RUN_NOT_FOUND"


async def test_a_result_before_the_end_is_a_failed_precondition(
    client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("blocked", "controlled")), run_id="live")
    refused = await refusal(client.result("live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_ENDED")


async def test_a_result_equals_the_one_in_the_terminal_event(client: RawClient) -> None:
    events = await client.run(flow(step("a", "core.echo")), given=[1], run_id="past")
    result = await client.result("past")
    assert result == end_of(events)
    assert value_of(result.outputs["a"]) == [1]


async def test_named_outputs_are_the_results(client: RawClient) -> None:
    named = flow(step("a", "core.echo"), step("b", "core.echo", after=["a"]), step("c"), outputs=["a", "b"])
    assert set(end_of(await client.run(named, given=1)).outputs) == {"a", "b"}


@pytest.mark.parametrize("size", [0, 1, 2, 5, 10_000])
async def test_steps_of_a_finished_run_come_in_declaration_order_and_pages(client: RawClient, size: int) -> None:
    events = await client.run(flow(step("c", after=["a"]), step("a"), step("b", after=["a"])), run_id="past")
    steps = await _steps(client, "past", size)
    assert [found.step_id for found in steps] == ["c", "a", "b"]
    assert {found.step_id: found for found in steps} == finished(events)


@pytest.mark.parametrize("size", [0, 1, 2])
async def test_steps_of_a_running_run_have_their_current_state(
    client: RawClient, controlled: ControlledActions, size: int
) -> None:
    chain = flow(step("next", after=["blocked"]), step("blocked", "controlled", after=["done"]), step("done"))
    await client.start(chain, run_id="live")
    await controlled.wait_started("blocked")
    steps = await _steps(client, "live", size)
    assert [(found.step_id, state_of(found.state)) for found in steps] == [
        ("next", "pending"),
        ("blocked", "running"),
        ("done", "succeeded"),
    ]
    following, blocked, done = steps
    assert (following.wave, blocked.wave, done.wave) == (2, 1, 0)
    assert (following.attempts, blocked.attempts, done.attempts) == (0, 1, 1)
    assert blocked.HasField("start_time")
    assert not following.HasField("ready_time")
    assert done.HasField("output")


async def test_large_outputs_make_a_page_shorter(client: RawClient) -> None:
    wide = flow(*(step(f"s{i}", "large_output", given={"size": 900_000}) for i in range(4)))
    await client.run(wide, run_id="past")
    page = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="past"))
    assert len(page.step_results) == 1
    assert [found.step_id for found in await _steps(client, "past")] == ["s0", "s1", "s2", "s3"]


async def test_a_deleted_run_is_forgotten(client: RawClient) -> None:
    await client.run(flow(step("a")), run_id="past")
    await client.delete("past")
    for refused in (
        await refusal(client.get("past")),
        await refusal(client.result("past")),
        await refusal(client.watch("past").rest()),
        await refusal(client.delete("past")),
        await refusal(_steps(client, "past")),
    ):
        assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
    assert await _list(client) == []


async def test_a_run_that_has_not_ended_cannot_be_deleted(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("blocked", "controlled")), run_id="live")
    refused = await refusal(client.delete("live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RUN_NOT_ENDED")
    controlled.release("blocked")
    assert kinds_of(await client.events("live"))[-1] == "run_finished"


@pytest.mark.one_server("Temporal's namespace keeps ended runs for a time of its own")
async def test_only_the_newest_ended_runs_are_kept(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(keep_runs=2))
    await client.start(flow(step("blocked", "controlled")), run_id="live")
    await controlled.wait_started("blocked")
    for name in ("one", "two", "three"):
        await client.run(flow(step("a")), run_id=name)
    assert await _list(client) == ["three", "two", "live"]
    controlled.release("blocked")
    await client.events("live")
    assert await _list(client) == ["three", "live"]


@pytest.mark.one_server("Temporal's namespace keeps ended runs for a time of its own")
async def test_ended_runs_are_kept_within_a_size(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(keep_bytes=1_000_000))
    for name in ("one", "two", "three"):
        await client.run(flow(step("a", "large_output", given={"size": 200_000})), run_id=name)
    assert await _list(client) == ["three", "two"]


async def test_a_page_token_with_another_filter_is_refused(client: RawClient) -> None:
    for number in range(3):
        await client.run(flow(step("a")), run_id=f"run-{number}")
    first = await client.stub.ListRuns(pb.ListRunsRequest(page_size=2))
    other = pb.ListRunsRequest(page_size=2, page_token=first.next_page_token, run_id_prefix="run")
    refused = await refusal(client.stub.ListRuns(other))
    assert refused.fields == ["page_token"]
