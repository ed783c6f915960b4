"""Plans of workflows with conditions, lists and nested workflows."""

from typing import Any

import pytest

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import (
    MAX_MESSAGE_CONTENT,
    Binding,
    ForEach,
    FromExpression,
    FromInput,
    FromItem,
    FromStep,
    Join,
    Retry,
    Step,
    Workflow,
)
from stepwave_server.wire.responses.plan_workflow import to_plan


def planned(*steps: Step, **options: Any) -> list[pb.PlannedStep]:
    return list(to_plan(Workflow(name="w", steps=steps, **options), 0, 100)[0].steps)


SEARCH = Step("search", "search")
PAGES = Step("pages", "fetch", for_each=ForEach(FromStep("search", "/urls"), 8))


def test_a_plan_has_the_join_and_the_condition_of_a_step() -> None:
    _, deep = planned(SEARCH, Step("deep", "x", ("search",), when="deps.search.output > 3", join=Join.ALL_DONE))
    assert (deep.when, deep.join) == ("deps.search.output > 3", workflow_pb2.JOIN_ALL_DONE)
    assert not deep.HasField("for_each")
    assert not deep.HasField("workflow")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (FromStep("search", "/urls"), workflow_pb2.ForEach(step=workflow_pb2.StepOutput(id="search", path="/urls"))),
        (FromInput(""), workflow_pb2.ForEach(input="")),
        (FromExpression("input.a"), workflow_pb2.ForEach(expression="input.a")),
        ("[1,2]", workflow_pb2.ForEach(items={"json": "[1,2]"})),  # type: ignore[arg-type]  # a message as a dict
    ],
)
def test_a_plan_has_the_list_of_a_step(source: Any, expected: workflow_pb2.ForEach) -> None:
    *_, pages = planned(SEARCH, Step("pages", "fetch", for_each=ForEach(source, 8)))
    expected.max_parallelism = 8
    assert pages.for_each == expected


def test_a_list_makes_its_step_a_dependency_and_the_next_wave() -> None:
    plan, _ = to_plan(Workflow(name="w", steps=(SEARCH, PAGES)), 0, 100)
    assert (plan.edge_count, list(plan.wave_sizes), list(plan.outputs)) == (1, [1, 1], ["pages"])
    assert (list(plan.steps[1].depends_on), plan.steps[1].wave) == (["search"], 1)


def test_a_child_gets_its_item_unless_it_has_an_input() -> None:
    own = Step("own", "x", bindings=(Binding("/url", FromItem("/url")),), for_each=ForEach("[1]"))
    assert [step.input_rule for step in planned(SEARCH, PAGES, own)] == [
        pb.INPUT_RULE_RUN,
        pb.INPUT_RULE_OWN,
        pb.INPUT_RULE_ITEM,
    ]


def test_items_and_expressions_are_bindings_of_the_plan() -> None:
    bindings = (Binding("/a", FromItem("/x")), Binding("/b", FromExpression("item.y + 1"), "0", 1))
    (step,) = planned(Step("a", "x", bindings=bindings, for_each=ForEach("[1]")))
    assert step.bindings[0] == workflow_pb2.Binding(target="/a", item="/x")
    assert (step.bindings[1].expression, step.bindings[1].default.json) == ("item.y + 1", "0")


def test_a_plan_has_the_nested_workflow_of_a_step_which_has_no_retry() -> None:
    inner = Workflow(name="page", steps=(Step("fetch", "fetch"), Step("clean", "clean", ("fetch",))))
    (step,) = planned(Step("sub", "core.workflow", workflow=inner), retry=Retry(3))
    assert (step.action, step.workflow.name) == ("core.workflow", "page")
    assert [(it.id, it.action, list(it.depends_on)) for it in step.workflow.steps] == [
        ("fetch", "fetch", []),
        ("clean", "clean", ["fetch"]),
    ]
    assert not step.HasField("retry")


def test_a_page_ends_before_a_step_that_would_make_it_too_long() -> None:
    large = Workflow(name="page", steps=(Step("a", "x", input=f'"{"x" * (MAX_MESSAGE_CONTENT + 1_000)}"'),))
    steps = tuple(Step(name, "core.workflow", workflow=large) for name in ("a", "b"))
    workflow = Workflow(name="w", steps=(Step("small", "x", input=f'"{"y" * 2_000}"'), *steps))
    first, start = to_plan(workflow, 0, 100)
    second, start = to_plan(workflow, start, 100)
    third, start = to_plan(workflow, start, 100)
    assert [[step.step_id for step in plan.steps] for plan in (first, second, third)] == [["small"], ["a"], ["b"]]
    assert start == 0
