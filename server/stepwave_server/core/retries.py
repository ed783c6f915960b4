"""Whether a failed attempt is followed by another, and when: the policy of its step, and the draws it asks for.

The core draws no random number. The share of a pause that is drawn is a hash of the run's seed, the step and the
attempt, so whoever decides again decides alike; and the outcome stands in an event.
"""

import hashlib

from .model import Failure, Retry
from .state import RunState, StepState

__all__ = ["draw", "next_time", "pause"]

LONGEST_PAUSE = 36_525 * 24 * 3600 * 1_000_000_000
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
