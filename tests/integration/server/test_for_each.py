"""Lists: a step runs once for every item, as children of its own."""

import pytest

from integration.server.build import (
    bind,
    check_sequences,
    end_of,
    finished,
    flow,
    items,
    items_of,
    payload,
    reason_of,
    retry,
    state_of,
    states,
    step,
    value_of,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient, refusal, workflow_refusal
from stepwave.v1 import event_pb2, run_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

CONTINUE = workflow_pb2.FAILURE_POLICY_CONTINUE


async def test_a_step_runs_once_for_every_item_of_an_output(client: RawClient) -> None:
    workflow = flow(
        step("search", "core.echo", given={"urls": ["x", "y", "z"]}),
        step("pages", "core.echo", over=items_of("search", "/urls")),
        step("end", "core.echo", after=["pages"]),
    )
    events = await client.run(workflow)
    check_sequences(events)
    assert value_of(end_of(events).outputs["end"]) == {"pages": ["x", "y", "z"]}
    assert [event.step_expanded.item_count for event in events if event.HasField("step_expanded")] == [3]
    assert finished(events).keys() == {"search", "pages[0]", "pages[1]", "pages[2]", "pages", "end"}
    assert finished(events)["pages[1]"].wave == finished(events)["pages"].wave == 1


@pytest.mark.parametrize(
    "over",
    [
        items(1, 2),
        items_of("input", "/numbers"),
        workflow_pb2.ForEach(expression="input.numbers.filter(number, number < 3)"),
    ],
    ids=["literal", "input", "expression"],
)
async def test_the_list_comes_from_anywhere(client: RawClient, over: workflow_pb2.ForEach) -> None:
    events = await client.run(flow(step("a", "core.echo", over=over)), given={"numbers": [1, 2]})
    assert value_of(end_of(events).outputs["a"]) == [1, 2]


async def test_children_get_parts_of_their_items_by_bindings_and_expressions(client: RawClient) -> None:
    bindings = [
        workflow_pb2.Binding(target="/name", item="/name"),
        workflow_pb2.Binding(target="/twice", expression="item.size * 2"),
        bind("/unit", "other"),
        workflow_pb2.Binding(target="/colour", item="/colour", default=payload("white")),
    ]
    workflow = flow(
        step("other", "core.echo", given="cm"),
        step(
            "a",
            "core.echo",
            given={},
            bindings=bindings,
            over=items({"name": "x", "size": 2}, {"name": "y", "size": 3}),
        ),
    )
    assert value_of(end_of(await client.run(workflow)).outputs["a"]) == [
        {"name": "x", "twice": 4, "unit": "cm", "colour": "white"},
        {"name": "y", "twice": 6, "unit": "cm", "colour": "white"},
    ]


async def test_an_empty_list_gives_an_empty_list(client: RawClient) -> None:
    events = await client.run(flow(step("a", over=items()), step("end", "core.echo", after=["a"])))
    assert value_of(end_of(events).outputs["end"]) == {"a": []}


async def test_at_most_so_many_children_run_at_once(client: RawClient, controlled: ControlledActions) -> None:
    over = items({}, {}, {}, at_once=2)
    async with client.execute(flow(step("a", "controlled", over=over)), run_id="run") as stream:
        await controlled.wait_started("a[0]", "a[1]")
        (group,) = (await client.stub.GetRun(pb.GetRunRequest(run_id="run"))).waiting
        assert (group.cause, list(group.step_ids)) == (event_pb2.WAIT_CAUSE_CONCURRENCY, ["a[2]"])
        explained = {
            step.step_id: step for step in (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="run"))).steps
        }
        assert explained["a"].message == "0 of its 3 items have ended"
        assert explained["a[2]"].cause == event_pb2.WAIT_CAUSE_CONCURRENCY
        controlled.release("a[1]")
        await controlled.wait_started("a[2]")
        controlled.release_all()
        assert value_of(end_of(await stream.rest()).outputs["a"]) == ["a[0]", "a[1]", "a[2]"]


async def test_the_results_of_children_are_listed_behind_those_of_the_steps_in_order(client: RawClient) -> None:
    await client.run(flow(step("a", "core.echo", over=items(1, 2)), step("b", "core.echo")), run_id="run")
    listed = (await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="run"))).step_results
    assert [result.step_id for result in listed] == ["a", "b", "a[0]", "a[1]"]


@pytest.mark.parametrize(
    ("value", "words"), [({"x": 1}, "must be a list"), ("text", "must be a list"), (None, "must be a list")]
)
async def test_what_is_no_list_fails_the_step(client: RawClient, value: object, words: str) -> None:
    events = await client.run(flow(step("a", over=items_of("input"))), given=value)
    failure = finished(events)["a"].failure
    assert (reason_of(failure), failure.cause) == ("invalid_input", run_pb2.FAILURE_CAUSE_INPUT)
    assert words in failure.message


@pytest.mark.one_server("it has more steps or larger outputs than Temporal takes in time")
async def test_a_list_over_the_bound_fails_the_step(client: RawClient) -> None:
    events = await client.run(flow(step("a", over=items_of("input"))), given=[0] * 100_001)
    failure = finished(events)["a"].failure
    assert failure.cause == run_pb2.FAILURE_CAUSE_INPUT
    assert "100,000" in failure.message
    assert list(finished(events)) == ["a"]


@pytest.mark.one_server("it has more steps or larger outputs than Temporal takes in time")
async def test_ten_thousand_items_run(client: RawClient) -> None:
    workflow = flow(step("a", "core.echo", over=items_of("input", at_once=100)), step("end", "noop", after=["a"]))
    events = await client.run(workflow, given=list(range(10_000)))
    check_sequences(events)
    assert value_of(finished(events)["a"].output) == list(range(10_000))
    assert end_of(events).state == run_pb2.STATE_SUCCEEDED


async def test_the_first_failure_ends_the_other_children_under_fail_fast(
    client: RawClient, controlled: ControlledActions
) -> None:
    workflow = flow(step("a", "controlled", over=items({}, "no object", {}, at_once=2)), step("end", after=["a"]))
    events = await client.run(workflow)
    assert states(events) == {
        "a[0]": "cancelled",
        "a[1]": "failed",
        "a[2]": "skipped",
        "a": "failed",
        "end": "skipped",
    }
    failure = finished(events)["a"].failure
    assert (reason_of(failure), failure.cause) == ("invalid_input", run_pb2.FAILURE_CAUSE_NESTED_STEP_FAILED)
    assert failure.message.startswith('step "a[1]" failed: ')


async def test_all_children_run_under_continue(client: RawClient) -> None:
    workflow = flow(step("a", "core.fail", over=items({"message": "x"}, {"message": "y"})), failure_policy=CONTINUE)
    events = await client.run(workflow)
    assert states(events) == {"a[0]": "failed", "a[1]": "failed", "a": "failed"}
    assert "2 of 2 items failed" in finished(events)["a"].failure.message


async def test_an_allowed_failure_leaves_null(client: RawClient, controlled: ControlledActions) -> None:
    controlled.release_all()
    over = items({"value": 1}, "no object", {"value": 3})
    events = await client.run(flow(step("a", "controlled", over=over, allow_failure=True)))
    assert value_of(end_of(events).outputs["a"]) == [1, None, 3]
    assert state_of(end_of(events).state) == "succeeded"


async def test_children_are_tried_again_by_the_policy_of_the_step(
    client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    events = await client.run(flow(step("a", "fails_first", over=items({}, {}), retry=retry(2))))
    output = value_of(end_of(events).outputs["a"])
    assert isinstance(output, list)
    assert [child["attempt"] for child in output] == [2, 2]
    assert len({child["key"] for child in output}) == 2


async def test_a_cancelled_run_ends_its_children(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("a", "controlled", over=items({}, {}, at_once=1))), run_id="run")
    await controlled.wait_started("a[0]")
    await client.cancel("run", "enough")
    assert states(await client.events("run")) == {"a[1]": "skipped", "a[0]": "cancelled", "a": "cancelled"}
    assert controlled.cancelled == ["a[0]"]


async def test_the_timeout_of_the_step_bounds_each_child_and_the_total_one_bounds_all(
    client: RawClient, controlled: ControlledActions
) -> None:
    workflow = flow(
        step("each", "controlled", over=items({}), timeout=0.02),
        step("all", "controlled", over=items({}, {}, at_once=1), total_timeout=0.02),
        failure_policy=CONTINUE,
    )
    events = await client.run(workflow)
    results = finished(events)
    assert results["each[0]"].failure.cause == run_pb2.FAILURE_CAUSE_ATTEMPT_TIMEOUT
    assert results["all"].failure.cause == run_pb2.FAILURE_CAUSE_TOTAL_TIMEOUT
    assert results["all[1]"].skip_reason.cause == run_pb2.SKIP_CAUSE_TIMEOUT


async def test_each_item_goes_through_a_workflow_without_waiting_for_the_others(
    client: RawClient, controlled: ControlledActions
) -> None:
    body = flow(step("fetch", "controlled", given={}), step("parse", "controlled", given={}, after=["fetch"]))
    await client.start(flow(step("pages", over=items("x", "y"), body=body)), run_id="run")
    await controlled.wait_started("pages[0]/fetch", "pages[1]/fetch")
    controlled.release("pages[1]/fetch")
    await controlled.wait_started("pages[1]/parse")
    controlled.release_all()
    events = await client.events("run")
    assert value_of(end_of(events).outputs["pages"]) == [
        {"parse": "pages[0]/parse"},
        {"parse": "pages[1]/parse"},
    ]


async def test_the_item_is_known_in_the_workflow_of_a_list(client: RawClient) -> None:
    body = flow(
        step("a", "core.echo", given={}, bindings=[workflow_pb2.Binding(target="/it", item="/n")]),
        step("b", "core.echo", after=["a"], when="item.n > 1"),
        step("c", "core.echo", bindings=[workflow_pb2.Binding(target="", expression="[item.n, input.n]")]),
    )
    events = await client.run(flow(step("list", over=items({"n": 1}, {"n": 2}), body=body)))
    assert value_of(end_of(events).outputs["list"]) == [
        {"c": [1, 1]},
        {"b": {"a": {"it": 2}}, "c": [2, 2]},
    ]


async def test_a_fallback_that_waits_or_runs_a_workflow_is_refused(client: RawClient) -> None:
    for action in ("core.wait", "core.workflow"):
        fallback = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action=action))
        refused = await workflow_refusal(client, flow(step("a", fallback=fallback)))
        assert refused.violations == [
            (
                "workflow.steps[0].fallback.action.action",
                f'"{action}" cannot be a fallback: only a step can have this action',
            )
        ]


async def test_a_child_cannot_be_completed_unless_it_waits(client: RawClient, controlled: ControlledActions) -> None:
    workflow = flow(step("a", "controlled", over=items({})), step("ok", "core.wait", over=items("x", "y")))
    await client.start(workflow, run_id="run")
    await controlled.wait_started("a[0]")
    refused = await refusal(
        client.stub.CompleteStep(pb.CompleteStepRequest(run_id="run", step_id="a[0]", output=payload(1)))
    )
    assert refused.reason == "STEP_NOT_WAITING"
    for item in range(2):
        await client.stub.CompleteStep(
            pb.CompleteStepRequest(run_id="run", step_id=f"ok[{item}]", output=payload(item))
        )
    controlled.release_all()
    assert value_of(end_of(await client.events("run")).outputs["ok"]) == [0, 1]


@pytest.mark.parametrize("body", [None, flow(step("deep", "core.echo"))], ids=["action", "workflow"])
async def test_an_expression_of_a_child_uses_what_the_step_with_the_list_depends_on(
    client: RawClient, body: workflow_pb2.Workflow | None
) -> None:
    pages = workflow_pb2.Step(
        id="pages",
        action="" if body else "core.echo",
        depends_on=["factor"],
        workflow=body,
        for_each=workflow_pb2.ForEach(step=workflow_pb2.StepOutput(id="list")),
        bindings=[workflow_pb2.Binding(expression='item * deps["factor"].output + size(deps["list"].output)')],
    )
    workflow = flow(step("factor", "core.echo", given=10), step("list", "core.echo", given=[1, 2]), pages)
    output = value_of(finished(await client.run(workflow))["pages"].output)
    assert output == ([{"deep": 12}, {"deep": 22}] if body else [12, 22])
