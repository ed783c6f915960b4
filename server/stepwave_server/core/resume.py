"""What is outstanding in a run that was folded from its events: the commands whose effects may have been lost."""

from collections.abc import Iterator

from .failures import stop_failure
from .inputs import Evaluator, input_of, invoke
from .messages import Command, Finish, Interrupt, StartTimer, Timer
from .state import CLEANUP_GRACE, RunState

__all__ = ["resume"]


def resume(run: RunState, evaluator: Evaluator) -> list[Command]:
    """Return the commands that are outstanding, in the order in which they would be given.

    Timers keep their due times, past or not. A running attempt gets its timer, and its `Interrupt` if it may not go on;
    whether the attempt itself survived is the engine's to know: `run.running` lists them.
    """
    run.fresh.clear()
    run.stale.clear()
    run.timed.clear()
    if run.finished is not None:
        return [Finish()]
    return [*_timers(run), *_interrupts(run), *_invocations(run, evaluator)]


def _timers(run: RunState) -> Iterator[Command]:
    if run.stopping is None and run.started and run.deadline is not None:
        yield StartTimer(Timer("run"), run.deadline)
    for step in run.running.values():
        yield StartTimer(Timer("attempt", step.spec.id, step.attempt), step.deadline)
    for step in run.backing.values():
        yield StartTimer(Timer("backoff", step.spec.id, step.attempt), step.due)
    for step in run.by_index:
        if not step.ended and step.total_deadline is not None:
            yield StartTimer(Timer("total", step.spec.id), step.total_deadline)
    if run.stopping is None and run.failing and any(step.cleans_up and not step.ended for step in run.by_index):
        yield StartTimer(Timer("cleanup"), run.failed_time + CLEANUP_GRACE)


def _interrupts(run: RunState) -> Iterator[Command]:
    for step in run.running.values():
        if not run.admits(step):
            yield Interrupt(step.spec.id, step.attempt, stop_failure(run, step))


def _invocations(run: RunState, evaluator: Evaluator) -> Iterator[Command]:
    for step in run.dispatched.values():
        if step.spec.id not in run.running:
            yield invoke(run, step, input_of(run, step, evaluator))
