"""Validation of a workflow: every problem at once, each with the field to blame."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite

from .graph import cycles
from .model import (
    SECOND,
    Binding,
    FallbackAction,
    FromInput,
    FromItem,
    FromSecret,
    FromStep,
    Reason,
    Retry,
    Scheduling,
    Step,
    Workflow,
    immutable,
)

__all__ = [
    "MAX_ATTEMPTS",
    "SECRET_NAME",
    "Limits",
    "Present",
    "Violation",
    "did_you_mean",
    "pointer_problem",
    "retry_problems",
    "validate",
    "validate_addition",
]

STEP_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,127}")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")

MAX_KNOWN = 2_000
MAX_COMPARED = 500_000
"""Bounds of the search for near names: known names, pairs of letters, and unknown names in all. Beyond them, the search
would take minutes."""
MAX_HINTS = 20

MAX_SECRET_DEPTH = 100
"""Objects and lists around a secret. A deeper place would take long to check."""


@immutable
class Violation:
    """A field to blame, as `steps[3].depends_on[0]`, and what is wrong with it.

    Attributes:
        field: The path of the field.
        description: The problem, for a person.
        reason: The kind of problem, for programs, such as `UNKNOWN_ACTION`; empty: it has no kind of its own.
    """

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one workflow."""

    max_steps: int = 200_000
    max_edges: int = 1_000_000


@immutable
class Present:
    """The facts of a run that the validation of an addition needs.

    Attributes:
        names: The ids of all its steps.
        same: Those of its steps that are added again.
        loose: Steps without a wave that may be on a cycle with new ones.
        awaited: For ids that are still to come, a step that refers to each.
        edges: How many dependencies it has.
    """

    names: Collection[str] = ()
    same: Mapping[str, Step] = field(default_factory=dict)
    loose: Mapping[str, Step] = field(default_factory=dict)
    awaited: Mapping[str, str] = field(default_factory=dict)
    edges: int = 0


@dataclass(slots=True)
class _Check:
    """The state of one validation: the steps, the facts of the run, and the problems found."""

    steps: Sequence[Step]
    present: Present = field(default_factory=Present)
    forward: bool = False
    found: list[Violation] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    hints: int = MAX_HINTS

    def blame(self, path: str, description: str) -> None:
        self.found.append(Violation(path, description))


def validate(workflow: Workflow, limits: Limits, *, open_run: bool = False) -> list[Violation]:
    """Return every problem of a workflow; empty: it can run.

    Args:
        workflow: The workflow.
        limits: Its bounds.
        open_run: Steps may be added later. References to steps that are still to come are allowed, and no steps at all.
    """
    check = _Check(workflow.steps, forward=open_run)
    if open_run and workflow.scheduling is Scheduling.WAVE:
        check.blame("scheduling", "an open run cannot be scheduled by waves")
    if _within(check, limits):
        _check_workflow(check, workflow)
    else:
        _check_head(check, workflow)
    return check.found


def _check_workflow(check: _Check, workflow: Workflow) -> None:
    _check_head(check, workflow)
    _check_steps(check)
    for position, step_id in enumerate(workflow.outputs):
        if step_id not in check.ids and not check.forward:
            check.blame(f"outputs[{position}]", _unknown(check, step_id))


def _check_head(check: _Check, workflow: Workflow) -> None:
    """Check what does not depend on the graph."""
    if not NAME.fullmatch(workflow.name):
        check.blame("name", _malformed(workflow.name, NAME))
    if not workflow.steps and not check.forward:
        check.blame("steps", "a workflow needs at least one step")
    _check_retry(check, workflow.retry, "retry")


def _check_nested(check: _Check, workflow: Workflow, path: str) -> None:
    """Check the workflow that a step runs. Its steps refer to each other alone."""
    nested = _Check(workflow.steps, hints=check.hints)
    _check_workflow(nested, workflow)
    check.hints = nested.hints
    check.found += [replace(problem, field=f"{path}.{problem.field}") for problem in nested.found]


def validate_addition(steps: Sequence[Step], present: Present, limits: Limits, *, seal: bool) -> list[Violation]:
    """Return every problem of steps to be added to an open run."""
    check = _Check(steps, present, forward=not seal)
    if _within(check, limits):
        _check_steps(check)
        if seal:
            _check_sealed(check)
    return check.found


def _within(check: _Check, limits: Limits) -> bool:
    """Say whether the graph is within its bounds. A graph that is not is checked no further."""
    fresh = [step for step in check.steps if step.id not in check.present.same]
    fresh_steps, fresh_edges = _size(fresh)
    steps = len(check.present.names) + fresh_steps
    if steps > limits.max_steps:
        check.blame("steps", f"{steps:,} steps are more than the {limits.max_steps:,} allowed")
        return False
    edges = check.present.edges + fresh_edges
    if edges > limits.max_edges:
        check.blame("steps", f"{edges:,} dependencies are more than the {limits.max_edges:,} allowed")
        return False
    return True


def _size(steps: Sequence[Step]) -> tuple[int, int]:
    """Return the number of steps and of dependencies, those of nested workflows included."""
    count, edges = len(steps), sum(step.edges for step in steps)
    for step in steps:
        if step.workflow is not None:
            nested_count, nested_edges = _size(step.workflow.steps)
            count, edges = count + nested_count, edges + nested_edges
    return count, edges


def _check_steps(check: _Check) -> None:
    for index, step in enumerate(check.steps):
        if problem := _id_problem(check, index, step):
            check.blame(f"steps[{index}].id", problem)
    ordered = True
    for index, step in enumerate(check.steps):
        for position, dep in enumerate(step.depends_on):
            if problem := _dependency_problem(check, step, dep):
                check.blame(f"steps[{index}].depends_on[{position}]", problem)
            ordered = ordered and (check.ids[dep] < index if dep in check.ids else dep not in check.present.loose)
        ordered = _check_parts(check, step, f"steps[{index}]") and ordered
    if not ordered:  # where every dependency is declared before its dependents, no cycle can be
        _check_cycles(check)


def _check_parts(check: _Check, step: Step, path: str) -> bool:
    """Check what only some steps have. Return whether it adds no dependencies."""
    if step.concurrency_key and (problem := pointer_problem(step.concurrency_key)):
        check.blame(f"{path}.concurrency_key", problem)
    if step.bindings:
        _check_bindings(check, step, step.bindings, f"{path}.bindings")
    if step.retry is not None:
        _check_retry(check, step.retry, f"{path}.retry")
    if isinstance(step.fallback, FallbackAction):
        _check_bindings(check, step, step.fallback.bindings, f"{path}.fallback.action.bindings")
    if step.for_each is not None:
        _check_source(check, step, step.for_each.source, f"{path}.for_each")
    if step.workflow is not None:
        _check_nested(check, step.workflow, f"{path}.workflow")
    return not step.bindings and step.for_each is None and not isinstance(step.fallback, FallbackAction)


def _id_problem(check: _Check, index: int, step: Step) -> str:
    first = check.ids.setdefault(step.id, index)
    if not STEP_ID.fullmatch(step.id):
        return _malformed(step.id, STEP_ID)
    if first != index:
        return f'"{step.id}" is the id of steps[{first}] already'
    if check.present.same and check.present.same.get(step.id, step) != step:
        return f'the run has another step "{step.id}" already'
    return ""


def _dependency_problem(check: _Check, step: Step, dep: str) -> str:
    if dep == step.id:
        return f'step "{dep}" depends on itself'
    if dep in check.ids or dep in check.present.names:
        return ""
    if not check.forward:
        return _unknown(check, dep)
    return "" if STEP_ID.fullmatch(dep) else _malformed(dep, STEP_ID)


def _check_retry(check: _Check, retry: Retry | None, path: str) -> None:
    for field_name, problem in () if retry is None else retry_problems(retry):
        check.blame(f"{path}.{field_name}", problem)


def _check_bindings(check: _Check, step: Step, bindings: Sequence[Binding], path: str) -> None:
    targets: dict[str, int] = {}
    for binding in bindings:
        place = f"{path}[{binding.position}]"
        if binding.target in targets:
            what = f'"{binding.target}"' if binding.target else "the whole input"
            check.blame(f"{place}.target", f"bindings[{targets[binding.target]}] fills {what} already")
        targets.setdefault(binding.target, binding.position)
        _check_binding(check, step, binding, place)
        if isinstance(binding.source, FromSecret):
            _check_secret(check, binding, binding.source.name, place)
    _check_order(check, bindings, path)


def _check_binding(check: _Check, step: Step, binding: Binding, path: str) -> None:
    if problem := pointer_problem(binding.target):
        check.blame(f"{path}.target", problem)
    _check_source(check, step, binding.source, path)


def _check_secret(check: _Check, binding: Binding, name: str, path: str) -> None:
    """Check a binding to a secret, whose value is put where the target says when the input is complete."""
    if not SECRET_NAME.fullmatch(name):
        check.blame(f"{path}.secret", _malformed(name, SECRET_NAME))
    if binding.default is not None:
        check.blame(f"{path}.default", "must not be set beside `secret`: a secret that has no value fails the step")
    if binding.target.count("/") > MAX_SECRET_DEPTH:
        check.blame(f"{path}.target", f"a secret is within at most {MAX_SECRET_DEPTH} objects and lists")
    if "-" in binding.target.split("/"):
        check.blame(f"{path}.target", 'a secret needs a place of its own: "-" names none')


def _check_order(check: _Check, bindings: Sequence[Binding], path: str) -> None:
    """Report bindings that would replace a secret that an earlier binding has put into the input."""
    if not any(isinstance(binding.source, FromSecret) for binding in bindings):
        return
    seen: set[str] = set()
    for binding in reversed(bindings):
        if isinstance(binding.source, FromSecret) and (over := _around(binding.target, seen)) is not None:
            check.blame(f"{path}[{binding.position}].target", f'a later binding to "{over}" replaces this secret')
        seen.add(binding.target)


def _around(pointer: str, targets: Collection[str]) -> str | None:
    """Return a target that a place is within; `None`: there is none."""
    parts = pointer.split("/", MAX_SECRET_DEPTH)
    around = ("/".join(parts[:count]) for count in range(1, len(parts)))
    return next((each for each in around if each in targets), None)


def _check_source(check: _Check, step: Step, source: object, path: str) -> None:
    """Check the source of a binding or list. The engine checks expressions, and fixed lists are checked already."""
    match source:
        case FromStep(step_id, pointer):
            if problem := _dependency_problem(check, step, step_id):
                check.blame(f"{path}.step.id", problem)
            path = f"{path}.step.path"
        case FromInput(pointer):
            path = f"{path}.input"
        case FromItem(pointer):
            path = f"{path}.item"
        case _:
            return
    if problem := pointer_problem(pointer):
        check.blame(path, problem)


def _check_cycles(check: _Check) -> None:
    """Report every cycle. Steps of the run can be on one only through a reference to a step still to come."""
    steps = (*check.present.loose.values(), *check.steps)
    edges = {step.id: [dep for dep in step.dependencies() if dep != step.id] for step in steps}
    for cycle in cycles(edges):
        index = min((check.ids[step_id] for step_id in cycle if step_id in check.ids), default=0)
        check.blame(f"steps[{index}].depends_on", f"dependency cycle: {' → '.join(_rotate(cycle, check, index))}")


def _rotate(cycle: tuple[str, ...], check: _Check, index: int) -> tuple[str, ...]:
    """Return the cycle, beginning with the step to blame."""
    ring = cycle[:-1]
    start = next((place for place, step_id in enumerate(ring) if check.ids.get(step_id) == index), 0)
    return (*ring[start:], *ring[:start], ring[start])


def _check_sealed(check: _Check) -> None:
    """Report references of the run's steps to steps that never came."""
    for dep, step_id in check.present.awaited.items():
        if dep not in check.ids:
            check.blame("seal", f'step "{step_id}" depends on "{dep}", which was never added')


def pointer_problem(pointer: str) -> str:
    """Return the problem of a JSON Pointer (RFC 6901); empty: none."""
    if POINTER.fullmatch(pointer):
        return ""
    if not pointer.startswith("/"):
        return f'malformed JSON Pointer "{pointer}": it must be empty or begin with "/"'
    return f'malformed JSON Pointer "{pointer}": "~" must be followed by 0 or 1'


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return `; did you mean "x"?` for the nearest known name, or an empty text."""
    if len(known) > MAX_KNOWN or len(name) * sum(map(len, known)) > MAX_COMPARED:
        return ""
    near = difflib.get_close_matches(name, known, n=1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _unknown(check: _Check, step_id: str) -> str:
    check.hints -= 1
    hint = did_you_mean(step_id, (*check.present.names, *check.ids)) if check.hints >= 0 else ""
    return f'unknown step "{step_id}"{hint}'


def _malformed(name: str, pattern: re.Pattern[str]) -> str:
    return f'malformed name "{name}": want {pattern.pattern}' if name else "must not be empty"


MAX_ATTEMPTS = 1_000

NOT_RETRIED = {
    Reason.CANCELLED: "what was cancelled is not tried again",
    Reason.INTERRUPTED: "an attempt that ended with its server is tried again without a policy: see `on_interrupt`",
}


def retry_problems(retry: Retry) -> Iterator[tuple[str, str]]:
    """Yield every problem of a policy, as the field and the problem."""
    if not 1 <= retry.max_attempts <= MAX_ATTEMPTS:
        yield "max_attempts", f"must be 1 to {MAX_ATTEMPTS:,}, got {retry.max_attempts:,}"
    if retry.initial_backoff < 0:
        yield "initial_backoff", f"must not be negative, got {_seconds(retry.initial_backoff)}"
    if not (isfinite(retry.backoff_multiplier) and retry.backoff_multiplier >= 1):
        yield "backoff_multiplier", f"must be a number of at least 1, got {retry.backoff_multiplier:g}"
    if retry.max_backoff < retry.initial_backoff:
        longest, first = _seconds(retry.max_backoff), _seconds(retry.initial_backoff)
        yield "max_backoff", f"must be at least `initial_backoff`, {first}, and is {longest}"
    if not 0 <= retry.jitter <= 1:
        yield "jitter", f"must be 0 to 1, got {retry.jitter:g}"
    for position, reason in enumerate(retry.retryable_reasons):
        if reason in NOT_RETRIED:
            yield f"retryable_reasons[{position}]", NOT_RETRIED[reason]


def _seconds(nanos: int) -> str:
    return f"{nanos / SECOND:g} s"
