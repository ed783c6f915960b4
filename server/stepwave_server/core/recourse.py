"""What follows a failed attempt: another one, the step's fallback, or the step's failure; and total timeouts."""

from .decider import Decider
from .failures import out_of_time, total_timeout
from .messages import Interrupt, StartTimer, StepRetrying, Timer
from .model import Failure, FallbackAction, State
from .retries import next_time
from .state import StepState

__all__ = ["fail_attempt", "give_up", "go_on", "time_out", "withdraw"]


def fail_attempt(decider: Decider, step: StepState, failure: Failure, *, abandoned: bool = False) -> None:
    """Try again what the step's policy says is worth it, in the time that the step has."""
    run = decider.run
    due = next_time(run, step, failure, decider.now) if run.admits(step) else None
    if due is None:
        give_up(decider, step, failure, abandoned=abandoned)
    elif step.total_deadline is not None and due >= step.total_deadline:
        give_up(decider, step, out_of_time(step, failure), abandoned=abandoned)
    else:
        go_on(decider, step, failure, due, abandoned=abandoned)


def give_up(decider: Decider, step: StepState, failure: Failure, *, abandoned: bool = False) -> None:
    """Let the step's fallback answer in its place, unless that has failed itself or may not begin; else fail it."""
    fallback = step.spec.fallback
    if fallback is None or step.original is not None or not decider.run.admits(step):
        decider.finish_step(step, State.FAILED, failure=failure, abandoned=abandoned)
    elif isinstance(fallback, FallbackAction):
        go_on(decider, step, failure, decider.now, fallback=True, abandoned=abandoned)
    else:
        decider.finish_step(step, State.SUCCEEDED, output=fallback, abandoned=abandoned, original=failure)


def go_on(
    decider: Decider, step: StepState, failure: Failure, due: int, *, fallback: bool = False, abandoned: bool = False
) -> None:
    """Let another attempt follow, or the fallback, as soon as it is due."""
    step_id, attempt = step.spec.id, step.attempt
    decider.emit(StepRetrying(decider.now, step_id, attempt, failure, due, fallback, abandoned))
    if due > decider.now:
        decider.commands.append(StartTimer(Timer("backoff", step_id, attempt), due))


def time_out(decider: Decider, step: StepState) -> None:
    """End a step whose total timeout has passed.

    The timeout of an attempt that runs passes then at the latest, and sees to it.
    """
    if step.spec.id in decider.run.running:
        return
    failure = total_timeout(step)
    if not isinstance(step.spec.fallback, FallbackAction):
        withdraw(decider, step, failure)
    give_up(decider, step, failure)


def withdraw(decider: Decider, step: StepState, failure: Failure) -> None:
    """Take the next attempt of a step that does not run out of admission's hands, if it is there."""
    if step.spec.id in decider.run.dispatched:
        decider.commands.append(Interrupt(step.spec.id, step.attempt + 1, failure))
