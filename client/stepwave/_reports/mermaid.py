"""The graph of a workflow or a run as a flowchart of Mermaid, which Markdown pages of many tools draw."""

from collections.abc import Iterable, Iterator

from stepwave._model.results import State
from stepwave._values.text import one_line

from .graph import Graph, GraphNode

__all__ = ["MAX_EDGES", "MAX_NODES", "mermaid"]

MAX_NODES = 200
MAX_EDGES = 500
"""Edges that Mermaid draws unless it is configured otherwise."""

_COLORS = {
    State.PENDING: ("#f4f4f5", "#a1a1aa", "stroke-dasharray:4"),
    State.RUNNING: ("#e0f2fe", "#0284c7", "stroke-width:3px"),
    State.SUCCEEDED: ("#dcfce7", "#16a34a", ""),
    State.FAILED: ("#fee2e2", "#dc2626", "stroke-width:3px"),
    State.CANCELLED: ("#fef9c3", "#ca8a04", ""),
    State.SKIPPED: ("#fafafa", "#d4d4d8", "stroke-dasharray:2"),
}
_PLAIN = frozenset(" !$'()*+,-./:=?@[]^_~")
"""ASCII characters beside letters and digits that mean nothing within a quoted text. Others become numbers."""


def mermaid(graph: Graph) -> str:
    """Return the text of a flowchart. Nodes are named `n0`, `n1`, …; the names of steps are in their texts."""
    names = {node.key: f"n{number}" for number, node in enumerate(_all(graph.nodes))}
    title = one_line(graph.title) + (f"  {graph.state}" if graph.state is not None else "")
    lines = ["flowchart TD", f"  %% {_comment(title)}"]
    if graph.hidden:  # a node of its own, because a comment is not seen
        lines.append(f"  hidden[{_text([f'and {graph.hidden:,} more steps'])}]")
    lines += _nodes(graph.nodes, names, "  ")
    lines += _edges(graph.nodes, names)
    lines += _classes(graph.nodes, names)
    return "\n".join(lines) + "\n"


def _nodes(nodes: Iterable[GraphNode], names: dict[str, str], indent: str) -> Iterator[str]:
    for node in nodes:
        name, text = names[node.key], _text(node.lines)
        if node.inner:
            yield f"{indent}subgraph {name}[{text}]"
            yield from _nodes(node.inner, names, indent + "  ")
            yield f"{indent}end"
        else:
            yield f"{indent}{name}{'{{' if node.conditional else '['}{text}{'}}' if node.conditional else ']'}"


def _edges(nodes: Iterable[GraphNode], names: dict[str, str]) -> Iterator[str]:
    """Yield the edges. One to a step with a condition is dotted."""
    for node in _all(nodes):
        for need in node.needs:
            if need in names:
                yield f"  {names[need]} {'-.->' if node.conditional else '-->'} {names[node.key]}"


def _classes(nodes: Iterable[GraphNode], names: dict[str, str]) -> Iterator[str]:
    """Yield the colours of the states, and the nodes that have them."""
    members: dict[State, list[str]] = {}
    for node in _all(nodes):
        if node.state is not None:
            members.setdefault(node.state, []).append(names[node.key])
    for state, (fill, stroke, more) in _COLORS.items():
        if state in members:
            yield f"  classDef {state} fill:{fill},stroke:{stroke},color:#18181b" + (f",{more}" if more else "")
            yield f"  class {','.join(members[state])} {state}"


def _all(nodes: Iterable[GraphNode]) -> Iterator[GraphNode]:
    for node in nodes:
        yield node
        yield from _all(node.inner)


def _text(lines: Iterable[str]) -> str:
    """Return lines as a quoted text. Characters that mean something to Mermaid or to HTML become their numbers."""
    texts = ["".join(map(_character, one_line(line))) for line in lines]
    return '"' + ("<br/>".join(filter(None, texts)) or "?") + '"'


def _character(character: str) -> str:
    if character.isalnum() or character in _PLAIN or ord(character) > 127:
        return character
    return f"#{ord(character)};"


def _comment(text: str) -> str:
    return "".join(character for character in text if character not in "{}%")
