"""Fallbacks of steps that have finally failed."""

import pytest

from integration.server.build import (
    bind,
    end_of,
    fallback_to,
    finished,
    flow,
    payload,
    reason_of,
    retry,
    state_of,
    states,
    step,
    value_of,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2

KEPT = workflow_pb2.Fallback(value=payload(["kept"]))


async def test_a_fixed_value_answers_and_the_failure_is_kept(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    events = await client.run(flow(step("a", "fails", fallback=KEPT), step("b", "core.echo", after=["a"])))
    result = finished(events)["a"]
    assert (state_of(result.state), value_of(result.output), result.HasField("failure")) == (
        "succeeded",
        ["kept"],
        False,
    )
    assert result.original_failure.message == "ValueError: no luck"
    assert value_of(end_of(events).outputs["b"]) == {"a": ["kept"]}
    assert end_of(events).failure_count == 0


async def test_another_action_answers_after_all_attempts_with_a_key_of_its_own(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    backed = step("a", "fails", retry=retry(2), fallback=fallback_to("fails_first", {"times": 0}))
    result = finished(await client.run(flow(backed), run_id="mine"))["a"]
    assert value_of(result.output) == {"attempt": 3, "key": "default/mine/a/fallback"}
    assert (result.action, result.attempts, result.original_failure.attempt) == ("fails", 3, 2)


async def test_a_fallback_gets_the_input_of_its_step_unless_it_has_its_own(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    bound = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="core.echo"))
    bound.action.bindings.append(bind("/from", "first", "/x"))
    steps = (
        step("first", "core.echo", given={"x": 7}),
        step("same", "fails", given={"message": "no"}, fallback=fallback_to("core.echo")),
        step("bound", "fails", given={"message": "no"}, fallback=bound),
    )
    outputs = end_of(await client.run(flow(*steps))).outputs
    assert value_of(outputs["same"]) == {"message": "no"}
    assert value_of(outputs["bound"]) == {"from": 7}


async def test_a_fallback_that_fails_fails_the_step(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    broken = step("a", "fails", fallback=fallback_to("core.fail", {"reason": "not_found"}))
    result = finished(await client.run(flow(broken)))["a"]
    assert (reason_of(result.failure), reason_of(result.original_failure)) == ("not_found", "action_error")


async def test_a_running_fallback_can_be_cancelled(client: RawClient, controlled: ControlledActions) -> None:
    async with client.execute(flow(step("a", "core.fail", fallback=fallback_to("controlled"))), run_id="mine") as run:
        await controlled.wait_started("a")
        await client.cancel("mine")
        events = await run.rest()
    assert states(events) == {"a": "cancelled"}
    assert controlled.cancelled == ["a"]


async def test_a_fallback_answers_for_a_step_that_was_not_admitted_in_time(
    client: RawClient, controlled: ControlledActions
) -> None:
    steps = (
        step("blocked", "controlled"),
        step("a", "controlled", total_timeout=0.05, fallback=fallback_to("core.echo", 1)),
    )
    async with client.execute(flow(*steps, max_parallelism=1)) as run:
        retrying = (await run.until("step_retrying", "a")).step_retrying
        assert (retrying.attempt, retrying.fallback) == (0, True)
        controlled.release("blocked")
        events = await run.rest()
    assert value_of(finished(events)["a"].output) == 1
    assert controlled.invoked == ["blocked"]


@pytest.mark.one_server("its max_attempts bounds all its runs")
async def test_a_fallback_takes_the_place_that_admission_gives_its_step(
    client: RawClient, controlled: ControlledActions
) -> None:
    wide = [step(f"s{n}", "controlled", total_timeout=0.2, fallback=fallback_to("core.echo", n)) for n in range(1_500)]
    counts = end_of(await client.run(flow(*wide))).counts
    assert counts.succeeded == 1_500
    assert (await client.run(flow(step("a", "core.echo"))))[-1].HasField("run_finished")


async def test_an_unknown_action_of_a_fallback_is_named(client: RawClient) -> None:
    request = pb.StartRunRequest(workflow=flow(step("a", fallback=fallback_to("core.ehco"))))
    refused = await refusal(client.stub.StartRun(request))
    assert refused.fields == ["workflow.steps[0].fallback.action.action"]
    assert 'did you mean "core.echo"?' in refused.description("workflow.steps[0].fallback.action.action")


async def test_the_state_of_a_step_says_that_its_fallback_runs(
    client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(flow(step("a", "core.fail", fallback=fallback_to("controlled"))), run_id="mine"):
        await controlled.wait_started("a")
        response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="mine"))
        (result,) = response.step_results
    assert result.original_failure.message == "failed on request"
