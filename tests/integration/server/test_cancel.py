"""Cancelling runs, and their timeouts."""

import grpc
import pytest

from integration.server.build import end_of, finished, flow, kinds_of, reason_of, state_of, states, step
from integration.server.caller import Caller, refusal
from integration.server.serving import Call, Serve
from integration.server.stage import Stage
from stepwave.v1 import run_pb2, workflow_pb2


async def test_cancelling_before_a_step_has_begun_skips_it(serve: Serve, call: Call, stage: Stage) -> None:
    """The only place is taken, so the second run cannot begin."""
    caller = call(await serve(max_attempts=1))
    await caller.start(flow(step("held", "gated")), run_id="first")
    await stage.here("held")
    await caller.start(flow(step("late")), run_id="second")
    await caller.cancel("second")
    events = await caller.events("second")
    assert states(events) == {"late": "skipped"}
    assert finished(events)["late"].skip_reason.cause == run_pb2.SKIP_CAUSE_CANCELLED
    assert kinds_of(events) == ["run_started", "run_stopping", "step_finished", "run_finished"]
    stage.let("held")
    assert states(await caller.events("first")) == {"held": "succeeded"}
    assert stage.invoked == ["held"]


async def test_cancelling_interrupts_what_runs_and_keeps_what_has_finished(caller: Caller, stage: Stage) -> None:
    steps = [step("done"), step("held", "gated", after=["done"]), step("next", after=["held"])]
    await caller.start(flow(*steps), run_id="live")
    await stage.here("held")
    await caller.cancel("live", "changed my mind")
    events = await caller.events("live")
    assert states(events) == {"done": "succeeded", "held": "cancelled", "next": "skipped"}
    assert stage.cancelled == ["held"]
    held = finished(events)["held"]
    assert (reason_of(held.failure), held.failure.message) == ("cancelled", "cancelled: changed my mind")
    result = end_of(events)
    assert state_of(result.state) == "cancelled"
    assert [failure.message for failure in result.failures] == ["cancelled: changed my mind"]


async def test_cancelling_after_the_end_changes_nothing(caller: Caller) -> None:
    events = await caller.run(flow(step("a")), run_id="past")
    run = await caller.cancel("past", "too late")
    assert state_of(run.state) == "succeeded"
    assert await caller.events("past") == events


async def test_cancelling_returns_at_once_with_a_run_that_is_stopping(serve: Serve, call: Call, stage: Stage) -> None:
    caller = call(await serve())
    await caller.start(flow(step("held", "stubborn")), run_id="live")
    await stage.here("held")
    run = await caller.cancel("live")
    assert (state_of(run.state), run.stopping) == ("running", True)
    stage.let("held")
    assert state_of(end_of(await caller.events("live")).state) == "cancelled"


async def test_cancelling_twice_is_cancelling_once(caller: Caller, stage: Stage) -> None:
    await caller.start(flow(step("held", "stubborn")), run_id="live")
    await stage.here("held")
    await caller.cancel("live", "first")
    await caller.cancel("live", "second")
    stage.let("held")
    events = await caller.events("live")
    assert kinds_of(events).count("run_stopping") == 1
    assert end_of(events).failures[0].message == "cancelled: first"


async def test_cancelling_what_never_was_is_not_found(caller: Caller) -> None:
    refused = await refusal(caller.cancel("nowhere"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_reason_that_is_too_long_is_refused(caller: Caller, stage: Stage) -> None:
    await caller.start(flow(step("held", "gated")), run_id="live")
    refused = await refusal(caller.cancel("live", "x" * 1_025))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["reason"])


async def test_cancelling_gives_places_back(serve: Serve, call: Call, stage: Stage) -> None:
    server = await serve(max_attempts=2)
    caller = call(server)
    await caller.start(flow(*(step(f"s{i}", "gated") for i in range(10))), run_id="live")
    await stage.here("s0", "s1")
    assert server.engine.attempts_in_flight == 2
    await caller.cancel("live")
    assert end_of(await caller.events("live")).counts.skipped == 8
    assert server.engine.attempts_in_flight == 0
    assert states(await caller.run(flow(step("a"), step("b"), step("c")))) == dict.fromkeys("abc", "succeeded")


async def test_a_run_that_takes_too_long_fails_and_its_steps_are_cancelled(caller: Caller, stage: Stage) -> None:
    late = flow(step("done"), step("held", "gated", after=["done"]), step("next", after=["held"]), timeout=0.1)
    events = await caller.run(late)
    assert states(events) == {"done": "succeeded", "held": "cancelled", "next": "skipped"}
    assert finished(events)["next"].skip_reason.cause == run_pb2.SKIP_CAUSE_TIMEOUT
    result = end_of(events)
    assert state_of(result.state) == "failed"
    assert reason_of(result.failures[0]) == "timeout"
    assert result.failures[0].message == "the run took longer than its timeout of 0.1 s"


async def test_a_run_that_ends_in_time_leaves_no_timer(caller: Caller) -> None:
    """One that fired late would be told to a run that is gone."""
    for _ in range(3):
        events = await caller.run(flow(step("a"), timeout=0.05))
        assert state_of(end_of(events).state) == "succeeded"


@pytest.mark.parametrize("policy", [workflow_pb2.FAILURE_POLICY_FAIL_FAST, workflow_pb2.FAILURE_POLICY_CONTINUE])
async def test_cancelling_ends_a_run_under_every_policy(
    caller: Caller, stage: Stage, policy: workflow_pb2.FailurePolicy.ValueType
) -> None:
    chain = flow(step("held", "gated"), step("next", after=["held"]), failure_policy=policy)
    await caller.start(chain, run_id="live")
    await stage.here("held")
    await caller.cancel("live")
    assert states(await caller.events("live")) == {"held": "cancelled", "next": "skipped"}


async def test_cancelling_counts_although_clean_up_steps_exist(caller: Caller, stage: Stage) -> None:
    tidy = step("tidy", after=["held"], join=workflow_pb2.JOIN_ALL_DONE)
    await caller.start(flow(step("held", "gated"), tidy), run_id="live")
    await stage.here("held")
    await caller.cancel("live")
    assert states(await caller.events("live")) == {"held": "cancelled", "tidy": "skipped"}
