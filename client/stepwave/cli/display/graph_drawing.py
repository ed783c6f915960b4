"""Draws the graph of a workflow or a run with characters: boxes in waves, with lines between, or else a list."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from stepwave._model.results import State
from stepwave._reports.graph import Graph, GraphNode, fold, limited

from .graph_layout import Cell, Net, columns_of, layers_of, nets_between, tracks_of
from .text import one_line, plural

__all__ = ["graph_lines"]

_MARKS = {
    State.PENDING: ("·", "dim"),
    State.RUNNING: ("▸", "cyan"),
    State.SUCCEEDED: ("✓", "green"),
    State.FAILED: ("✗", "bold red"),
    State.CANCELLED: ("■", "yellow"),
    State.SKIPPED: ("-", "dim"),
    State.UNKNOWN: ("?", "dim"),
}
_WIDTHS = (36, 28, 20, 14)  # of boxes, the widest that fit
_MAX_BOXES = 40  # of a drawing
_MAX_LINES = 200  # of a list
_MAX_EDGES = 80
_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_CORNERS = dict(zip(range(16), " ╵╷│╴╯╮┤╶╰╭├─┴┬┼", strict=True))


def graph_lines(graph: Graph, width: int) -> Iterator[Text]:
    """Yield the lines of a drawing, at most so many cells wide where possible.

    The steps of a nested workflow have a drawing of their own. A graph that is too wide or too large is a list of its
    waves, and a list that is too long is cut.
    """
    yield _heading(graph)
    yield Text()
    yield from _level(graph.nodes, width)
    if graph.hidden:
        yield Text(f"and {plural(graph.hidden, 'more step')}", style="dim")
    if any(node.state is not None for node in graph.nodes):
        yield Text()
        yield _legend(graph.nodes)


def _heading(graph: Graph) -> Text:
    heading = Text(one_line(graph.title), style="bold")
    if graph.state is not None:
        symbol, style = _MARKS[graph.state]
        heading.append("  ").append(f"{symbol} {graph.state}", style=style)
    return heading


def _legend(nodes: Iterable[GraphNode]) -> Text:
    counts: Counter[State] = Counter()
    for node in nodes:
        if node.state is not None:
            counts[node.state] += node.steps
    parts = [
        Text(f"{_MARKS[state][0]} {counts[state]:,} {state}", style=_MARKS[state][1])
        for state in State
        if counts[state]
    ]
    return Text("  ").join(parts)


def _level(nodes: Sequence[GraphNode], width: int) -> Iterator[Text]:
    """Yield the drawing of the steps of one workflow, and then those of the workflows that they run."""
    drawn = _drawing(nodes, width)
    if drawn is None:
        drawn = _drawing(fold(nodes), width)
    yield from drawn or _list(nodes, width)
    for node in nodes:
        if node.inner:
            yield Text()
            yield Text(f"{node.key} runs these steps", style="bold")
            yield from _level(node.inner, width)


def _drawing(nodes: Sequence[GraphNode], width: int) -> list[Text] | None:
    """Return a drawing; `None`: it is too large or too wide."""
    if len(nodes) > _MAX_BOXES or sum(len(node.needs) for node in nodes) > _MAX_EDGES:
        return None
    layers = layers_of(nodes)
    for most in _WIDTHS:
        for layer in layers:
            for cell in layer:
                cell.width = _box_width(cell.node, most) if cell.node is not None else 1
        if columns_of(layers, width):
            between = [nets_between(layer) for layer in layers]
            rows = [tracks_of(nets) for nets in between]
            return None if None in rows else _Canvas().draw(layers, between)
    return None


def _box_width(node: GraphNode, most: int) -> int:
    widest = max(cell_len(line) for line in _box_lines(node))
    return min(widest, most - 5) // 2 * 2 + 5  # odd


def _box_lines(node: GraphNode) -> list[str]:
    symbol = f"{_MARKS[node.state][0]} " if node.state is not None else ""
    name, *rest = map(one_line, node.lines)
    return [f"{symbol}{name}", *rest]


class _Canvas:
    """Characters with styles, in rows."""

    def __init__(self) -> None:
        self._rows: list[dict[int, tuple[str, str]]] = []

    def draw(self, layers: Sequence[Sequence[Cell]], between: Sequence[Sequence[Net]]) -> list[Text]:
        """Draw waves, and the lines after each of them."""
        for layer, nets in zip(layers, between, strict=True):
            self._boxes(layer)
            if nets:
                self._lines(nets)
        return [self._text(row) for row in self._rows]

    def _boxes(self, layer: Sequence[Cell]) -> None:
        top = len(self._rows)
        height = max((len(_box_lines(cell.node)) for cell in layer if cell.node is not None), default=0) + 2
        self._rows += ({} for _ in range(height))
        for cell in layer:
            if cell.node is None:
                for row in range(top, top + height):
                    self._put(row, cell.left, "│", "")
            else:
                self._box(cell, cell.node, top, height)

    def _box(self, cell: Cell, node: GraphNode, top: int, height: int) -> None:
        style = _MARKS[node.state][1] if node.state is not None else ""
        inside = cell.width - 2
        tee = "┬" if cell.below else "─"
        bottom = "─" * (inside // 2) + tee + "─" * (inside - inside // 2 - 1)
        self._put(top, cell.left, f"╭{'─' * inside}╮", style)
        lines = _box_lines(node)
        for number in range(height - 2):
            line = lines[number] if number < len(lines) else ""
            text = Text(line)
            text.truncate(inside - 2, overflow="ellipsis", pad=True)
            self._put(top + 1 + number, cell.left, "│", style)
            self._put(top + 1 + number, cell.left + 2, text.plain, _line_style(number, style))
            self._put(top + 1 + number, cell.left + cell.width - 1, "│", style)
        self._put(top + height - 1, cell.left, f"╰{bottom}╯", style)

    def _lines(self, nets: Sequence[Net]) -> None:
        """Draw the lines between two waves. Those that are not straight have a row. The last row has the arrows."""
        tracks = tracks_of(nets) or []
        row_of = {id(net): row for row, track in enumerate(tracks) for net in track}
        cells: list[dict[int, list[int]]] = [{} for _ in range(len(tracks) + 1)]
        for net in nets:
            for row, column, sides in _route(net, row_of.get(id(net), len(tracks)), len(cells)):
                cells[row].setdefault(column, []).append(sides)
        first = len(self._rows)
        for row, columns in enumerate(cells):
            self._rows.append({})
            for column, crossing in columns.items():
                self._put(first + row, column, _line_character(crossing), "")
        for column in (column for net in nets for column in net.arrows):
            self._put(len(self._rows) - 1, column, "▼", "")

    def _put(self, row: int, column: int, text: str, style: str) -> None:
        for character in text:
            width = cell_len(character)
            if width:
                self._rows[row][column] = character, style
                for further in range(1, width):
                    self._rows[row][column + further] = "", style
                column += width

    def _text(self, row: dict[int, tuple[str, str]]) -> Text:
        text = Text()
        for column in range(max(row, default=-1) + 1):
            character, style = row.get(column, (" ", ""))
            text.append(character, style=style)
        return text


def _line_style(number: int, style: str) -> str:
    return style or "bold" if number == 0 else "dim"


def _route(net: Net, at: int, rows: int) -> Iterator[tuple[int, int, int]]:
    """Yield the rows and columns of a line, with the sides on which it goes on: down, along the row `at`, and down."""
    first, last = net.span
    for row in range(rows):
        for column in net.starts if row < at else net.ends if row > at else range(first, last + 1):
            sides = 0
            if row < at or (row == at and column in net.starts):
                sides |= _UP
            if row > at or (row == at and column in net.ends):
                sides |= _DOWN
            if row == at:
                sides |= (_LEFT if column > first else 0) | (_RIGHT if column < last else 0)
            else:
                sides |= _UP | _DOWN
            yield row, column, sides


def _line_character(crossing: Sequence[int]) -> str:
    """Return the character for the sides of the lines in a cell. A line goes over another one that crosses it."""
    if sorted(crossing) == [_UP | _DOWN, _LEFT | _RIGHT]:
        return "│"
    sides = 0
    for each in crossing:
        sides |= each
    return _CORNERS[sides]


def _list(nodes: Sequence[GraphNode], width: int) -> Iterator[Text]:
    """Yield the steps of each wave, with what they come after."""
    shown = limited(Graph("", tuple(nodes)), nodes=_MAX_LINES, edges=10 * _MAX_LINES)
    names = {node.key: node.name for node in shown.nodes}
    for wave, steps in groupby(sorted(shown.nodes, key=lambda node: node.wave), key=lambda node: node.wave):
        yield Text(f"wave {wave}", style="bold")
        for node in steps:
            symbol, style = _MARKS[node.state] if node.state is not None else ("•", "")
            yield Text.assemble(
                (f"  {symbol} {one_line(node.name)}", style), "  ", ("  ".join(map(one_line, node.lines[1:])), "dim")
            )
            if node.needs:
                after = Text(
                    f"      after {', '.join(names[need] for need in node.needs if need in names)}", style="dim"
                )
                after.truncate(width, overflow="ellipsis")
                yield after
    if shown.hidden:
        yield Text(f"and {plural(shown.hidden, 'more step')}", style="dim")


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line
