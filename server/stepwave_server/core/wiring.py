"""The edges of a run's graphs: steps are linked to their dependencies, get their waves, and count ends for their joins.

Every edge is visited a fixed number of times, in whatever order steps are added. A step gets its level, and with it its
wave, when it has counted down its dependencies that have none. The steps of lists and nested workflows have the wave of
the step that became them.
"""

from collections.abc import Iterable
from itertools import chain

from .model import Join, SkipCause, State, Step
from .state import RunState, Scope, StepState

__all__ = ["account", "add_children", "add_steps", "forget_unknown"]


def add_steps(run: RunState, scope: Scope, specs: Iterable[Step]) -> list[StepState]:
    """Add steps to a scope. Return the steps that got a level by that, new or not."""
    prefix = scope.prefix
    fresh = []
    for spec in specs:
        deps = spec.dependencies()
        if prefix:
            deps = tuple(prefix + dep for dep in deps)
        step = StepState(spec, len(run.by_index), deps, scope, prefix + spec.id, spec.internal)
        run.steps[step.id] = step
        run.by_index.append(step)
        fresh.append(step)
    scope.steps += fresh
    placed: list[StepState] = []
    for step in fresh:
        level = _link(run, step)
        if not step.unplaced:
            _place(run, step, level)
            placed.append(step)
            if step.dependents:
                placed += _place_dependents(run, step)
    _count_new(run, scope, len(fresh))
    if run.open and scope is run.root:
        run.edges += sum(step.spec.edges for step in fresh)
    return placed


def add_children(run: RunState, scope: Scope, owner: StepState, spec: Step, count: int) -> None:
    """Add the children of a list to its scope."""
    first = len(run.by_index)
    wave, internal = owner.wave, spec.internal
    children = [
        StepState(spec, first + item, (), scope, f"{owner.id}[{item}]", internal, item, level=0, wave=wave)
        for item in range(count)
    ]
    scope.steps += children
    run.by_index += children
    run.steps.update((child.id, child) for child in children)
    run.wave_left[wave] += count
    _count_new(run, scope, count)


def _count_new(run: RunState, scope: Scope, count: int) -> None:
    scope.unfinished += count
    run.counts[State.PENDING - 1] += count


def _link(run: RunState, step: StepState) -> int:
    """Link a new step to its dependencies, and return its level as far as these have one."""
    level = 0
    for dep_id in step.deps:
        dep = run.steps.get(dep_id)
        if dep is None:
            run.unknown.setdefault(dep_id, []).append(step)
            step.pending += 1
            step.unplaced += 1
            continue
        dep.dependents.append(step)
        dep.needed_by += 1
        if dep.end_time is None:
            step.pending += 1
        else:
            account(step, dep)
        if dep.level < 0:
            step.unplaced += 1
        elif dep.level >= level:
            level = dep.level + 1
    if run.unknown:
        _answer_waiting(run, step)
    return level


def _answer_waiting(run: RunState, step: StepState) -> None:
    """Link a step to earlier steps that refer to it. They were declared before any other dependents of it."""
    waiting = run.unknown.pop(step.id, [])
    step.dependents[:0] = waiting
    step.needed_by += len(waiting)


def _place(run: RunState, step: StepState, level: int) -> None:
    scope = step.scope
    step.level = level
    wave = step.wave = level if scope.owner is None else scope.owner.wave
    left = run.wave_left
    if wave >= len(left):
        left.extend([0] * (wave + 1 - len(left)))
    left[wave] += 1
    if not scope.eager:
        scope.level_left.extend([0] * (level + 1 - len(scope.level_left)))
        scope.level_left[level] += 1
    if run.waves_done:
        run.waves_done.discard(wave)


def _place_dependents(run: RunState, step: StepState) -> list[StepState]:
    """Place steps that were declared before their dependencies, now that these have levels. Return them."""
    placed: list[StepState] = []
    for dep in chain((step,), placed):  # grows as it goes
        for dependent in dep.dependents:
            dependent.unplaced -= 1
            if not dependent.unplaced:
                _place(run, dependent, _level_of(run, dependent))
                placed.append(dependent)
    return placed


def _level_of(run: RunState, step: StepState) -> int:
    """Return the level of a step whose dependencies have levels. Dependencies that never came do not count."""
    return max((run.steps[dep].level + 1 for dep in step.deps if dep in run.steps), default=0)


def forget_unknown(run: RunState) -> list[StepState]:
    """Close a run that ends early: no more steps will come. Return the steps that waited for some."""
    run.open = False
    waiting = [step for steps in run.unknown.values() for step in steps]
    run.unknown.clear()
    for step in waiting:
        step.pending -= 1
        step.unplaced -= 1
        if not step.unplaced:
            _place(run, step, _level_of(run, step))
            _place_dependents(run, step)
    return waiting


def account(step: StepState, dep: StepState) -> None:
    """Count the end of a dependency for the step's join."""
    if dep.state is State.SUCCEEDED:
        step.answered += 1
        return
    allowed = dep.state is State.FAILED and dep.spec.allow_failure
    if step.spec.join is Join.ALL_DONE or (allowed and step.spec.join is Join.ALL):
        return
    passed_on = dep.skip is not None and dep.skip.cause is SkipCause.DEPENDENCY and dep.blame is not None
    culprit = dep.blame if passed_on else dep
    if _gravity(culprit) > _gravity(step.blame):
        step.blame = culprit


def _gravity(step: StepState | None) -> int:
    """Rank a step to blame: one whose failure fails the run, then one that failed, then any other."""
    if step is None:
        return 0
    if step.state is not State.FAILED:
        return 1
    return 2 if step.spec.allow_failure else 3
