"""The causes of failures in runs of version 1 of the core, which recorded messages alone.

Journals keep these runs, so their messages stay listed here. Nothing else reads a message.
"""

import re
from dataclasses import replace

from .messages import Event, RunFinished, RunStopping, StepFinished, StepRetrying
from .model import Failure, FailureCause, Reason

__all__ = ["FIRST_WITH_CAUSES", "with_causes"]

FIRST_WITH_CAUSES = 2
"""The first version of the core that records causes in all its runs."""

CANCELLED = re.compile(r"cancelled(?:: (?P<reason>.*))?", re.DOTALL)

MESSAGES = (
    (Reason.CANCELLED, CANCELLED, FailureCause.CANCEL_REQUESTED),
    (Reason.CANCELLED, re.compile(r'step "[^"]*" failed'), FailureCause.STEP_FAILED),
    (Reason.CANCELLED, re.compile(r'no longer needed: step "[^"]*" answered'), FailureCause.NOT_NEEDED),
    (Reason.CANCELLED, re.compile(r"the run took longer than its timeout of .* s"), FailureCause.RUN_TIMEOUT),
    (Reason.CANCELLED, re.compile(r"clean-up took longer than .* s"), FailureCause.CLEANUP_TIMEOUT),
    (Reason.TIMEOUT, re.compile(r"the run took longer than its timeout of .* s"), FailureCause.RUN_TIMEOUT),
    (Reason.TIMEOUT, re.compile(r"clean-up took longer than .* s"), FailureCause.CLEANUP_TIMEOUT),
    (Reason.TIMEOUT, re.compile(r"the step took longer than its total timeout of .* s"), FailureCause.TOTAL_TIMEOUT),
    (
        Reason.TIMEOUT,
        re.compile(r"the (?:attempt|fallback) took longer than the (?:server's default|step's) timeout of .* s"),
        FailureCause.ATTEMPT_TIMEOUT,
    ),
    (
        Reason.INTERRUPTED,
        re.compile(r"the server stopped while the attempt ran(?:, as it had \d+ times before)?"),
        FailureCause.ATTEMPT_LOST,
    ),
)

NO_INPUT = (Reason.INVALID_INPUT, Reason.RESOURCE_EXHAUSTED)
"""Reasons of a step that failed before its first attempt, for want of its input."""


def with_causes(event: Event) -> Event:
    """Return an event of a version 1 run with the causes of its failures, and the reason of a cancel request.

    A cause that is recorded stays: later versions of the core record causes in the version 1 runs that they continue.
    """
    match event:
        case StepFinished() if event.failure is not None or event.original is not None:
            return replace(event, failure=_optional(event.failure), original=_optional(event.original))
        case StepRetrying():
            return replace(event, failure=_with_cause(event.failure))
        case RunFinished() if event.failures:
            return replace(event, failures=tuple(map(_with_cause, event.failures)))
        case RunStopping() if event.failure.cause is FailureCause.UNSPECIFIED:
            match = CANCELLED.fullmatch(event.failure.message) if event.failure.reason is Reason.CANCELLED else None
            reason = (match["reason"] or "") if match is not None else event.cancel_reason
            return replace(event, failure=_with_cause(event.failure), cancel_reason=reason)
        case _:
            return event


def _optional(failure: Failure | None) -> Failure | None:
    return None if failure is None else _with_cause(failure)


def _with_cause(failure: Failure) -> Failure:
    """Return a failure with its cause. The failure of an action that uses the same words gets it, too."""
    if failure.cause is not FailureCause.UNSPECIFIED:
        return failure
    if failure.step_id and not failure.attempt and failure.reason in NO_INPUT:
        return replace(failure, cause=FailureCause.INPUT)
    for reason, message, cause in MESSAGES:
        if failure.reason is reason and message.fullmatch(failure.message):
            return replace(failure, cause=cause)
    return failure
