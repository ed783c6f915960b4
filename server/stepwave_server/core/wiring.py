"""The edges of a run's graph: steps are linked to their dependencies, get their waves, and count ends for their joins.

Every edge is visited a fixed number of times, in whatever order steps are added. A step gets its wave when it has
counted down its dependencies that have none.
"""

from collections.abc import Iterable
from itertools import chain

from .model import Join, SkipCause, State, Step
from .state import RunState, StepState

__all__ = ["account", "add_steps", "forget_unknown"]


def add_steps(run: RunState, specs: Iterable[Step]) -> list[StepState]:
    """Add steps. Return the steps that got a wave by that, new or not."""
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
    """Link a new step to its dependencies, and return its wave as far as these have one."""
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
    """Link a step to earlier steps that refer to it. They were declared before any other dependents of it."""
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
    """Place steps that were declared before their dependencies, now that these have waves. Return them."""
    placed: list[StepState] = []
    for dep in chain((step,), placed):  # grows as it goes
        for dependent in dep.dependents:
            dependent.unplaced -= 1
            if not dependent.unplaced:
                _place(run, dependent, _wave_of(run, dependent))
                placed.append(dependent)
    return placed


def _wave_of(run: RunState, step: StepState) -> int:
    """Return the wave of a step whose dependencies have waves. Dependencies that never came do not count."""
    return max((run.steps[dep].wave + 1 for dep in step.deps if dep in run.steps), default=0)


def forget_unknown(run: RunState) -> list[StepState]:
    """Close a run that ends early: no more steps will come. Return the steps that waited for some."""
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
