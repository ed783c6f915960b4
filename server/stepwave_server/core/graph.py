"""The graph of a workflow: waves, and cycles by name. All of it is linear in steps and edges, and none recurses."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Edges", "cycles", "waves"]

Edges = Mapping[str, Sequence[str]]
"""For each step, in declaration order, the ids it depends on."""

MOST_CYCLES = 10


def waves(edges: Edges, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the wave of every step whose ancestors are all known and on no cycle.

    Kahn's algorithm (A. B. Kahn, "Topological sorting of large networks", CACM 5, 1962), counting unmet dependencies.

    Args:
        edges: The steps to place. Ids that are neither here nor in `known` leave their dependents unplaced.
        known: Waves of steps placed earlier.
    """
    known = known or {}
    unmet = {step_id: sum(dep not in known for dep in deps) for step_id, deps in edges.items()}
    level = {
        step_id: max((known[dep] + 1 for dep in deps if dep in known), default=0) for step_id, deps in edges.items()
    }
    dependents = _dependents(edges)
    free = deque(step_id for step_id, count in unmet.items() if count == 0)
    placed: dict[str, int] = {}
    while free:
        step_id = free.popleft()
        placed[step_id] = level[step_id]
        for dependent in dependents.get(step_id, ()):
            unmet[dependent] -= 1
            level[dependent] = max(level[dependent], placed[step_id] + 1)
            if unmet[dependent] == 0:
                free.append(dependent)
    return placed


def cycles(edges: Edges) -> Iterator[tuple[str, ...]]:
    """Yield disjoint dependency cycles, at most ten, each as `(a, b, a)`: a depends on b, which depends on a.

    Dependencies on ids outside of `edges` are no part of any cycle.
    """
    rest = {step_id: [dep for dep in deps if dep in edges] for step_id, deps in edges.items()}
    for _ in range(MOST_CYCLES):
        rest = _without(rest, waves(rest))
        if not rest:
            return
        cycle = _walk(rest)
        yield cycle
        rest = _without(rest, cycle)


def _without(edges: Mapping[str, list[str]], gone: Iterable[str]) -> dict[str, list[str]]:
    gone = set(gone)
    return {step_id: [dep for dep in deps if dep not in gone] for step_id, deps in edges.items() if step_id not in gone}


def _walk(edges: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Follow first dependencies until a step repeats. Every step here has one left, or it would have been placed."""
    step_id = next(iter(edges))
    path: dict[str, int] = {}
    while step_id not in path:
        path[step_id] = len(path)
        step_id = edges[step_id][0]
    trail = list(path)[path[step_id] :]
    return (*trail, step_id)


def _dependents(edges: Edges) -> dict[str, list[str]]:
    dependents: dict[str, list[str]] = {}
    for step_id, deps in edges.items():
        for dep in deps:
            dependents.setdefault(dep, []).append(step_id)
    return dependents
