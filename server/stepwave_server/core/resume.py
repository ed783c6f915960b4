"""Finds the commands and requests that are outstanding in a run that was folded from its events."""

from collections.abc import Iterator

from .decider import Decision
from .failures import (
    stop_failure,
)
from .inputs import Evaluator, invoke
from .messages import (
    Finish,
    Interrupt,
    StartTimer,
    Timer,
)
from .state import CLEANUP_GRACE, RunState, Scope

__all__ = ["idle_timer", "resume"]


def resume(run: RunState, evaluator: Evaluator) -> Decision:
    """Return what is outstanding in a run that was folded from its events: what may have been lost with its engine.

    There are no events in it. Timers keep their due times, past or not. A running attempt gets its `Interrupt` if it
    may not go on. Whether the attempt itself survived is for the engine to know: `run.running` lists them.
    """
    if run.finished is not None:
        return Decision(commands=[Finish()])
    waiting = [step for step in run.dispatched.values() if step.id not in run.running]
    requests = [invoke(run, step, evaluator) for step in waiting]
    return Decision(requests=requests, commands=[*_timers(run), *_interrupts(run)])


def _timers(run: RunState) -> Iterator[StartTimer]:
    if run.stopping is None and run.started and run.deadline is not None:
        yield StartTimer(Timer("run"), run.deadline)
    for step in run.backing_off.values():
        yield StartTimer(Timer("backoff", step.id, step.attempt), step.due)
    for step in run.by_index:
        if step.ended:
            continue
        if step.total_deadline is not None:
            yield StartTimer(Timer("total", step.id), step.total_deadline)
        if step.deadline and (step.inner is not None or (step.waits and step.id in run.running)):
            yield StartTimer(Timer("own", step.id, step.attempt), step.deadline)
        if step.inner is not None:
            yield from _cleanup_timer(step.inner)
    yield from _cleanup_timer(run.root)
    yield from idle_timer(run)


def _cleanup_timer(scope: Scope) -> Iterator[StartTimer]:
    if scope.stopping is None and scope.failing and scope.cleaning_up:
        yield StartTimer(Timer("cleanup", scope.step_id), scope.failed_time + CLEANUP_GRACE)


def idle_timer(run: RunState) -> Iterator[StartTimer]:
    """Yield the timer of an idle run. It holds for the run's last event: after a later one, it has no effect."""
    if run.idle and run.options.idle_timeout is not None:
        yield StartTimer(Timer("idle", attempt=run.sequence), run.time + run.options.idle_timeout)


def _interrupts(run: RunState) -> Iterator[Interrupt]:
    for step in run.running.values():
        if not step.admitted:
            yield Interrupt(step.id, step.attempt, stop_failure(step))
