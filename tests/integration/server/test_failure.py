"""The effect of a failure on the rest of its run."""

import pytest

from integration.server.build import bind, end_of, finished, flow, reason_of, state_of, states, step, text, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient
from stepwave.v1 import run_pb2, workflow_pb2

CONTINUE = workflow_pb2.FAILURE_POLICY_CONTINUE


async def test_fail_fast_cancels_siblings_and_keeps_finished_results(
    client: RawClient, controlled: ControlledActions
) -> None:
    steps = [
        step("done", "controlled"),
        step("bad", "fails"),
        step("blocked", "controlled"),
        step("next", after=["blocked"]),
    ]
    async with client.execute(flow(*steps)) as run:
        await controlled.wait_started("done", "bad", "blocked")
        controlled.release("done")
        await run.until("step_finished", "done")
        controlled.release("bad")
        events = await run.rest()
    assert states(events) == {"done": "succeeded", "bad": "failed", "blocked": "cancelled", "next": "skipped"}
    assert controlled.cancelled == ["blocked"]
    assert value_of(finished(events)["done"].output) == "done"
    assert value_of(end_of(events).outputs["done"]) == "done"


async def test_fail_fast_names_the_step_that_failed(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release("bad")
    results = finished(
        await client.run(flow(step("bad", "fails"), step("blocked", "controlled"), step("next", after=["blocked"])))
    )
    assert results["blocked"].failure.message == 'step "bad" failed'
    assert reason_of(results["blocked"].failure) == "cancelled"
    blamed = results["next"].skip_reason
    assert (blamed.cause, blamed.step_id) == (run_pb2.SKIP_CAUSE_FAIL_FAST, "bad")


async def test_fail_fast_starts_no_more_steps(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release("bad")
    await client.run(flow(step("bad", "fails"), step("a", after=["bad"]), step("b", after=["a"]), max_parallelism=1))
    assert controlled.invoked == ["bad"]


async def test_clean_up_still_runs_after_a_failure(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release("bad")
    tidy = step("tidy", after=["bad"], join=workflow_pb2.JOIN_ALL_DONE)
    events = await client.run(flow(step("bad", "fails"), step("next", after=["bad"]), tidy))
    assert states(events) == {"bad": "failed", "next": "skipped", "tidy": "succeeded"}


async def test_continue_skips_only_steps_whose_join_cannot_be_met_and_names_the_culprit(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release("bad")
    steps = [
        step("bad", "fails"),
        step("good", "controlled"),
        step("hit", after=["bad", "good"]),
        step("far", after=["hit"]),
        step("free", after=["good"]),
    ]
    async with client.execute(flow(*steps, failure_policy=CONTINUE)) as run:
        await run.until("step_finished", "bad")
        controlled.release("good")
        events = await run.rest()
    expected = {"bad": "failed", "good": "succeeded", "hit": "skipped", "free": "succeeded", "far": "skipped"}
    assert states(events) == expected
    for skipped in ("hit", "far"):
        blamed = finished(events)[skipped].skip_reason
        assert (blamed.cause, blamed.step_id) == (run_pb2.SKIP_CAUSE_DEPENDENCY, "bad")


async def test_continue_reports_every_failure(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    bad = [step(f"b{i}", "fails", given={"message": f"no {i}"}) for i in range(3)]
    result = end_of(await client.run(flow(*bad, step("good"), failure_policy=CONTINUE)))
    assert state_of(result.state) == "failed"
    assert sorted(failure.message for failure in result.failures) == [f"ValueError: no {i}" for i in range(3)]
    assert (result.failure_count, result.counts.failed, result.counts.succeeded) == (3, 3, 1)


async def test_more_failures_than_a_result_holds_are_counted(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    bad = [step(f"b{i}", "fails") for i in range(120)]
    result = end_of(await client.run(flow(*bad, failure_policy=CONTINUE)))
    assert (len(result.failures), result.failure_count) == (100, 120)


async def test_an_allowed_failure_fails_neither_run_nor_dependents(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    tolerant = flow(step("bad", "fails", allow_failure=True), step("next", "core.echo", after=["bad"]))
    events = await client.run(tolerant)
    assert states(events) == {"bad": "failed", "next": "succeeded"}
    assert value_of(finished(events)["next"].output) == {"bad": None}
    assert state_of(end_of(events).state) == "succeeded"


async def test_a_failure_says_where_in_the_actions_code_it_was_raised(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    details = finished(await client.run(flow(step("bad", "fails"))))["bad"].failure.details
    assert details["exception"] == "ValueError"
    assert details["file"].endswith("controlled_actions.py")
    assert details["function"].endswith("fails")
    assert int(details["line"]) > 0
    assert "raise ValueError(message)" in details["traceback"]
    assert "stepwave_server" not in details["traceback"]


async def test_a_failed_runs_result_is_ok_to_get(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    events = await client.run(flow(step("bad", "fails")), run_id="past")
    assert await client.result("past") == end_of(events)


@pytest.mark.parametrize("reason", ["rate_limited", "unavailable", "not_found", "internal"])
async def test_core_fail_fails_with_a_reason(client: RawClient, reason: str) -> None:
    given = {"message": "out", "reason": reason, "retryable": True}
    failure = finished(await client.run(flow(step("bad", "core.fail", given=given))))["bad"].failure
    assert (reason_of(failure), failure.message, failure.retryable, failure.attempt) == (reason, "out", True, 1)


async def test_an_input_that_does_not_fit_fails_the_step_with_all_problems(client: RawClient) -> None:
    bad = step("bad", "core.sleep", given={"seconds": 0}, bindings=[bind("/seconds", "input"), bind("/when", "input")])
    failure = finished(await client.run(flow(bad), given=-1))["bad"].failure
    assert reason_of(failure) == "invalid_input"
    assert failure.message == (
        "seconds: input should be greater than or equal to 0; "
        'the action does not know the key "when"; it takes seconds, value'
    )


async def test_a_binding_without_a_value_fails_the_step_without_an_attempt(client: RawClient) -> None:
    lost = step("b", "core.echo", bindings=[bind("/x", "a", "/nowhere")])
    result = finished(await client.run(flow(step("a", "core.echo", given={}), lost)))["b"]
    assert (reason_of(result.failure), result.attempts) == ("invalid_input", 0)
    assert '"/nowhere"' in result.failure.message


async def test_a_binding_without_a_value_takes_its_default(client: RawClient) -> None:
    lost = step("b", "core.echo", bindings=[bind("/x", "a", "/nowhere", default=[1])])
    events = await client.run(flow(step("a", "core.echo", given={}), lost))
    assert value_of(finished(events)["b"].output) == {"x": [1]}


async def test_numbers_over_2_to_the_53_survive_from_input_to_output(client: RawClient) -> None:
    part = step("part", "core.echo", bindings=[bind("/n", "input", "/n/0")])
    chain = flow(part, step("all", "core.echo", after=["part"]))
    events = await client.run(chain, given=text('{"n": [9007199254740993]}'))
    assert end_of(events).outputs["all"].json.replace(" ", "") == '{"part":{"n":9007199254740993}}'
