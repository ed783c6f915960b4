"""The layout of drawn graphs: columns, and rows of lines that do not overlap."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from stepwave._reports.graph import GraphNode
from stepwave.cli.display.graph_layout import GAP, Cell, Net, columns_of, layers_of, nets_between, tracks_of


def _box(key: str, left: int) -> Cell:
    return Cell(key, GraphNode(key, key, "act"), width=7, left=left)


def test_lines_that_change_places_do_not_overlap() -> None:
    left, right, below_left, below_right = _box("a", 0), _box("b", 20), _box("c", 0), _box("d", 20)
    left.below, right.below = [below_right], [below_left]
    nets = nets_between([left, right])
    assert tracks_of(nets) is not None
    assert {column for net in nets for column in net.starts}.isdisjoint(column for net in nets for column in net.ends)


def test_lines_that_would_overlap_in_any_order_have_no_rows() -> None:
    assert tracks_of([Net((0,), (9,)), Net((9,), (0,))]) is None


def test_a_line_that_starts_where_another_ends_is_above_it() -> None:
    upper, lower = Net((5,), (9,)), Net((0,), (5,))
    assert tracks_of([lower, upper]) == [[upper], [lower]]


def test_lines_that_do_not_touch_share_a_row() -> None:
    one, other, third = Net((0,), (4,)), Net((6,), (9,)), Net((5,), (2,))
    assert tracks_of([one, other]) == [[one, other]]
    assert tracks_of([one, third]) == [[one], [third]]


def test_steps_with_the_same_dependents_share_a_line() -> None:
    nodes = [GraphNode("a", "a", ""), GraphNode("b", "b", ""), GraphNode("c", "c", "", needs=("a", "b"), wave=1)]
    first, second = layers = layers_of(nodes)
    for cell in (*first, *second):
        cell.width = 5
    assert columns_of(layers, 60)
    (net,) = nets_between(first)
    assert net.starts == tuple(sorted(cell.middle for cell in first))
    assert net.ends == net.arrows == (second[0].middle,)


@given(st.lists(st.lists(st.integers(1, 20), min_size=1, max_size=6), min_size=1, max_size=5))
def test_boxes_do_not_overlap_and_fit(widths: list[list[int]]) -> None:
    nodes = [
        GraphNode(f"{wave}.{place}", "", "", needs=(f"{wave - 1}.0",) if wave else (), wave=wave)
        for wave, each in enumerate(widths)
        for place in range(len(each))
    ]
    layers = layers_of(nodes)
    for layer, each in zip(layers, widths, strict=True):
        for cell, width in zip([cell for cell in layer if cell.node is not None], each, strict=True):
            cell.width = 2 * width + 1
    needed = max(sum(cell.width for cell in layer) + GAP * (len(layer) - 1) for layer in layers)
    assert not columns_of(layers, needed - 1)
    assert columns_of(layers, needed)
    for layer in layers:
        assert layer[0].left >= 0
        assert layer[-1].left + layer[-1].width <= needed
        assert all(one.left + one.width + GAP <= other.left for one, other in pairwise(layer))
