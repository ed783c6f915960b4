"""The graph of a plan and of a run: nodes, dependencies, states, and what is folded."""

import re
from collections.abc import Iterable

import pytest

from stepwave._model.results import State
from stepwave._reports.graph import Graph, GraphNode, graph_of_plan, graph_of_run, graph_of_workflow, limited
from stepwave.exceptions import InvalidExport
from stepwave.v1 import event_pb2, payload_pb2, run_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent


def flow(*steps: workflow_pb2.Step) -> workflow_pb2.Workflow:
    return workflow_pb2.Workflow(name="flow", steps=steps)


def step(step_id: str, *after: str, **fields: object) -> workflow_pb2.Step:
    action = "" if "workflow" in fields else "act"
    return workflow_pb2.Step(id=step_id, depends_on=after, action=action, **fields)  # type: ignore[arg-type]


def over(step_id: str, path: str = "") -> workflow_pb2.ForEach:
    return workflow_pb2.ForEach(step=workflow_pb2.StepOutput(id=step_id, path=path))


def started(*step_ids: str) -> list[RunEvent]:
    return [RunEvent(step_started=event_pb2.StepStarted(step_id=it)) for it in step_ids]


def ended(*step_ids: str, state: str = "SUCCEEDED", **fields: object) -> list[RunEvent]:
    number = run_pb2.State.Value(f"STATE_{state}")
    results = (run_pb2.StepResult(step_id=it, state=number, **fields) for it in step_ids)  # type: ignore[arg-type]
    return [RunEvent(step_finished=event_pb2.StepFinished(result=result)) for result in results]


def expanded(step_id: str, items: int | None = None, workflow: workflow_pb2.Workflow | None = None) -> list[RunEvent]:
    return [RunEvent(step_expanded=event_pb2.StepExpanded(step_id=step_id, item_count=items, workflow=workflow))]


def run_of(workflow: workflow_pb2.Workflow, *parts: Iterable[RunEvent]) -> Graph:
    events = [RunEvent(run_started=event_pb2.RunStarted()), *(event for part in parts for event in part)]
    return graph_of_run(pb.RunDefinition(run_id="flow-1", workflow=workflow), events)


def nodes_of(nodes: Iterable[GraphNode]) -> dict[str, GraphNode]:
    """Return nodes, and those within them, by their keys."""
    found = {}
    for node in nodes:
        found[node.key] = node
        found.update(nodes_of(node.inner))
    return found


PAGES = step("pages", "find", for_each=over("find", "/urls"), workflow=flow(step("fetch"), step("read", "fetch")))
LISTED = flow(step("find"), PAGES, step("brief", "pages"))


def test_a_plan_has_waves_and_dependencies_also_of_bindings_and_no_states() -> None:
    bound = step("c", "a")
    bound.bindings.add(target="/x").step.id = "b"
    graph = graph_of_workflow(flow(step("a"), step("b", "a"), bound))
    assert [(node.key, node.wave, node.needs, node.state) for node in graph.nodes] == [
        ("a", 0, (), None),
        ("b", 1, ("a",), None),
        ("c", 2, ("a", "b"), None),
    ]
    assert (graph.title, graph.state) == ("flow", None)


def test_a_plan_notes_conditions_joins_lists_and_fallbacks() -> None:
    fallback = workflow_pb2.Fallback(action=workflow_pb2.FallbackAction(action="cache"))
    every = step(
        "b", "a", when="input.x > 3", join=workflow_pb2.JOIN_ANY, for_each=over("a", "/urls"), fallback=fallback
    )
    _, node = graph_of_workflow(flow(step("a"), every)).nodes
    assert node.notes == ("if input.x > 3", "after any", "falls back on cache", "for each of a/urls")
    assert node.conditional


@pytest.mark.parametrize(
    ("for_each", "note"),
    [
        (workflow_pb2.ForEach(input="/urls"), "for each of input/urls"),
        (workflow_pb2.ForEach(expression="input.urls"), "for each of input.urls"),
        (workflow_pb2.ForEach(items=payload_pb2.Payload(json="[1]")), "for each of a list"),
    ],
)
def test_a_plan_names_the_source_of_a_list(for_each: workflow_pb2.ForEach, note: str) -> None:
    (node,) = graph_of_workflow(flow(step("a", for_each=for_each))).nodes
    assert node.notes == (note,)


def test_a_nested_workflow_is_within_its_step() -> None:
    nodes = nodes_of(graph_of_workflow(LISTED).nodes)
    assert list(nodes) == ["find", "pages", "pages/fetch", "pages/read", "brief"]
    assert nodes["pages/read"].needs == ("pages/fetch",)
    assert (nodes["pages"].action, nodes["pages/read"].name) == ("", "read")


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        (flow(step("a", "z")), 'step "a" depends on the unknown step "z"'),
        (flow(step("a"), step("b", "c"), step("c", "b")), 'step "b" is in a cycle of dependencies, or depends on one'),
        (flow(step("a", workflow=flow(step("x", "a")))), 'step "a/x" depends on the unknown step "a"'),
    ],
)
def test_a_file_without_a_graph_is_refused(workflow: workflow_pb2.Workflow, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        graph_of_workflow(workflow)


def test_the_plan_of_a_server_has_the_same_graph_as_its_file() -> None:
    fields = [{"step_id": it.id, "action": it.action, "depends_on": it.depends_on} for it in LISTED.steps]
    steps = [pb.PlannedStep(**each) for each in fields]  # type: ignore[arg-type]
    steps[1].for_each.CopyFrom(PAGES.for_each)
    steps[1].workflow.CopyFrom(PAGES.workflow)
    assert graph_of_plan(pb.Plan(workflow_name="flow"), steps) == graph_of_workflow(LISTED)


def test_a_run_has_the_state_of_each_step_and_why() -> None:
    workflow = flow(*(step(it) for it in "abcdef"))
    skipped = run_pb2.SkipReason(cause=run_pb2.SKIP_CAUSE_CONDITION)
    graph = run_of(
        workflow,
        started("a", "b", "c"),
        ended("a", attempts=3),
        ended("b", state="FAILED"),
        ended("d", state="SKIPPED", skip_reason=skipped),
        ended("e", reused_from="flow-0"),
    )
    states = {node.key: (node.state, node.notes) for node in graph.nodes}
    assert states == {
        "a": (State.SUCCEEDED, ("3 attempts",)),
        "b": (State.FAILED, ()),
        "c": (State.RUNNING, ()),
        "d": (State.SKIPPED, ("its condition was false",)),
        "e": (State.SUCCEEDED, ("reused",)),
        "f": (State.PENDING, ()),
    }
    assert (graph.title, graph.state) == ("flow-1: flow", State.RUNNING)


def test_the_children_of_a_list_are_one_node_with_their_states() -> None:
    workflow = flow(step("find"), step("pages", "find", for_each=over("find")))
    children = [f"pages[{place}]" for place in range(6)]
    graph = run_of(
        workflow,
        ended("find"),
        expanded("pages", 1_000),
        started(*children),
        ended(*children[:3]),
        ended(children[3], state="FAILED"),
    )
    _, pages = graph.nodes
    assert pages.state is State.RUNNING
    assert pages.notes == ("1,000 items: 994 pending, 2 running, 3 succeeded, 1 failed",)


def test_an_empty_list_has_no_items() -> None:
    _, pages, _ = run_of(LISTED, ended("find"), expanded("pages", 0), ended("pages")).nodes
    assert (pages.state, pages.notes) == (State.SUCCEEDED, ("no items",))


def test_the_steps_of_the_workflow_of_each_item_are_one_node_each() -> None:
    graph = run_of(
        LISTED,
        ended("find"),
        expanded("pages", 3),
        expanded("pages[0]"),
        expanded("pages[1]"),
        ended("pages[0]/fetch", "pages[1]/fetch"),
        started("pages[0]/read"),
        ended("pages[1]/read", state="FAILED"),
    )
    nodes = nodes_of(graph.nodes)
    assert (nodes["pages/fetch"].state, nodes["pages/fetch"].notes) == (State.RUNNING, ("1 pending, 2 succeeded",))
    assert nodes["pages/read"].notes == ("1 pending, 1 running, 1 failed",)
    assert nodes["pages/read"].state is State.FAILED
    assert nodes["brief"].state is State.PENDING


def test_lists_within_lists_are_counted_together() -> None:
    inner = step("each", for_each=workflow_pb2.ForEach(input=""))
    workflow = flow(step("outer", for_each=workflow_pb2.ForEach(input=""), workflow=flow(inner)))
    graph = run_of(
        workflow,
        expanded("outer", 2),
        expanded("outer[0]/each", 3),
        expanded("outer[1]/each", 4),
        ended(*(f"outer[0]/each[{place}]" for place in range(3))),
        ended("outer[0]/each"),
    )
    each = nodes_of(graph.nodes)["outer/each"]
    assert each.notes == ("7 items: 4 pending, 3 succeeded", "1 running, 1 succeeded")


def test_a_workflow_that_an_action_chose_is_within_its_step() -> None:
    chosen = flow(step("x"), step("y", "x"))
    nodes = nodes_of(run_of(flow(step("a")), expanded("a", workflow=chosen), ended("a/x")).nodes)
    assert list(nodes) == ["a", "a/x", "a/y"]
    assert (nodes["a"].state, nodes["a/x"].state, nodes["a/y"].state) == (State.RUNNING, State.SUCCEEDED, State.PENDING)


def test_the_steps_of_different_workflows_of_items_are_all_shown() -> None:
    workflow = flow(step("a", for_each=workflow_pb2.ForEach(input="")))
    graph = run_of(
        workflow,
        expanded("a", 2),
        expanded("a[0]", workflow=flow(step("x"), step("y", "x"))),
        expanded("a[1]", workflow=flow(step("y"), step("x", "y"), step("z", "x"))),
        ended("a[1]/z"),
    )
    nodes = nodes_of(graph.nodes)
    assert list(nodes) == ["a", "a/x", "a/y", "a/z"]
    assert "other items run other workflows" in nodes["a"].notes


def test_added_steps_are_marked_and_a_dependency_that_is_not_added_has_a_node() -> None:
    added = RunEvent(steps_added=event_pb2.StepsAdded(steps=[step("b", "a"), step("c", "later")]))
    nodes = nodes_of(run_of(flow(step("a")), [added], ended("a")).nodes)
    assert nodes["b"].notes == nodes["c"].notes == ("added",)
    assert (nodes["later"].state, nodes["later"].notes) == (State.PENDING, ("not added yet",))
    assert (nodes["later"].wave, nodes["c"].wave) == (0, 1)


def test_an_event_of_an_unknown_step_is_an_error() -> None:
    with pytest.raises(InvalidExport, match="a step that it does not have: z"):
        run_of(flow(step("a")), ended("z"))


def _fan(count: int) -> workflow_pb2.Workflow:
    middle = [step(f"p{place}", "first") for place in range(count)]
    return flow(step("first"), *middle, step("last", *(it.id for it in middle)))


def test_steps_that_differ_in_their_names_alone_become_one_when_there_are_too_many() -> None:
    graph = limited(graph_of_workflow(_fan(1_000)), nodes=100, edges=100)
    assert [(node.name, node.needs, node.steps) for node in graph.nodes] == [
        ("first", (), 1),
        ("p0 … p999", ("first",), 1_000),
        ("last", ("p0",), 1),
    ]
    assert graph.nodes[1].notes == ("1,000 steps",)
    assert graph.hidden == 0


def test_steps_of_different_states_stay_apart() -> None:
    workflow = _fan(10)
    ends = (ended("first"), ended("p0", "p1", "p2", "p3", state="FAILED"), ended("p4", "p5", "p6", "p7", "p8", "p9"))
    graph = limited(run_of(workflow, *ends), nodes=5, edges=100)
    assert [(node.name, node.state, node.steps) for node in graph.nodes[1:3]] == [
        ("p0 … p3", State.FAILED, 4),
        ("p4 … p9", State.SUCCEEDED, 6),
    ]


def test_a_graph_that_is_still_too_large_loses_its_last_steps() -> None:
    chain = flow(step("s0"), *(step(f"s{place}", f"s{place - 1}") for place in range(1, 50)))
    graph = limited(graph_of_workflow(chain), nodes=10, edges=100)
    assert [node.name for node in graph.nodes] == [f"s{place}" for place in range(10)]
    assert graph.hidden == 40
    assert limited(graph_of_workflow(chain), nodes=100, edges=20).hidden == 29


def test_a_small_graph_is_not_changed() -> None:
    graph = graph_of_workflow(_fan(5))
    assert limited(graph, nodes=7, edges=10) == graph
