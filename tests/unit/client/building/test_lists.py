"""Steps that run for every item of a list or run a workflow, in the messages that the workflow builder makes."""

import json
from dataclasses import dataclass
from typing import Any, cast

import pytest

from stepwave import Cel, Fallback, Retry, Workflow, action
from stepwave.v1 import workflow_pb2 as pb


@dataclass
class Page:
    url: str


@action
async def fetch(url: str, city: str = "") -> Page:
    return Page(url)


@action
async def clean(page: str) -> str:
    return page


def last(flow: Workflow) -> pb.Step:
    return flow.to_proto().steps[-1]


def searching() -> tuple[Workflow, Any]:
    flow = Workflow("w")
    return flow, flow.step("search", "search")


def body() -> Workflow:
    inner = Workflow("page")
    page = inner.step("fetch", fetch, {"url": inner.input})
    inner.step("clean", clean, {"page": page.output["text"]})
    return inner


def test_a_list_may_be_the_output_of_a_step() -> None:
    flow, search = searching()
    flow.for_each("pages", over=search.output["urls"], action=fetch, input={"url": flow.item}, max_parallelism=8)
    step = last(flow)
    assert (step.id, step.action, step.input.json) == ("pages", "fetch", '{"url":null}')
    assert step.for_each == pb.ForEach(step=pb.StepOutput(id="search", path="/urls"), max_parallelism=8)
    assert list(step.bindings) == [pb.Binding(target="/url", item="")]
    assert not step.depends_on


def test_without_an_input_a_child_gets_its_item() -> None:
    flow, search = searching()
    flow.for_each("pages", over=search.output, action=fetch)
    assert not last(flow).HasField("input")
    assert not last(flow).bindings


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        (lambda flow: flow.input["urls"], pb.ForEach(input="/urls")),
        (lambda flow: flow.input, pb.ForEach(input="")),
        (lambda flow: flow.item["parts"], pb.ForEach(expression='item["parts"]')),
        (lambda flow: Cel("input.urls"), pb.ForEach(expression="input.urls")),
        (lambda flow: flow.input["a"] + flow.input["b"], pb.ForEach(expression='input["a"] + input["b"]')),
        (lambda flow: [flow.input["a"], "x"], pb.ForEach(expression='[input["a"], "x"]')),
    ],
)
def test_a_list_may_be_the_input_or_an_expression(over: Any, expected: pb.ForEach) -> None:
    flow = Workflow("w")
    flow.for_each("pages", over=over(flow), action=fetch)
    assert last(flow).for_each == expected


@pytest.mark.parametrize("over", [["a", {"b": [1]}], ("a",), []])
def test_a_list_may_be_fixed(over: Any) -> None:
    flow = Workflow("w")
    flow.for_each("pages", over=over, action=fetch)
    assert json.loads(last(flow).for_each.items.json) == list(over)


def test_an_expression_of_a_list_makes_its_steps_dependencies() -> None:
    flow, search = searching()
    flow.for_each("pages", over=search.output["a"] + ["x"], action=fetch)
    assert list(last(flow).depends_on) == ["search"]
    flow.for_each("more", over=[search.output["a"], "x"], action=fetch)
    assert list(last(flow).depends_on) == ["search"]


def test_a_condition_on_the_step_of_the_list_adds_no_dependency() -> None:
    flow, search = searching()
    flow.for_each("pages", over=search.output["urls"], action=fetch, when=search.output["hits"] > 3)
    assert last(flow).when
    assert not last(flow).depends_on


def test_a_list_has_the_options_of_a_step() -> None:
    flow, search = searching()
    flow.for_each(
        "pages",
        over=[1],
        action=fetch,
        depends_on=[search],
        timeout=5,
        join="all_done",
        allow_failure=True,
        retry=Retry(max_attempts=3),
        fallback=Fallback(clean, {"page": "x"}),
        concurrency_key="/host",
    )
    step = last(flow)
    assert (list(step.depends_on), step.timeout.seconds, step.join) == (["search"], 5, pb.JOIN_ALL_DONE)
    assert (step.allow_failure, step.retry.max_attempts, step.concurrency_key) == (True, 3, "/host")
    assert step.fallback.action.action == "clean"
    assert flow.actions == (fetch, clean)


def test_an_unknown_option_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"for_each\(\) got an unexpected keyword argument 'timeuot'"):
        Workflow("w").for_each("pages", over=[1], action="x", timeuot=3)  # type: ignore[call-overload]  # what is tested


@pytest.mark.parametrize("over", ["abc", {"a": 1}, range(3), 5, None])
def test_what_is_no_list_is_refused(over: object) -> None:
    with pytest.raises(TypeError, match="step 'pages': over is a list, a reference or an expression, got"):
        Workflow("w").for_each("pages", over=cast("Any", over), action="x")


def test_a_step_is_no_list() -> None:
    flow, search = searching()
    with pytest.raises(TypeError, match=r"<step 'search'> is a step; use its `\.output`"):
        flow.for_each("pages", over=search, action="x")


def test_the_keys_of_a_childs_input_are_checked() -> None:
    flow = Workflow("w")
    with pytest.raises(TypeError, match="does not know the key 'link'"):
        flow.for_each("pages", over=[1], action=fetch, input={"url": flow.item, "link": 1})


def test_the_output_of_a_list_is_typed_item_by_item() -> None:
    flow = Workflow("w")
    pages = flow.for_each("pages", over=["a", "b"], action=fetch)
    assert pages.typed([{"url": "a"}, None, {"url": "b"}]) == [Page("a"), None, Page("b")]
    assert flow.for_each("more", over=["a"], action="fetch").typed([1, None]) == [1, None]


def test_a_step_may_run_a_workflow() -> None:
    flow = Workflow("w")
    sub = flow.step("sub", workflow=body(), input={"url": flow.input["url"]}, timeout=9)
    step = last(flow)
    assert (step.action, step.workflow, step.timeout.seconds) == ("", body().to_proto(), 9)
    assert list(step.bindings) == [pb.Binding(target="/url", input="/url")]
    assert sub.typed({"clean": "x"}) == {"clean": "x"}


def test_every_item_may_go_through_a_workflow() -> None:
    flow, search = searching()
    flow.for_each("pages", over=search.output["urls"], workflow=body(), max_parallelism=2)
    step = last(flow)
    assert (step.for_each.max_parallelism, [it.id for it in step.workflow.steps]) == (2, ["fetch", "clean"])


def test_a_nested_workflow_may_get_more_steps_later() -> None:
    flow, inner = Workflow("w"), Workflow("inner")
    flow.step("sub", workflow=inner)
    inner.step("late", "core.echo")
    assert [it.id for it in last(flow).workflow.steps] == ["late"]


def test_the_functions_of_nested_workflows_come_with_the_outermost() -> None:
    flow, middle = Workflow("w"), Workflow("middle")
    flow.step("first", clean)
    flow.step("sub", workflow=middle)
    middle.for_each("pages", over=[1], workflow=body())
    assert flow.actions == (clean, fetch)
    assert flow.nested == (middle,)


@pytest.mark.parametrize("given", [{}, {"action": "x", "workflow": Workflow("inner")}])
def test_a_step_has_an_action_or_a_workflow(given: Any) -> None:
    with pytest.raises(TypeError, match="exactly one of action and workflow is needed"):
        Workflow("w").step("a", **given)
    with pytest.raises(TypeError, match="exactly one of action and workflow is needed"):
        Workflow("w").for_each("a", over=[1], **given)


def test_a_workflow_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="workflow must be a Workflow, got 'inner'"):
        Workflow("w").step("a", workflow=cast("Any", "inner"))


def test_a_workflow_cannot_contain_itself() -> None:
    flow, inner = Workflow("w"), Workflow("inner")
    with pytest.raises(ValueError, match="would contain itself"):
        flow.step("a", workflow=flow)
    flow.step("a", workflow=inner)
    with pytest.raises(ValueError, match="<Workflow 'inner': 0 steps> would contain itself"):
        inner.step("b", workflow=flow)


def test_a_workflow_has_no_retry_as_a_step() -> None:
    with pytest.raises(ValueError, match="a step that runs a workflow has no retry"):
        Workflow("w").step("a", workflow=body(), retry=Retry(max_attempts=2))  # type: ignore[call-overload]  # what is tested


def test_a_nested_workflow_gets_values_from_outside_as_its_input() -> None:
    flow, search = searching()
    inner = Workflow("inner")
    with pytest.raises(ValueError, match=r"search\.output belongs to another workflow.*pass it as the body's input"):
        inner.step("a", "core.echo", {"x": search.output})
    with pytest.raises(ValueError, match="pass it as the body's input"):
        inner.for_each("a", over=search.output, action="x")
    with pytest.raises(ValueError, match="pass it as the body's input"):
        inner.for_each("a", over=[1], action="x", input=flow.item)


def test_a_schema_of_the_input_is_written_as_json() -> None:
    schema = {"type": "object", "required": ["city"]}
    assert json.loads(Workflow("w", input_schema=schema).to_proto().input_schema) == schema
    assert Workflow("w").to_proto().input_schema == ""
    with pytest.raises(TypeError, match="input_schema must be a dict"):
        Workflow("w", input_schema=cast("Any", '{"type": "object"}'))
