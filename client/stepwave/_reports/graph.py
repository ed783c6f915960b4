"""The graph of a workflow, or of a run of it: its steps, their dependencies and their states.

The children of a `for_each` are one node, and so is each step of the workflows that they run. The node has the number
of these steps in each state. A nested workflow is within the node of its step.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from stepwave._convert.results import state_from_proto
from stepwave._model.results import State
from stepwave._values.text import one_line, plural
from stepwave.exceptions import InvalidExport
from stepwave.v1 import event_pb2, run_pb2, workflow_pb2
from stepwave.v1 import orchestrator_pb2 as pb

from .timeline import dependencies

__all__ = ["Graph", "GraphNode", "fold", "graph_of_plan", "graph_of_run", "graph_of_workflow", "limited"]

_INDEX = re.compile(r"\[\d+\]$")
_CHILDREN = "[]"  # ends the key of the children of a `for_each`
_MAX_EXPRESSION = 60  # characters of an expression that are shown
_MIN_FOLDED = 3  # steps that become one node
_SKIPPED = {
    run_pb2.SKIP_CAUSE_DEPENDENCY: "needs {}",
    run_pb2.SKIP_CAUSE_CONDITION: "its condition was false",
    run_pb2.SKIP_CAUSE_FAIL_FAST: "{} failed first",
    run_pb2.SKIP_CAUSE_CANCELLED: "the run was cancelled",
    run_pb2.SKIP_CAUSE_TIMEOUT: "the run timed out",
    run_pb2.SKIP_CAUSE_NOT_NEEDED: "{} was enough",
}
_JOINS = {workflow_pb2.JOIN_ANY: "after any", workflow_pb2.JOIN_ALL_DONE: "after all, in any state"}


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A step, or several that are shown as one.

    Attributes:
        key: The path of the step, without the indexes of items: `pages/fetch`. Unique in the graph.
        name: The id of the step in its workflow.
        action: The action; empty: the step runs the workflow in `inner`.
        needs: The keys of its dependencies.
        wave: The index of its wave in its workflow.
        state: Its state; of several steps, the one that says most. `None`: a plan has no states.
        notes: What else is known of it, each on one line: a condition, the number of items, why it was skipped.
        conditional: Whether it has a condition.
        steps: The number of steps that are shown as this node.
        inner: The steps of the workflow that it runs.
    """

    key: str
    name: str
    action: str
    needs: tuple[str, ...] = ()
    wave: int = 0
    state: State | None = None
    notes: tuple[str, ...] = ()
    conditional: bool = False
    steps: int = 1
    inner: "tuple[GraphNode, ...]" = ()

    @property
    def lines(self) -> tuple[str, ...]:
        """Its text: its name, its action, its state and its notes."""
        state = (str(self.state),) if self.state is not None else ()
        return (self.name, *((self.action,) if self.action else ()), *state, *self.notes)


@dataclass(frozen=True, slots=True)
class Graph:
    """The graph of a workflow or a run.

    Attributes:
        title: The name of the workflow; for a run, its id and the name.
        nodes: The nodes in the order of their declaration.
        state: The state of the run; `None`: it is a plan.
        hidden: The number of steps that are left out.
    """

    title: str
    nodes: tuple[GraphNode, ...]
    state: State | None = None
    hidden: int = 0


def graph_of_workflow(workflow: workflow_pb2.Workflow) -> Graph:
    """Return the graph of a workflow.

    Raises:
        ValueError: A step depends on an unknown step, or on itself through others.
    """
    return Graph(workflow.name, _Builder(None).build(workflow.steps, "", complete=True))


def graph_of_plan(plan: pb.Plan, steps: Iterable[pb.PlannedStep]) -> Graph:
    """Return the graph of a workflow that a server has planned."""
    definitions = [
        workflow_pb2.Step(
            id=step.step_id,
            action=step.action,
            depends_on=step.depends_on,
            when=step.when,
            join=step.join,
            fallback=step.fallback if step.HasField("fallback") else None,
            for_each=step.for_each if step.HasField("for_each") else None,
            workflow=step.workflow if step.HasField("workflow") else None,
        )
        for step in steps
    ]
    return Graph(plan.workflow_name, _Builder(None).build(definitions, "", complete=True))


def graph_of_run(definition: pb.RunDefinition, events: Iterable[event_pb2.RunEvent]) -> Graph:
    """Return the graph of what a run has done so far. A dependency that is not added yet has a node, too.

    Raises:
        InvalidExport: The events name a step that the run does not have.
    """
    run = _Run(definition.workflow.steps)
    for event in events:
        run.apply(event)
    nodes = _Builder(run).build(run.steps, "", complete=False)
    if unknown := run.states.keys() - run.known:
        names = ", ".join(sorted(it.removesuffix(_CHILDREN) for it in unknown)[:3])
        raise InvalidExport(f"run {definition.run_id!r}: its events name a step that it does not have: {names}")
    return Graph(f"{definition.run_id}: {definition.workflow.name}", nodes, run.state)


class _Run:
    """The steps and states of a run, read from its events. A key is a path without the indexes of items.

    Attributes:
        steps: The steps of the run's own workflow, with those that were added.
        added: The ids of the added steps.
        states: The state of each step, by key and id.
        results: The results of the steps that have ended and are not repeated, by id.
        items: The number of items, by the key of the `for_each`.
        workflows: The steps of the workflows that actions chose, by key.
        chosen: The first workflow that an action chose, by key.
        varied: The keys of steps whose children chose different workflows.
        state: The state of the run.
        known: The keys of the steps that the run has.
    """

    def __init__(self, steps: Iterable[workflow_pb2.Step]) -> None:
        self.steps = list(steps)
        self.added: set[str] = set()
        self.states: dict[str, dict[str, State]] = {}
        self.results: dict[str, run_pb2.StepResult] = {}
        self.items: Counter[str] = Counter()
        self.workflows: dict[str, workflow_pb2.Workflow] = {}
        self.chosen: dict[str, workflow_pb2.Workflow] = {}
        self.varied: set[str] = set()
        self.state = State.PENDING
        self.known: set[str] = set()

    def apply(self, event: event_pb2.RunEvent) -> None:
        """Apply the next event."""
        match event.WhichOneof("kind"):
            case "run_started":
                self.state = State.RUNNING
            case "run_finished":
                self.state = state_from_proto(event.run_finished.result.state)
            case "steps_added":
                self.steps += event.steps_added.steps
                self.added.update(step.id for step in event.steps_added.steps)
            case "step_started":
                self._set(event.step_started.step_id, State.RUNNING)
            case "step_expanded":
                self._expand(event.step_expanded)
            case "step_finished":
                result = event.step_finished.result
                self._set(result.step_id, state_from_proto(result.state))
                if "[" not in result.step_id:
                    self.results[result.step_id] = result

    def _expand(self, event: event_pb2.StepExpanded) -> None:
        self._set(event.step_id, State.RUNNING)
        key = _key(event.step_id).removesuffix(_CHILDREN)
        if event.HasField("item_count"):
            self.items[key] += event.item_count
        if event.HasField("workflow"):
            self._choose(key, event.workflow)

    def _choose(self, key: str, workflow: workflow_pb2.Workflow) -> None:
        """Add the workflow that an action chose. If children chose different ones, the steps of all are added."""
        if key not in self.workflows:
            self.workflows[key] = workflow_pb2.Workflow(steps=workflow.steps)
            self.chosen[key] = workflow
        elif self.chosen[key] != workflow:
            self.varied.add(key)
            present = {step.id for step in self.workflows[key].steps}
            self.workflows[key].steps.extend(step for step in workflow.steps if step.id not in present)

    def _set(self, step_id: str, state: State) -> None:
        self.states.setdefault(_key(step_id), {})[step_id] = state


def _key(step_id: str) -> str:
    """Return the path of a step without the indexes of items. `[]` at its end stands for an item."""
    parts = step_id.split("/")
    plain = "/".join(_INDEX.sub("", part) for part in parts)
    return plain + _CHILDREN if _INDEX.search(parts[-1]) else plain


class _Builder:
    """Builds the nodes of a graph.

    Args:
        run: What the run has done; `None`: it is a plan.
    """

    def __init__(self, run: _Run | None) -> None:
        self._run = run

    def build(
        self, steps: Sequence[workflow_pb2.Step], prefix: str, *, complete: bool, instances: int | None = None
    ) -> tuple[GraphNode, ...]:
        """Return the nodes of the steps of a workflow.

        Args:
            steps: The steps.
            prefix: What their keys begin with.
            complete: Whether every dependency must be among them.
            instances: How often the workflow runs, if it may run several times; `None`: it runs once.
        """
        needs = {step.id: dependencies(step) for step in steps}
        missing = dict.fromkeys(it for each in needs.values() for it in each if it not in needs)
        if complete and missing:
            step_id, unknown = next((it, name) for it, each in needs.items() for name in each if name in missing)
            raise ValueError(f'step "{prefix}{step_id}" depends on the unknown step "{unknown}"')
        waves = _waves({**dict.fromkeys(missing, ()), **needs}, prefix)
        state = None if self._run is None else State.PENDING
        nodes = [
            GraphNode(f"{prefix}{it}", it, "", wave=waves[it], state=state, notes=("not added yet",)) for it in missing
        ]
        nodes += [self._node(step, prefix, needs[step.id], waves[step.id], instances) for step in steps]
        return tuple(nodes)

    def _node(
        self, step: workflow_pb2.Step, prefix: str, needs: Iterable[str], wave: int, instances: int | None
    ) -> GraphNode:
        key = prefix + step.id
        runs_list = step.HasField("for_each")
        chosen = None if self._run is None else self._run.workflows.get(key)
        inner = step.workflow if step.HasField("workflow") else chosen
        state, notes = self._progress(key, instances)
        items = (self._run.items[key] if self._run is not None else 0) if runs_list else instances
        return GraphNode(
            key=key,
            name=step.id,
            action="" if step.HasField("workflow") else step.action,
            needs=tuple(f"{prefix}{it}" for it in needs),
            wave=wave,
            state=state,
            notes=(*self._definition_notes(step, key), *notes),
            conditional=bool(step.when),
            inner=self._inner(inner, key, items) if inner is not None else (),
        )

    def _inner(self, workflow: workflow_pb2.Workflow, key: str, instances: int | None) -> tuple[GraphNode, ...]:
        return self.build(workflow.steps, f"{key}/", complete=self._run is None, instances=instances)

    def _definition_notes(self, step: workflow_pb2.Step, key: str) -> Iterator[str]:
        if step.when:
            yield f"if {_short(step.when)}"
        if step.join in _JOINS:
            yield _JOINS[step.join]
        if step.HasField("fallback"):
            yield f"falls back on {step.fallback.action.action or 'a value'}"
        if step.HasField("for_each"):
            yield self._items(step.for_each, key)
        if self._run is not None and key in self._run.varied:
            yield "other items run other workflows"
        if self._run is not None and key in self._run.added:
            yield "added"

    def _items(self, for_each: workflow_pb2.ForEach, key: str) -> str:
        """Return the list of a `for_each`, or what became of its items."""
        if self._run is not None and key in self._run.items:
            states = self._run.states.get(f"{key}{_CHILDREN}", {})
            total = self._run.items[key]
            return f"{plural(total, 'item')}: {_tally(states, total)}" if total else "no items"
        match for_each.WhichOneof("source"):
            case "step":
                return f"for each of {_short(for_each.step.id + for_each.step.path)}"
            case "input":
                return f"for each of input{_short(for_each.input)}"
            case "expression":
                return f"for each of {_short(for_each.expression)}"
            case _:
                return "for each of a list"

    def _progress(self, key: str, instances: int | None) -> tuple[State | None, list[str]]:
        """Return the state of a step, and the notes that the run adds."""
        if self._run is None:
            return None, []
        self._run.known.update((key, key + _CHILDREN))
        states = self._run.states.get(key, {})
        if instances is not None:
            total = max(instances, len(states))
            return _summary(Counter(states.values()), total), [_tally(states, total)] if total else []
        result = self._run.results.get(key)
        return states.get(key, State.PENDING), list(_result_notes(result)) if result is not None else []


def _result_notes(result: run_pb2.StepResult) -> Iterator[str]:
    if result.HasField("skip_reason") and (why := _SKIPPED.get(result.skip_reason.cause)):
        yield why.format(result.skip_reason.step_id or "another step")
    if result.reused_from:
        yield "reused"
    if result.HasField("original_failure") and result.state == run_pb2.STATE_SUCCEEDED:
        yield "by its fallback"
    if result.attempts > 1:
        yield f"{result.attempts:,} attempts"


def _summary(counts: Mapping[State, int], total: int) -> State:
    """Return the state that says most of several steps."""
    for state in (State.FAILED, State.CANCELLED, State.RUNNING):
        if counts.get(state):
            return state
    ended = sum(counts.values())
    if ended < total or not total:
        return State.RUNNING if ended else State.PENDING
    return State.SUCCEEDED if counts.get(State.SUCCEEDED) else State.SKIPPED


def _tally(states: Mapping[str, State], total: int) -> str:
    """Return the number of steps in each state: `410 succeeded, 2 failed`."""
    counts = Counter(states.values())
    counts[State.PENDING] += max(total - len(states), 0)
    return ", ".join(f"{counts[state]:,} {state}" for state in State if counts[state])


def _short(text: str) -> str:
    line = one_line(text)
    return line if len(line) <= _MAX_EXPRESSION else f"{line[: _MAX_EXPRESSION - 1]}…"


def _waves(needs: Mapping[str, Sequence[str]], prefix: str) -> dict[str, int]:
    """Return the wave of each step: 0 without dependencies, else one more than the highest of its dependencies.

    Raises:
        ValueError: A step depends on itself through others.
    """
    dependents: dict[str, list[str]] = {step_id: [] for step_id in needs}
    for step_id, deps in needs.items():
        for dep in deps:
            dependents[dep].append(step_id)
    left = {step_id: len(deps) for step_id, deps in needs.items()}
    waves = {step_id: 0 for step_id, count in left.items() if not count}
    queue = list(waves)
    for step_id in queue:
        for dependent in dependents[step_id]:
            left[dependent] -= 1
            waves[dependent] = max(waves.get(dependent, 0), waves[step_id] + 1)
            if not left[dependent]:
                queue.append(dependent)
    if len(queue) < len(needs):
        stuck = next(step_id for step_id, count in left.items() if count)
        raise ValueError(f'step "{prefix}{stuck}" is in a cycle of dependencies, or depends on one')
    return waves


def limited(graph: Graph, *, nodes: int, edges: int) -> Graph:
    """Return a graph of at most so many nodes and edges in each workflow.

    If there are more, steps that differ in their names alone become one node. If that is not enough, the last steps are
    left out. The steps of nested workflows are not shown for those.
    """
    kept, hidden = _limited(graph.nodes, nodes, edges)
    return replace(graph, nodes=kept, hidden=graph.hidden + hidden)


def _limited(level: Sequence[GraphNode], nodes: int, edges: int) -> tuple[tuple[GraphNode, ...], int]:
    if len(level) > nodes or sum(len(node.needs) for node in level) > edges:
        level = fold(level)
    hidden = drawn = 0
    kept: list[GraphNode] = []
    for node in sorted(level, key=lambda node: node.wave):
        drawn += len(node.needs)
        if hidden or len(kept) == nodes or drawn > edges:
            hidden += node.steps
            continue
        inner, within = _limited(node.inner, nodes, edges)
        hidden_note = (f"and {plural(within, 'more step')}",) if within else ()
        kept.append(replace(node, inner=inner, notes=(*node.notes, *hidden_note)))
    return tuple(kept), hidden


def fold(level: Sequence[GraphNode]) -> list[GraphNode]:
    """Make nodes that have the same dependencies, dependents, action and state one node."""
    dependents: dict[str, list[str]] = {node.key: [] for node in level}
    for node in level:
        for need in node.needs:
            dependents[need].append(node.key)
    groups: dict[object, list[GraphNode]] = {}
    for node in level:
        alike = (frozenset(node.needs), frozenset(dependents[node.key]), node.action, node.state, node.notes)
        groups.setdefault(node.key if node.inner else alike, []).append(node)
    folded = [[_joined(group)] if len(group) >= _MIN_FOLDED else group for group in groups.values()]
    new_keys = {
        node.key: group[0].key if len(group) >= _MIN_FOLDED else node.key for group in groups.values() for node in group
    }
    return [
        replace(node, needs=tuple(dict.fromkeys(new_keys[need] for need in node.needs)))
        for node in chain.from_iterable(folded)
    ]


def _joined(group: Sequence[GraphNode]) -> GraphNode:
    first, last = group[0], group[-1]
    notes = (plural(len(group), "step"), *first.notes)
    return replace(first, name=f"{first.name} … {last.name}", notes=notes, steps=len(group))
