"""The layout of a drawn graph: the order and the columns of nodes in their waves, and the rows of lines between waves.

It is the layered layout of Sugiyama, Tagawa and Toda (1981), for a grid of characters. An edge over several waves has a
cell in each wave between. The edges from one step are one line, which branches, and so are those from steps that have
the same dependents.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from stepwave._reports.graph import GraphNode

__all__ = ["GAP", "Cell", "Net", "columns_of", "layers_of", "nets_between", "tracks_of"]

GAP = 2
"""Columns between two boxes."""

_SWEEPS = 4
_SLACK = 12  # columns beyond the widest wave, for straight lines


@dataclass(slots=True, eq=False)
class Cell:
    """A node in its wave, or the place where an edge passes through a wave.

    Attributes:
        source: The key of the node, or of the node from which the edge comes.
        node: The node; `None`: an edge passes.
        width: The number of columns; odd, so that there is a middle.
        left: The first column.
        above: The cells of the wave before to which it is connected.
        below: The cells of the next wave to which it is connected.
    """

    source: str
    node: GraphNode | None = None
    width: int = 1
    left: int = 0
    above: "list[Cell]" = field(default_factory=list)
    below: "list[Cell]" = field(default_factory=list)

    @property
    def middle(self) -> int:
        """The column in its middle."""
        return self.left + self.width // 2


@dataclass(slots=True, eq=False)
class Net:
    """A line from cells of a wave to cells of the next one.

    Attributes:
        starts: The columns where it starts.
        ends: The columns where it ends.
        arrows: Those of them that are above a box.
    """

    starts: tuple[int, ...]
    ends: tuple[int, ...] = ()
    arrows: tuple[int, ...] = ()

    @property
    def straight(self) -> bool:
        """Whether it goes straight down, and needs no row."""
        return self.ends == self.starts and len(self.ends) == 1

    @property
    def span(self) -> tuple[int, int]:
        """Its first and its last column."""
        return min(*self.starts, *self.ends), max(*self.starts, *self.ends)


def layers_of(nodes: Iterable[GraphNode]) -> list[list[Cell]]:
    """Return the cells of each wave, connected, in an order with few crossings."""
    by_key = {node.key: node for node in nodes}
    waves = sorted({node.wave for node in by_key.values()})
    index = {wave: place for place, wave in enumerate(waves)}
    layers: list[list[Cell]] = [[] for _ in waves]
    last: dict[str, int] = {}
    for node in by_key.values():
        for need in node.needs:
            if need in by_key:
                last[need] = max(last.get(need, 0), index[node.wave])
    passing: dict[tuple[str, int], Cell] = {}
    for node in by_key.values():
        at = index[node.wave]
        for place in range(at, max(last.get(node.key, at), at + 1)):
            cell = Cell(node.key, node if place == at else None)
            passing[node.key, place] = cell
            layers[place].append(cell)
    for (source, place), cell in passing.items():
        if cell.node is None:
            _connect(passing[source, place - 1], cell)
        else:
            for need in cell.node.needs:
                if need in by_key:
                    _connect(passing[need, place - 1], cell)
    _order(layers)
    return layers


def _connect(above: Cell, below: Cell) -> None:
    above.below.append(below)
    below.above.append(above)


def _order(layers: Sequence[list[Cell]]) -> None:
    """Sort each wave by the mean place of the neighbours, down and up again."""
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else reversed(layers):
            place = {id(cell): float(at) for each in layers for at, cell in enumerate(each)}
            means = {id(cell): _mean(place, cell.above if down else cell.below, place[id(cell)]) for cell in layer}
            layer.sort(key=lambda cell: means[id(cell)])


def _mean(place: Mapping[int, float], cells: Sequence[Cell], default: float) -> float:
    return sum(place[id(cell)] for cell in cells) / len(cells) if cells else default


def columns_of(layers: Sequence[Sequence[Cell]], width: int) -> bool:
    """Set the columns of all cells, as near to their neighbours as possible; return whether they fit a width."""
    if any(_needed(layer) > width for layer in layers):
        return False
    room = min(max(map(_needed, layers)) + _SLACK, width)
    for layer in layers:
        _place(layer, [cell.above for cell in layer], room)
    for layer in reversed(layers[:-1]):
        _place(layer, [cell.below for cell in layer], room)
    for layer in layers[1:]:
        _place(layer, [cell.above for cell in layer], room)
        _straighten(layer, room)
    unused = min(cell.left for cell in chain.from_iterable(layers))
    for cell in chain.from_iterable(layers):
        cell.left -= unused
    return True


def _needed(layer: Sequence[Cell]) -> int:
    return sum(cell.width for cell in layer) + GAP * (len(layer) - 1)


def _place(layer: Sequence[Cell], neighbours: Sequence[Sequence[Cell]], room: int) -> None:
    """Move the cells of a wave to the middles of their neighbours, in their order and without overlap.

    The sum of the squared distances is the least possible, by pooling adjacent violators.
    """
    offsets = [0]
    for cell in layer:
        offsets.append(offsets[-1] + cell.width + GAP)
    wanted = []
    for cell, near, offset in zip(layer, neighbours, offsets, strict=False):
        middle = sum(each.middle for each in near) / len(near) if near else room / 2 if len(layer) == 1 else None
        wanted.append((cell.left if middle is None else middle - cell.width // 2) - offset)
    slack = room - (offsets[-1] - GAP)
    for cell, base, offset in zip(layer, _increasing(wanted), offsets, strict=False):
        cell.left = round(min(max(base, 0), slack)) + offset


def _straighten(layer: Sequence[Cell], room: int) -> None:
    """Move cells by one column where that makes the line to a single neighbour straight."""
    for place, cell in enumerate(layer):
        first = layer[place - 1].left + layer[place - 1].width + GAP if place else 0
        last = (layer[place + 1].left - GAP if place + 1 < len(layer) else room) - cell.width
        if len(cell.above) == 1 and abs(shift := cell.above[0].middle - cell.middle) == 1:
            cell.left = min(max(cell.left + shift, first), last)


def _increasing(values: Sequence[float]) -> Iterator[float]:
    """Yield the increasing sequence that is nearest to the values."""
    pools: list[tuple[float, int]] = []
    for value in values:
        total, count = float(value), 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            before, size = pools.pop()
            total, count = total + before, count + size
        pools.append((total, count))
    for total, count in pools:
        yield from [total / count] * count


def nets_between(layer: Iterable[Cell]) -> list[Net]:
    """Return the lines that go down from the cells of a wave. Each enters a box in a column of its own."""
    starts: dict[tuple[int, ...], list[Cell]] = {}
    for cell in layer:
        if cell.below:
            starts.setdefault(tuple(sorted(map(id, cell.below))), []).append(cell)
    nets = [(Net(tuple(sorted(cell.middle for cell in cells))), cells[0].below) for cells in starts.values()]
    entering: dict[int, tuple[Cell, list[Net]]] = {}
    for net, below in nets:
        for cell in below:
            entering.setdefault(id(cell), (cell, []))[1].append(net)
    used = {column for net, _ in nets for column in net.starts}
    for cell, each in entering.values():
        _enter(cell, sorted(each, key=lambda net: sum(net.starts) / len(net.starts)), used)
    return [net for net, _ in nets]


def _enter(cell: Cell, nets: Sequence[Net], starts: set[int]) -> None:
    """Choose the columns where lines end above a cell: not where another line starts, because the two would overlap."""
    inside = range(cell.left + 1, cell.left + cell.width - 1) if cell.node is not None else (cell.middle,)
    taken: set[int] = set()
    for place, net in enumerate(nets):
        wanted = cell.middle - len(nets) + 1 + 2 * place
        others = taken | (starts - set(net.starts))
        column = min(inside, key=lambda each: (each in others, abs(each - wanted)))
        taken.add(column)
        net.ends = tuple(sorted((*net.ends, column)))
        net.arrows = (*net.arrows, column) if cell.node is not None else net.arrows


def tracks_of(nets: Iterable[Net]) -> list[list[Net]] | None:
    """Return the lines that need a row, by row from the top; `None`: some would overlap in any order.

    The lines of a row do not touch. A line that starts in the column where another one ends is above it.
    """
    left = [net for net in nets if not net.straight]
    rows: list[list[Net]] = []
    while left:
        free = [net for net in left if not any(net is not other and _meets(other, net) for other in left)]
        if not free:
            return None
        row: list[Net] = []
        for net in sorted(free, key=lambda net: net.span):
            if not row or row[-1].span[1] + 1 < net.span[0]:
                row.append(net)
        rows.append(row)
        left = [net for net in left if not any(net is used for used in row)]
    return rows


def _meets(upper: Net, lower: Net) -> bool:
    """Return whether a line starts in a column where another one ends, and so has to be above it."""
    return not set(upper.starts).isdisjoint(lower.ends)
