"""How steps are wired to those they depend on: waves, and what a dependency's end means for a join.

Every edge is looked at a fixed number of times, however and whenever its steps come: a step has its wave once it has
counted down its dependencies without one.
"""

from collections.abc import Iterable
from itertools import chain

from .model import Join, SkipCause, State, Step
from .state import RunState, StepState

__all__ = ["account", "add_steps", "forget_unknown"]


def add_steps(run: RunState, specs: Iterable[Step]) -> list[StepState]:
    """Add steps, and return those that thereby got a wave, new or not."""
    fresh = []
    for spec in specs:
        step = StepState(spec, len(run.by_index), spec.dependencies())
        run.steps[spec.id] = step
        run.by_index.append(step)
        fresh.append(step)
    placed: list[StepState] = []
    for step in fresh:
        wave = _link(run, step)
        if not step.unplaced:
            _place(run, step, wave)
            placed.append(step)
            if step.dependents:
                placed += _place_dependents(run, step)
    run.unfinished += len(fresh)
    run.counts[State.PENDING - 1] += len(fresh)
    if run.open:
        run.edges += sum(step.spec.edges for step in fresh)
    return placed


def _link(run: RunState, step: StepState) -> int:
    """Wire a new step to its dependencies, and return its wave as far as these have one."""
    wave = 0
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
        if dep.wave < 0:
            step.unplaced += 1
        elif dep.wave >= wave:
            wave = dep.wave + 1
    if run.unknown:
        _answer_waiting(run, step)
    return wave


def _answer_waiting(run: RunState, step: StepState) -> None:
    """Wire a step to earlier ones that refer to it: they were declared before any that it has already."""
    waiting = run.unknown.pop(step.spec.id, [])
    step.dependents[:0] = waiting
    step.needed_by += len(waiting)


def _place(run: RunState, step: StepState, wave: int) -> None:
    step.wave = wave
    if wave >= len(run.wave_left):
        run.wave_left.extend([0] * (wave + 1 - len(run.wave_left)))
    run.wave_left[wave] += 1
    run.waves_done.discard(wave)


def _place_dependents(run: RunState, step: StepState) -> list[StepState]:
    """Place, and return, steps declared before their dependencies, now that the last one of these has its wave."""
    placed: list[StepState] = []
    for dep in chain((step,), placed):  # grows as it goes
        for dependent in dep.dependents:
            dependent.unplaced -= 1
            if not dependent.unplaced:
                _place(run, dependent, _wave_of(run, dependent))
                placed.append(dependent)
    return placed


def _wave_of(run: RunState, step: StepState) -> int:
    """Return the wave of a step whose dependencies have theirs; those that never came count for nothing."""
    return max((run.steps[dep].wave + 1 for dep in step.deps if dep in run.steps), default=0)


def forget_unknown(run: RunState) -> list[StepState]:
    """Close a run that ends early: what is still to come never will. Return the steps that waited for it."""
    run.open = False
    waiting = [step for steps in run.unknown.values() for step in steps]
    run.unknown.clear()
    for step in waiting:
        step.pending -= 1
        step.unplaced -= 1
        if not step.unplaced:
            _place(run, step, _wave_of(run, step))
            _place_dependents(run, step)
    return waiting


def account(step: StepState, dep: StepState) -> None:
    """Note what a dependency's end means for the step's join."""
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
    """Rank who is to blame: above all one whose failure fails the run, then one who failed, then anyone."""
    if step is None:
        return 0
    if step.state is not State.FAILED:
        return 1
    return 2 if step.spec.allow_failure else 3
