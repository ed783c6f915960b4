"""Cancelling runs, and their timeouts."""

import grpc
import pytest

from integration.server.build import end_of, finished, flow, kinds_of, reason_of, state_of, states, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave_server.app import Server


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_cancelling_before_a_step_has_begun_skips_it(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    """The only place is taken, so that the second run cannot start."""
    client = connect(await serve(max_attempts=1))
    await client.start(flow(step("blocked", "controlled")), run_id="first")
    await controlled.wait_started("blocked")
    await client.start(flow(step("late")), run_id="second")
    await client.cancel("second")
    events = await client.events("second")
    assert states(events) == {"late": "skipped"}
    assert finished(events)["late"].skip_reason.cause == run_pb2.SKIP_CAUSE_CANCELLED
    assert kinds_of(events) == ["run_started", "run_stopping", "step_finished", "run_finished"]
    controlled.release("blocked")
    assert states(await client.events("first")) == {"blocked": "succeeded"}
    assert controlled.invoked == ["blocked"]


async def test_cancelling_interrupts_running_steps_and_keeps_finished_ones(
    client: RawClient, controlled: ControlledActions
) -> None:
    steps = [step("done"), step("blocked", "controlled", after=["done"]), step("next", after=["blocked"])]
    await client.start(flow(*steps), run_id="live")
    await controlled.wait_started("blocked")
    await client.cancel("live", "changed my mind")
    events = await client.events("live")
    assert states(events) == {"done": "succeeded", "blocked": "cancelled", "next": "skipped"}
    assert controlled.cancelled == ["blocked"]
    blocked = finished(events)["blocked"]
    assert (reason_of(blocked.failure), blocked.failure.message) == ("cancelled", "cancelled: changed my mind")
    result = end_of(events)
    assert state_of(result.state) == "cancelled"
    assert [failure.message for failure in result.failures] == ["cancelled: changed my mind"]


async def test_cancelling_after_the_end_changes_nothing(client: RawClient) -> None:
    events = await client.run(flow(step("a")), run_id="past")
    run = await client.cancel("past", "too late")
    assert state_of(run.state) == "succeeded"
    assert await client.events("past") == events


async def test_cancelling_returns_at_once_with_a_run_that_is_stopping(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve())
    await client.start(flow(step("blocked", "stubborn")), run_id="live")
    await controlled.wait_started("blocked")
    run = await client.cancel("live")
    assert (state_of(run.state), run.stopping) == ("running", True)
    controlled.release("blocked")
    assert state_of(end_of(await client.events("live")).state) == "cancelled"


async def test_a_second_cancel_changes_nothing(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("blocked", "stubborn")), run_id="live")
    await controlled.wait_started("blocked")
    await client.cancel("live", "first")
    await client.cancel("live", "second")
    controlled.release("blocked")
    events = await client.events("live")
    assert kinds_of(events).count("run_stopping") == 1
    assert end_of(events).failures[0].message == "cancelled: first"


async def test_cancelling_an_unknown_run_is_not_found(client: RawClient) -> None:
    refused = await refusal(client.cancel("nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_reason_that_is_too_long_is_refused(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("blocked", "controlled")), run_id="live")
    refused = await refusal(client.cancel("live", "x" * 1_025))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reason"])


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_cancelling_frees_places(serve: Serve, connect: Connect, controlled: ControlledActions) -> None:
    server = await serve(max_attempts=2)
    client = connect(server)
    await client.start(flow(*(step(f"s{i}", "controlled") for i in range(10))), run_id="live")
    await controlled.wait_started("s0", "s1")
    assert server.engine.attempts_in_flight == 2
    await client.cancel("live")
    assert end_of(await client.events("live")).counts.skipped == 8
    assert server.engine.attempts_in_flight == 0
    assert states(await client.run(flow(step("a"), step("b"), step("c")))) == dict.fromkeys("abc", "succeeded")


async def test_a_run_that_takes_too_long_fails_and_its_steps_are_cancelled(
    client: RawClient, controlled: ControlledActions
) -> None:
    late = flow(
        step("done"), step("blocked", "controlled", after=["done"]), step("next", after=["blocked"]), timeout=0.1
    )
    events = await client.run(late)
    assert states(events) == {"done": "succeeded", "blocked": "cancelled", "next": "skipped"}
    assert finished(events)["next"].skip_reason.cause == run_pb2.SKIP_CAUSE_TIMEOUT
    result = end_of(events)
    assert state_of(result.state) == "failed"
    assert reason_of(result.failures[0]) == "timeout"
    assert result.failures[0].message == "the run took longer than its timeout of 0.1 s"


@pytest.mark.one_server("a run on Temporal may take longer than its timeout of 50 ms")
async def test_a_run_that_ends_in_time_leaves_no_timer(client: RawClient) -> None:
    """A timer that fired later would concern a run that has ended."""
    for _ in range(3):
        events = await client.run(flow(step("a"), timeout=0.05))
        assert state_of(end_of(events).state) == "succeeded"


@pytest.mark.parametrize("policy", [workflow_pb2.FAILURE_POLICY_FAIL_FAST, workflow_pb2.FAILURE_POLICY_CONTINUE])
async def test_cancelling_ends_a_run_under_every_policy(
    client: RawClient, controlled: ControlledActions, policy: workflow_pb2.FailurePolicy.ValueType
) -> None:
    chain = flow(step("blocked", "controlled"), step("next", after=["blocked"]), failure_policy=policy)
    await client.start(chain, run_id="live")
    await controlled.wait_started("blocked")
    await client.cancel("live")
    assert states(await client.events("live")) == {"blocked": "cancelled", "next": "skipped"}


async def test_a_cancelled_run_is_cancelled_although_it_has_clean_up_steps(
    client: RawClient, controlled: ControlledActions
) -> None:
    tidy = step("tidy", after=["blocked"], join=workflow_pb2.JOIN_ALL_DONE)
    await client.start(flow(step("blocked", "controlled"), tidy), run_id="live")
    await controlled.wait_started("blocked")
    await client.cancel("live")
    assert states(await client.events("live")) == {"blocked": "cancelled", "tidy": "skipped"}


async def test_a_cancel_request_is_refused_once_the_server_closes(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled")), run_id="run")
    await controlled.wait_started("a")
    await server.engine.close()
    assert (await refusal(client.cancel("run"))).code == grpc.StatusCode.UNAVAILABLE
