"""The Mermaid text of a graph: its lines, and that no text of a user is read as syntax."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwave._model.results import State
from stepwave._reports.graph import Graph, GraphNode, graph_of_workflow
from stepwave._reports.mermaid import mermaid
from unit.client.reports.test_graph import LISTED, ended, expanded, flow, run_of, step

_TEXT = r'"(?:[^\x00-\x1f"#&<>`%{}\\;|\x7f]|<br/>|#[0-9]+;)+"'
_STATEMENTS = [
    r"flowchart TD",
    r"  %% [^\n{}%]*",
    rf" +n[0-9]+(\[{_TEXT}\]|\{{\{{{_TEXT}\}}\}})",
    rf"  hidden\[{_TEXT}\]",
    rf" +subgraph n[0-9]+\[{_TEXT}\]",
    r" +end",
    r"  n[0-9]+ (-->|-\.->) n[0-9]+",
    r"  classDef [a-z]+ [a-z0-9#:,-]+",
    r"  class n[0-9]+(,n[0-9]+)* [a-z]+",
]


def check(text: str) -> None:
    """Check the syntax of a flowchart strictly: each line is a statement that this writer may write."""
    lines = text.splitlines()
    assert lines[0] == "flowchart TD"
    for line in lines:
        assert any(re.fullmatch(statement, line) for statement in _STATEMENTS), line
    assert sum("subgraph" in line.split("[")[0] for line in lines) == sum(line.strip() == "end" for line in lines)
    nodes = {name for line in lines for name in re.findall(r"^ +(?:subgraph )?(n\d+)[\[{]", line)}
    ends = {name for line in lines for name in re.findall(r"^  (n\d+) -.* (n\d+)$", line) for name in name}
    assert ends <= nodes


def test_a_plan_is_a_flowchart_with_a_subgraph_for_a_nested_workflow() -> None:
    text = mermaid(graph_of_workflow(LISTED))
    check(text)
    assert text == (
        "flowchart TD\n"
        "  %% flow\n"
        '  n0["find<br/>act"]\n'
        '  subgraph n1["pages<br/>for each of find/urls"]\n'
        '    n2["fetch<br/>act"]\n'
        '    n3["read<br/>act"]\n'
        "  end\n"
        '  n4["brief<br/>act"]\n'
        "  n0 --> n1\n"
        "  n2 --> n3\n"
        "  n1 --> n4\n"
    )


def test_a_run_has_states_as_text_and_as_colours() -> None:
    graph = run_of(LISTED, ended("find"), expanded("pages", 2), ended("pages[0]/fetch", state="FAILED"))
    text = mermaid(graph)
    check(text)
    assert '    n2["fetch<br/>act<br/>failed<br/>1 pending, 1 failed"]\n' in text
    assert "  classDef failed fill:#fee2e2," in text
    assert "  class n2 failed\n" in text
    assert "classDef cancelled" not in text


def test_a_step_with_a_condition_has_another_shape_and_a_dotted_edge() -> None:
    text = mermaid(graph_of_workflow(flow(step("a"), step("b", "a", when='input.name == "x"'))))
    check(text)
    assert '  n1{{"b<br/>act<br/>if input.name == #34;x#34;"}}\n  n0 -.-> n1\n' in text


def test_what_is_left_out_is_a_node() -> None:
    text = mermaid(Graph("flow", (GraphNode("a", "a", "act"),), hidden=1_200))
    check(text)
    assert '  hidden["and 1,200 more steps"]\n' in text


@pytest.mark.parametrize("name", ["end", "graph", "subgraph", "class", "click", "style", "o", "x", "default"])
def test_the_words_of_mermaid_are_ordinary_names(name: str) -> None:
    text = mermaid(graph_of_workflow(flow(step(name), step("b", name))))
    check(text)
    assert f'n0["{name}<br/>act"]' in text


@given(st.text(), st.text(), st.text())
def test_no_text_of_a_user_is_read_as_syntax(title: str, action: str, note: str) -> None:
    first = GraphNode("a", "a", action, state=State.FAILED, notes=(note,))
    within = GraphNode("b/c", "c", action, notes=(note,), conditional=True)
    check(mermaid(Graph(title, (first, GraphNode("b", note, "", needs=("a",), inner=(within,))))))
