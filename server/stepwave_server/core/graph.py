"""The graph of a workflow: waves and cycles. Everything is linear in steps and edges, without recursion."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Edges", "cycles", "waves"]

Edges = Mapping[str, Sequence[str]]
"""For each step, in declaration order, the ids it depends on."""

MAX_CYCLES = 10


def waves(edges: Edges, known: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the wave of every step whose ancestors are all known and on no cycle.

    Kahn's algorithm (A. B. Kahn, "Topological sorting of large networks", CACM 5, 1962), counting unmet dependencies.

    Args:
        edges: The steps to place. Ids that are neither here nor in `known` leave their dependents unplaced.
        known: Waves of steps placed earlier.
    """
    known = known or {}
    unmet: dict[str, int] = {}
    dependents: dict[str, list[str]] = {}
    level: dict[str, int] = {}
    for step_id, deps in edges.items():
        waiting = len(deps)
        for dep in deps:
            if dep in known:
                waiting -= 1
                level[step_id] = max(level.get(step_id, 0), known[dep] + 1)
            else:
                dependents.setdefault(dep, []).append(step_id)
        unmet[step_id] = waiting
    front = [step_id for step_id, count in unmet.items() if count == 0]
    placed: dict[str, int] = {}
    for step_id in front:  # grows as it goes
        wave = placed[step_id] = level.get(step_id, 0)
        for dependent in dependents.get(step_id, ()):
            if level.get(dependent, 0) <= wave:
                level[dependent] = wave + 1
            unmet[dependent] -= 1
            if unmet[dependent] == 0:
                front.append(dependent)
    return placed


def cycles(edges: Edges) -> Iterator[tuple[str, ...]]:
    """Yield disjoint dependency cycles, at most ten, each as `(a, b, a)`: a depends on b, which depends on a.

    Dependencies on ids outside of `edges` are no part of any cycle.
    """
    rest = {step_id: [dep for dep in deps if dep in edges] for step_id, deps in edges.items()}
    for _ in range(MAX_CYCLES):
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
    """Follow first dependencies until a step repeats. Every step here has a dependency left, or it would be placed."""
    step_id = next(iter(edges))
    path: dict[str, int] = {}
    while step_id not in path:
        path[step_id] = len(path)
        step_id = edges[step_id][0]
    trail = list(path)[path[step_id] :]
    return (*trail, step_id)
