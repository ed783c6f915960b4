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

LONGEST_PAUSE = 36_525 * 24 * 3600 * SECOND
"""Nanoseconds that an action may ask to be left alone, a hundred years: more leads to times that no event can hold."""


def next_time(run: RunState, step: StepState, failure: Failure, now: int) -> int | None:
    """Return when the attempt may start that follows a failed one; `None`: none does.

    Attempts that were lost by restarts of the server do not count.
    """
    retry = step.spec.retry or run.workflow.retry
    tries = step.attempt - step.interruptions
    if retry is None or step.original is not None or tries >= retry.max_attempts:
        return None
    if not failure.retryable or failure.reason not in retry.retryable_reasons:
        return None
    backoff = pause(retry, tries, draw(run.options.seed, step.spec.id, step.attempt))
    return now + max(backoff, min(failure.retry_after or 0, LONGEST_PAUSE))


def pause(retry: Retry, tries: int, drawn: int) -> int:
    """Return how many nanoseconds to pause after so many tries; `drawn` is a draw.

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
    """Return a number of 64 bits that nobody foresees, and that is always the same for the same arguments."""
    digest = hashlib.blake2b(f"{seed}/{step_id}/{attempt}".encode(), digest_size=8).digest()
    return int.from_bytes(digest)


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
        decider.command(StartTimer(Timer("backoff", step_id, attempt), due))


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
        decider.command(Interrupt(step.spec.id, step.attempt + 1, failure))
