"""What follows a failed attempt: another attempt, the fallback of its step, or the failure of its step.

The core draws no random number. The jitter of a pause is a hash of the run's seed, the step and the attempt. So the
same run draws the same jitter wherever it is decided again.
"""

import hashlib

from .decider import Decider
from .failures import out_of_time, total_timeout
from .messages import Interrupt, StartTimer, StepRetrying, Timer
from .model import SECOND, Failure, FallbackAction, Retry, State
from .state import RunState, StepState

__all__ = [
    "draw",
    "fail_attempt",
    "give_up",
    "go_on",
    "next_time",
    "pause",
    "time_out",
    "withdraw",
]

MAX_PAUSE = 36_525 * 24 * 3600 * SECOND
"""The longest pause that an action may ask for, in nanoseconds: a hundred years. Events cannot hold later times."""


def next_time(run: RunState, step: StepState, failure: Failure, now: int) -> int | None:
    """Return the start time of the attempt after a failed one; `None`: no attempt follows.

    Attempts that were lost by restarts of the server do not count.
    """
    retry = step.spec.retry or step.scope.workflow.retry
    tries = step.attempt - step.interruptions
    if retry is None or step.original is not None or tries >= retry.max_attempts:
        return None
    if not failure.retryable or failure.reason not in retry.retryable_reasons:
        return None
    backoff = pause(retry, tries, draw(run.options.seed, step.id, step.attempt))
    return now + max(backoff, min(failure.retry_after or 0, MAX_PAUSE))


def pause(retry: Retry, tries: int, drawn: int) -> int:
    """Return the pause after so many tries, in nanoseconds; `drawn` is a draw of 64 bits.

    It grows by repeated multiplication, which is exact to the bit on every machine, as powers are not.
    """
    longest = float(retry.initial_backoff)
    for _ in range(tries - 1):
        if longest >= retry.max_backoff:
            break
        longest *= retry.backoff_multiplier
    whole = int(min(longest, retry.max_backoff))
    share = int(whole * retry.jitter)
    return whole - share + (share * drawn >> 64)


def draw(seed: str, step_id: str, attempt: int) -> int:
    """Return a pseudo-random number of 64 bits: the same one for the same arguments."""
    digest = hashlib.blake2b(f"{seed}/{step_id}/{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


def fail_attempt(decider: Decider, step: StepState, failure: Failure, *, abandoned: bool = False) -> None:
    """Retry a failed attempt if the step's policy and total timeout allow it, else give the step up."""
    run = decider.run
    due = next_time(run, step, failure, decider.now) if step.admitted else None
    if due is None:
        give_up(decider, step, failure, abandoned=abandoned)
    elif step.total_deadline is not None and due >= step.total_deadline:
        give_up(decider, step, out_of_time(step, failure), abandoned=abandoned)
    else:
        go_on(decider, step, failure, due, abandoned=abandoned)


def give_up(decider: Decider, step: StepState, failure: Failure, *, abandoned: bool = False) -> None:
    """Let the step's fallback follow. Fail the step if it has none, if that failed itself, or if it may not begin."""
    fallback = step.spec.fallback
    if fallback is None or step.original is not None or not step.admitted:
        decider.finish_step(step, State.FAILED, failure=failure, abandoned=abandoned)
    elif isinstance(fallback, FallbackAction):
        go_on(decider, step, failure, decider.now, fallback=True, abandoned=abandoned)
    else:
        decider.finish_step(step, State.SUCCEEDED, output=fallback, abandoned=abandoned, original=failure)


def go_on(
    decider: Decider, step: StepState, failure: Failure, due: int, *, fallback: bool = False, abandoned: bool = False
) -> None:
    """Let another attempt, or the fallback, follow when it is due."""
    step_id, attempt = step.id, step.attempt
    decider.emit(StepRetrying(decider.now, step_id, attempt, failure, due, fallback, abandoned))
    if due > decider.now:
        decider.command(StartTimer(Timer("backoff", step_id, attempt), due))


def time_out(decider: Decider, step: StepState) -> None:
    """End a step whose total timeout has passed.

    A running attempt needs nothing here: its deadline is at the total timeout at the latest.
    """
    if step.id in decider.run.running:
        return
    failure = total_timeout(step)
    if not isinstance(step.spec.fallback, FallbackAction):
        withdraw(decider, step, failure)
    give_up(decider, step, failure)


def withdraw(decider: Decider, step: StepState, failure: Failure) -> None:
    """Withdraw the next attempt of a step from admission, if it waits there."""
    if step.id in decider.run.dispatched:
        decider.command(Interrupt(step.id, step.attempt + 1, failure))
