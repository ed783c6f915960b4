"""Drawings of graphs: boxes in waves with lines that lead to the right steps, and lists of larger graphs."""

import re
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from stepwave._model.results import State
from stepwave._reports.graph import Graph, GraphNode, graph_of_workflow
from stepwave.cli.display.graph_drawing import graph_lines
from unit.client.reports.test_graph import LISTED, ended, expanded, flow, run_of, step

SIDES = {
    "│": "UD", "─": "LR", "╯": "UL", "╮": "DL", "╰": "UR", "╭": "DR",
    "┤": "UDL", "├": "UDR", "┴": "ULR", "┬": "DLR", "┼": "UDLR",
}  # fmt: skip
MOVES = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}
BACK = {"U": "D", "D": "U", "L": "R", "R": "L"}


def draw(graph: Graph, width: int) -> list[str]:
    return [line.plain.rstrip() for line in graph_lines(graph, width)]


def graph_of(needs: Mapping[str, Sequence[str]]) -> Graph:
    return graph_of_workflow(flow(*(step(name, *after) for name, after in needs.items())))


def traced(lines: Sequence[str], names: Iterable[str]) -> dict[str, set[str]]:
    """Follow the lines of a drawing from each box to the arrows, and return what each step comes after.

    A line never goes up. At a crossing it goes on straight.
    """
    width = max(map(len, lines)) + 1
    grid = [line.ljust(width) for line in lines]
    tops: dict[tuple[int, int], str] = {}
    ways: dict[str, tuple[int, int]] = {}
    for name in names:
        row, column = next(
            (row, match.start())
            for row, line in enumerate(grid)
            if (match := re.search(rf"│ ([✓✗·▸-] )?{name} ", line))
        )
        end = grid[row].index("│", column + 1)
        tops.update({(row - 1, each): name for each in range(column, end)})
        bottom = next(each for each in range(row, len(grid)) if grid[each][column] == "╰")
        if (way := grid[bottom].find("┬", column, end)) >= 0:
            ways[name] = bottom, way
    after: dict[str, set[str]] = {name: set() for name in names}
    for name, (row, column) in ways.items():
        todo, seen = [(row + 1, column, "D")], set()
        while todo:
            place = row, column, towards = todo.pop()
            if place in seen:
                continue
            seen.add(place)
            character = grid[row][column]
            if character == "▼":
                after[tops[row + 1, column]].add(name)
                continue
            on = (
                towards
                if character == "│" and towards in "LR"
                else SIDES[character].replace(BACK[towards], "").replace("U", "")
            )
            todo += [(row + MOVES[side][0], column + MOVES[side][1], side) for side in on]
    return after


def listed(lines: Sequence[str]) -> dict[str, set[str]]:
    """Return what each step of a list comes after."""
    after: dict[str, set[str]] = {}
    name = ""
    for line in lines:
        if match := re.match(r"  • (\S+)", line):
            name = match[1]
            after[name] = set()
        elif match := re.match(r"      after (.+)", line):
            after[name] = set(match[1].split(", "))
    return after


def test_a_diamond() -> None:
    assert draw(graph_of({"a": (), "left": ("a",), "right": ("a",), "d": ("left", "right")}), 60) == [
        "flow",
        "",
        "      ╭─────╮",
        "      │ a   │",
        "      │ act │",
        "      ╰──┬──╯",
        "    ╭────┴─────╮",
        "    ▼          ▼",
        "╭───────╮  ╭───────╮",
        "│ left  │  │ right │",
        "│ act   │  │ act   │",
        "╰───┬───╯  ╰───┬───╯",
        "    ╰────┬─────╯",
        "         ▼",
        "      ╭─────╮",
        "      │ d   │",
        "      │ act │",
        "      ╰─────╯",
    ]


@pytest.mark.parametrize("width", [60, 100])
def test_the_lines_of_a_drawing_lead_to_the_right_steps(width: int) -> None:
    needs = {
        "search": (), "facts": (), "pages": ("search",), "filter": ("pages",), "report": ("filter", "facts"),
        "review": ("report",), "publish": ("review", "search"),
    }  # fmt: skip
    lines = draw(graph_of(needs), width)
    assert max(map(cell_len, lines)) <= width
    assert traced(lines, needs) == {name: set(after) for name, after in needs.items()}


@st.composite
def small_graphs(draw: st.DrawFn) -> dict[str, list[str]]:
    names = [f"s{place}" for place in range(draw(st.integers(1, 8)))]
    return {
        name: draw(st.lists(st.sampled_from(names[:place]), unique=True, max_size=3)) if place else []
        for place, name in enumerate(names)
    }


@given(small_graphs())
@example(
    {
        "s0": [],
        "s1": [],
        "s2": [],
        "s3": ["s0"],
        "s4": ["s1", "s2", "s3"],
        "s5": ["s4", "s0", "s1"],
        "s6": ["s0", "s2", "s4"],
    }
)
def test_every_dependency_is_found_by_the_lines_of_a_drawing_or_else_in_a_list(needs: dict[str, list[str]]) -> None:
    """A graph whose lines would overlap in any order is a list."""
    lines = draw(graph_of(needs), 100)
    found = listed(lines) if lines[2] == "wave 0" else traced(lines, needs)
    assert {name: set(after) for name, after in needs.items()} == found


def test_states_are_symbols_and_words_not_colours_alone() -> None:
    graph = run_of(flow(step("a"), step("b")), ended("a"), ended("b", state="FAILED"))
    text = "\n".join(draw(graph, 60))
    assert "✓ a" in text
    assert "✗ b" in text
    assert "failed" in text
    assert text.splitlines()[0] == "flow-1: flow  ▸ running"
    assert text.splitlines()[-1] == "✓ 1 succeeded  ✗ 1 failed"


def test_a_nested_workflow_has_a_drawing_of_its_own() -> None:
    graph = run_of(LISTED, ended("find"), expanded("pages", 2), ended("pages[0]/fetch", state="FAILED"))
    lines = draw(graph, 60)
    at = lines.index("pages runs these steps")
    assert any("2 items: 2 pending" in line for line in lines[:at])
    assert any("✗ fetch" in line for line in lines[at:])
    assert traced(lines[at:], ["fetch", "read"])["read"] == {"fetch"}


def test_steps_that_differ_in_their_names_alone_are_one_box_if_there_is_no_room() -> None:
    middle = [f"m{place}" for place in range(30)]
    lines = draw(graph_of({"first": (), **dict.fromkeys(middle, ("first",)), "last": middle}), 60)
    text = "\n".join(lines)
    assert "m0 … m29" in text
    assert "30 steps" in text
    assert traced(lines, ["first", "m0 … m29", "last"])["last"] == {"m0 … m29"}


def test_a_graph_that_is_too_wide_is_a_list_of_its_waves() -> None:
    middle = [f"middle{place}" for place in range(10)]
    ends = {f"end{place}": (name,) for place, name in enumerate(middle)}
    lines = draw(graph_of({"first": (), **dict.fromkeys(middle, ("first",)), **ends, "last": list(ends)}), 60)
    assert lines[2:6] == ["wave 0", "  • first  act", "wave 1", "  • middle0  act"]
    assert "      after first" in lines
    assert lines[-1] == "      after end0, end1, end2, end3, end4, end5, end6, end7,…"
    assert max(map(cell_len, lines)) <= 60


def test_a_list_that_is_too_long_is_cut_with_a_note() -> None:
    needs = {f"s{place}": (f"s{place - 1}",) if place else () for place in range(1_000)}
    lines = draw(graph_of(needs), 60)
    assert lines[-1] == "and 800 more steps"
    assert len(lines) < 700


def test_texts_with_wide_characters_keep_the_boxes_straight() -> None:
    lines = draw(Graph("日本", (GraphNode("a", "a", "検索.実行"), GraphNode("b", "b", "x", needs=("a",), wave=1))), 60)
    box = [line for line in lines if line.lstrip().startswith(("│", "╭", "╰"))][:4]
    assert len({cell_len(line.strip()) for line in box}) == 1
    assert "検索.実行" in lines[4]


def test_a_box_is_cut_to_the_width() -> None:
    (node,) = graph_of_workflow(flow(step("a", when="x" * 60))).nodes
    lines = draw(Graph("flow", (node,)), 30)
    assert max(map(cell_len, lines)) <= 30
    assert any("…" in line for line in lines)


def test_control_characters_are_not_drawn() -> None:
    lines = draw(Graph("a\x1b[2Jb", (GraphNode("a", "a", "x\ny\x07z", state=State.RUNNING),)), 60)
    assert not any(character in line for line in lines for character in "\x1b\x07\n")
