"""What is wrong with a workflow's graph: all of it at once, each problem with the field to blame."""

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from .graph import cycles
from .model import Binding, FromStep, Scheduling, Step, Workflow
from .record import record

__all__ = ["Limits", "Violation", "did_you_mean", "pointer_problem", "validate", "validate_addition"]

STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")

MOST_SUGGESTIONS = 2_000
"""More known names than this are not searched for near ones: it would take seconds."""


@record
class Violation:
    """A field to blame, as `steps[3].depends_on[0]`, and what is wrong with it."""

    field: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one workflow."""

    max_steps: int = 200_000
    max_edges: int = 1_000_000


@dataclass(slots=True)
class _Check:
    """The steps under scrutiny, those a run has already, and what was found."""

    steps: Sequence[Step]
    existing: dict[str, Step] = field(default_factory=dict)
    forward: bool = False
    found: list[Violation] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)

    def blame(self, path: str, description: str) -> None:
        self.found.append(Violation(path, description))


def validate(workflow: Workflow, limits: Limits, *, open_run: bool = False) -> list[Violation]:
    """Return every problem of a workflow's graph; empty if it can run.

    Args:
        workflow: What to check.
        limits: Bounds it must keep.
        open_run: Steps may be added later: references to steps still to come, and no steps at all, are allowed.
    """
    check = _Check(workflow.steps, forward=open_run)
    if not NAME.fullmatch(workflow.name):
        check.blame("name", _malformed(workflow.name, NAME))
    if not workflow.steps and not open_run:
        check.blame("steps", "a workflow needs at least one step")
    if open_run and workflow.scheduling is Scheduling.WAVE:
        check.blame("scheduling", "an open run cannot be scheduled by waves")
    if not _within(check, limits):
        return check.found
    _check_steps(check)
    for position, step_id in enumerate(workflow.outputs):
        if step_id not in check.ids and not open_run:
            check.blame(f"outputs[{position}]", _unknown(step_id, check.ids))
    return check.found


def validate_addition(
    steps: Sequence[Step], existing: dict[str, Step], limits: Limits, *, seal: bool
) -> list[Violation]:
    """Return every problem of steps to be added to an open run that has the `existing` ones."""
    check = _Check(steps, existing=existing, forward=not seal)
    if _within(check, limits):
        _check_steps(check)
        if seal:
            _check_sealed(check)
    return check.found


def _within(check: _Check, limits: Limits) -> bool:
    """Say whether the graph keeps its bounds; one that doesn't is not looked at any further."""
    steps = len(check.steps) + len(check.existing)
    if steps > limits.max_steps:
        check.blame("steps", f"{steps:,} steps are more than the {limits.max_steps:,} allowed")
        return False
    edges = sum(len(step.depends_on) + len(step.bindings) for step in (*check.existing.values(), *check.steps))
    if edges > limits.max_edges:
        check.blame("steps", f"{edges:,} dependencies are more than the {limits.max_edges:,} allowed")
        return False
    return True


def _check_steps(check: _Check) -> None:
    for index, step in enumerate(check.steps):
        if problem := _id_problem(check, index, step):
            check.blame(f"steps[{index}].id", problem)
    ordered = True
    for index, step in enumerate(check.steps):
        for position, dep in enumerate(step.depends_on):
            if problem := _dependency_problem(check, step, dep):
                check.blame(f"steps[{index}].depends_on[{position}]", problem)
            ordered = ordered and check.ids.get(dep, index) < index
        for binding in step.bindings:
            _check_binding(check, step, binding, f"steps[{index}].bindings[{binding.position}]")
            ordered = False
    if not ordered:  # where every dependency is declared before its dependents, no cycle can be
        _check_cycles(check)


def _id_problem(check: _Check, index: int, step: Step) -> str:
    first = check.ids.setdefault(step.id, index)
    if not STEP_ID.fullmatch(step.id):
        return _malformed(step.id, STEP_ID)
    if first != index:
        return f'"{step.id}" is the id of steps[{first}] already'
    if check.existing and check.existing.get(step.id, step) != step:
        return f'the run has another step "{step.id}" already'
    return ""


def _dependency_problem(check: _Check, step: Step, dep: str) -> str:
    if dep == step.id:
        return f'step "{dep}" depends on itself'
    if dep in check.ids or dep in check.existing:
        return ""
    if not check.forward:
        return _unknown(dep, check.ids)
    return "" if STEP_ID.fullmatch(dep) else _malformed(dep, STEP_ID)


def _check_binding(check: _Check, step: Step, binding: Binding, path: str) -> None:
    if problem := pointer_problem(binding.target):
        check.blame(f"{path}.target", problem)
    if isinstance(binding.source, FromStep):
        if problem := _dependency_problem(check, step, binding.source.step_id):
            check.blame(f"{path}.step.id", problem)
        path = f"{path}.step.path"
    else:
        path = f"{path}.input"
    if problem := pointer_problem(binding.source.path):
        check.blame(path, problem)


def _check_cycles(check: _Check) -> None:
    """Name every cycle. Steps that are there already can be on one only through a reference to a step still to come."""
    edges = {step.id: [dep for dep in step.dependencies() if dep != step.id] for step in _all_steps(check)}
    for cycle in cycles(edges):
        index = min((check.ids[step_id] for step_id in cycle if step_id in check.ids), default=0)
        check.blame(f"steps[{index}].depends_on", f"dependency cycle: {' → '.join(_rotate(cycle, check, index))}")


def _rotate(cycle: tuple[str, ...], check: _Check, index: int) -> tuple[str, ...]:
    """Begin the cycle at the step that is blamed."""
    ring = cycle[:-1]
    start = next((place for place, step_id in enumerate(ring) if check.ids.get(step_id) == index), 0)
    return (*ring[start:], *ring[:start], ring[start])


def _check_sealed(check: _Check) -> None:
    """Refuse a seal while steps that are there already refer to some that never came."""
    for step in check.existing.values():
        for dep in step.dependencies():
            if dep not in check.ids and dep not in check.existing:
                check.blame("seal", f'step "{step.id}" depends on "{dep}", which was never added')


def _all_steps(check: _Check) -> Iterator[Step]:
    yield from check.existing.values()
    yield from (step for step in check.steps if step.id not in check.existing)


def pointer_problem(pointer: str) -> str:
    """Say what is wrong with a JSON Pointer (RFC 6901); empty if nothing is."""
    if POINTER.fullmatch(pointer):
        return ""
    if not pointer.startswith("/"):
        return f'malformed JSON Pointer "{pointer}": it must be empty or begin with "/"'
    return f'malformed JSON Pointer "{pointer}": "~" must be followed by 0 or 1'


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `; did you mean "x"?` for a near one of the known names, else nothing."""
    if len(known) > MOST_SUGGESTIONS:
        return ""
    near = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _unknown(step_id: str, known: Collection[str]) -> str:
    return f'unknown step "{step_id}"{did_you_mean(step_id, known)}'


def _malformed(name: str, pattern: re.Pattern[str]) -> str:
    return f'malformed name "{name}": want {pattern.pattern}' if name else "must not be empty"
