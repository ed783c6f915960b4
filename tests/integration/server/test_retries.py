"""Retries of failed attempts, and failures that name the timeout."""

import pytest

from integration.server.build import (
    check_sequences,
    end_of,
    finished,
    flow,
    kinds_of,
    reason_of,
    retry,
    seconds,
    state_of,
    states,
    step,
    value_of,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2


async def test_a_failed_attempt_is_retried_with_the_same_key(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    events = await client.run(flow(step("a", "fails_first", given={"times": 2}, retry=retry(3))), run_id="mine")
    assert value_of(finished(events)["a"].output) == {"attempt": 3, "key": "default/mine/a"}
    assert finished(events)["a"].attempts == 3
    retries = [event.step_retrying for event in events if event.HasField("step_retrying")]
    assert [(retrying.attempt, retrying.failure.message) for retrying in retries] == [
        (1, "ConnectionError: attempt 1"),
        (2, "ConnectionError: attempt 2"),
    ]


async def test_backoffs_are_waited_for_and_reported(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    events = await client.run(flow(step("a", "fails_first", retry=retry(2, 0.05, jitter=0))))
    assert kinds_of(events)[2:6] == ["step_started", "step_retrying", "step_ready", "step_started"]
    retrying, ready, start = events[3], events[4], events[5]
    assert retrying.step_retrying.next_time.ToNanoseconds() - retrying.time.ToNanoseconds() == 50_000_000
    assert start.time.ToNanoseconds() > retrying.time.ToNanoseconds() + 40_000_000
    assert (ready.step_ready.attempt, start.step_started.attempt) == (2, 2)
    check_sequences(events)


async def test_steps_without_a_policy_use_that_of_the_workflow(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    patient = flow(step("a", "fails_first"), step("b", "fails_first", retry=retry(1)))
    patient.retry.CopyFrom(retry(2))
    patient.failure_policy = workflow_pb2.FAILURE_POLICY_CONTINUE
    assert states(await client.run(patient)) == {"a": "succeeded", "b": "failed"}


async def test_a_permanent_failure_is_not_retried(client: RawClient) -> None:
    events = await client.run(flow(step("a", "core.fail", given={"retryable": False}, retry=retry(9))))
    assert finished(events)["a"].attempts == 1


async def test_an_action_can_set_the_time_of_the_next_attempt(client: RawClient) -> None:
    given = {"reason": "rate_limited", "retryable": True, "retry_after": 0.05}
    events = await client.run(flow(step("a", "core.fail", given=given, retry=retry(2))))
    (retrying,) = (event for event in events if event.HasField("step_retrying"))
    assert retrying.step_retrying.next_time.ToNanoseconds() - retrying.time.ToNanoseconds() == 50_000_000
    assert finished(events)["a"].failure.retry_after == seconds(0.05)


async def test_a_cancel_ends_a_long_backoff_at_once(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    async with client.execute(flow(step("a", "fails_first", retry=retry(2, 30))), run_id="mine") as run:
        await run.until("step_retrying")
        await client.cancel("mine", "enough")
        events = await run.rest()
    assert states(events) == {"a": "cancelled"}
    assert state_of(end_of(events).state) == "cancelled"


async def test_a_step_in_a_backoff_frees_its_place(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release("a")
    patient = flow(step("a", "fails_first", retry=retry(2, 30)), step("b", "controlled"), max_parallelism=1)
    async with client.execute(patient, run_id="mine") as run:
        await controlled.wait_started("b")
        await client.cancel("mine")
        assert states(await run.rest()) == {"a": "cancelled", "b": "cancelled"}


async def test_an_attempt_that_timed_out_is_retried(client: RawClient, controlled: ControlledActions) -> None:
    waiting = step("a", "controlled", timeout=0.05, retry=retry(2))
    async with client.execute(flow(waiting)) as run:
        retrying = (await run.until("step_retrying")).step_retrying
        assert retrying.failure.message == "the attempt took longer than the step's timeout of 0.05 s"
        controlled.release("a")
        assert states(await run.rest()) == {"a": "succeeded"}


async def test_a_total_timeout_ends_all_attempts(client: RawClient, controlled: ControlledActions) -> None:
    events = await client.run(flow(step("a", "controlled", total_timeout=0.1, retry=retry(1_000))))
    failure = finished(events)["a"].failure
    assert (reason_of(failure), failure.retryable) == ("timeout", False)
    assert failure.message == "the step took longer than its total timeout of 0.1 s"


async def test_a_total_timeout_counts_waiting_for_a_place(client: RawClient, controlled: ControlledActions) -> None:
    steps = (step("a", "controlled"), step("b", "noop", total_timeout=0.05))
    async with client.execute(flow(*steps, max_parallelism=1)) as run:
        assert (await run.until("step_finished", "b")).step_finished.result.attempts == 0
    assert controlled.invoked == ["a"]


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.one_server("places of the server")
async def test_a_step_past_its_total_timeout_leaves_admission(
    client: RawClient, controlled: ControlledActions, released: bool
) -> None:
    """Not released, running steps use all places of the server. Released, none waits for long."""
    if released:
        controlled.release_all()
    wide = [step(f"s{number}", "controlled", total_timeout=0.2) for number in range(1_500)]
    wide_flow = flow(*wide, failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE)
    counts = end_of(await client.run(wide_flow)).counts
    assert counts.succeeded + counts.failed == 1_500
    assert (await client.run(flow(step("a", "core.echo"))))[-1].HasField("run_finished")


async def test_all_problems_of_a_retry_policy_are_named(client: RawClient) -> None:
    policy = workflow_pb2.Retry(max_attempts=5_000, backoff_multiplier=0.5, max_backoff=seconds(0.1), jitter=2)
    request = pb.StartRunRequest(workflow=flow(step("a", retry=policy)))
    refused = await refusal(client.stub.StartRun(request))
    fields = ["max_attempts", "backoff_multiplier", "max_backoff", "jitter"]
    assert refused.fields == [f"workflow.steps[0].retry.{name}" for name in fields]
