"""Conditions: steps that run or not by what came before, and conditions that cannot be evaluated."""

import pytest

from integration.server.build import bind, end_of, finished, flow, reason_of, state_of, states, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient
from stepwave.v1 import run_pb2, workflow_pb2

CONTINUE = workflow_pb2.FAILURE_POLICY_CONTINUE


@pytest.fixture(autouse=True)
async def released(controlled: ControlledActions) -> None:
    controlled.release_all()


async def test_one_of_two_branches_runs_and_the_other_is_skipped_with_its_dependents(
    client: RawClient, controlled: ControlledActions
) -> None:
    workflow = flow(
        step("a", "core.echo", given={"hits": 5}),
        step("many", after=["a"], when='deps["a"].output.hits > 3'),
        step("few", after=["a"], when='deps["a"].output.hits <= 3'),
        step("after", after=["few"]),
        step("end", after=["many", "few"], join=workflow_pb2.JOIN_ANY),
    )
    events = await client.run(workflow)
    assert states(events) == {
        "a": "succeeded",
        "few": "skipped",
        "after": "skipped",
        "many": "succeeded",
        "end": "succeeded",
    }
    assert sorted(controlled.invoked) == ["end", "many"]
    assert finished(events)["few"].skip_reason.cause == run_pb2.SKIP_CAUSE_CONDITION
    after = finished(events)["after"].skip_reason
    assert (after.cause, after.step_id) == (run_pb2.SKIP_CAUSE_DEPENDENCY, "few")
    assert state_of(end_of(events).state) == "succeeded"


@pytest.mark.parametrize(("city", "expected"), [("Oslo", "succeeded"), ("Rome", "skipped")])
async def test_a_condition_reads_the_input_of_the_run(client: RawClient, city: str, expected: str) -> None:
    events = await client.run(flow(step("a", when='input.city == "Oslo"')), given={"city": city})
    assert states(events) == {"a": expected}


async def test_a_condition_reads_what_became_of_a_dependency(client: RawClient) -> None:
    workflow = flow(
        step("a", "core.fail"),
        step("b", after=["a"], join=workflow_pb2.JOIN_ALL_DONE, when='deps["a"].state == "FAILED"'),
        step("c", after=["a"], join=workflow_pb2.JOIN_ALL_DONE, when='deps["a"].output != null'),
        failure_policy=CONTINUE,
    )
    assert states(await client.run(workflow)) == {"a": "failed", "b": "succeeded", "c": "skipped"}


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ('deps["a"].output.nowhere > 3', "nowhere"),
        ("1 / 0 == 1", "zero"),
        ('deps["a"].output', "bool"),
    ],
)
async def test_a_condition_without_a_truth_value_fails_the_step(
    client: RawClient, controlled: ControlledActions, when: str, words: str
) -> None:
    events = await client.run(flow(step("a", "core.echo", given={}), step("b", after=["a"], when=when)))
    failure = finished(events)["b"].failure
    assert (reason_of(failure), failure.cause) == ("invalid_input", run_pb2.FAILURE_CAUSE_INPUT)
    assert words in failure.message
    assert controlled.invoked == []


async def test_the_fallback_answers_for_a_condition_that_cannot_be_evaluated(client: RawClient) -> None:
    workflow = flow(
        step(
            "a",
            when="input.missing == 1",
            fallback=workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="core.echo")),
        )
    )
    assert value_of(end_of(await client.run(workflow, given={"x": 1})).outputs["a"]) == {"x": 1}


async def test_a_condition_is_evaluated_before_the_input_is_put_together(client: RawClient) -> None:
    workflow = flow(
        step("a", "core.echo", given={}),
        step("b", bindings=[bind("", "a", "/nowhere")], when='has(deps["a"].output.nowhere)'),
    )
    assert states(await client.run(workflow)) == {"a": "succeeded", "b": "skipped"}


async def test_an_expression_is_a_part_of_an_input(client: RawClient) -> None:
    expression = 'deps["a"].output.hits.map(hit, hit * 2)'
    workflow = flow(
        step("a", "core.echo", given={"hits": [1, 2]}),
        step(
            "b",
            "core.echo",
            given={},
            bindings=[workflow_pb2.Binding(target="/twice", expression=expression)],
            after=["a"],
        ),
    )
    assert value_of(end_of(await client.run(workflow)).outputs["b"]) == {"twice": [2, 4]}


async def test_a_skipped_step_has_no_start(client: RawClient) -> None:
    events = await client.run(flow(step("a", when="false")))
    assert not any(event.HasField("step_started") for event in events)
    assert finished(events)["a"].attempts == 0
