"""Other words for every message of the scheduler, and events as version 1 of the core recorded them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from stepwave_server.core import failures
from stepwave_server.core.inputs import EvaluationFailed, Evaluator, Values
from stepwave_server.core.messages import Event, RunFinished, RunStopping, StepFinished, StepRetrying
from stepwave_server.core.model import Failure, FailureCause, ForEach, Payload, Reason, Step

__all__ = ["REWORDED", "VERSION_1_WORDS", "OtherWords", "as_version_1", "reworded"]

REWORDED = "in other words"

VERSION_1_WORDS = {
    FailureCause.ATTEMPT_TIMEOUT: "the attempt took longer than the step's timeout of 3 s",
    FailureCause.TOTAL_TIMEOUT: "the step took longer than its total timeout of 0.5 s",
    FailureCause.RUN_TIMEOUT: "the run took longer than its timeout of 3 s",
    FailureCause.CLEANUP_TIMEOUT: "clean-up took longer than 30 s",
    FailureCause.CANCEL_REQUESTED: "cancelled",
    FailureCause.STEP_FAILED: 'step "a" failed',
    FailureCause.NOT_NEEDED: 'no longer needed: step "a" answered',
    FailureCause.ATTEMPT_LOST: "the server stopped while the attempt ran",
    FailureCause.INPUT: 'the run\'s input has no "/nowhere"',
}
"""A message of version 1 for each cause. The core may use other words by now."""


@contextmanager
def reworded() -> Iterator[None]:
    """Let the scheduler write other messages. A failure without a cause has the message of an input, which is data."""

    def failure(
        reason: Reason, message: str, *, cause: FailureCause = FailureCause.UNSPECIFIED, **given: Any
    ) -> Failure:
        return Failure(reason, message if cause is FailureCause.UNSPECIFIED else REWORDED, cause=cause, **given)

    with (
        mock.patch.object(failures, "Failure", failure),
        mock.patch.object(failures, "_seconds", return_value=REWORDED),
    ):
        yield


class OtherWords:
    """An evaluator that says in other words why there is no input."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def input_of(self, step: Step, values: Values, max_bytes: int | None = None) -> Payload:
        with _reworded():
            return self._evaluator.input_of(step, values, max_bytes)

    def check_input(self, schema: str, payload: Payload) -> None:
        with _reworded():
            self._evaluator.check_input(schema, payload)

    def condition(self, expression: str, values: Values) -> bool:
        with _reworded():
            return self._evaluator.condition(expression, values)

    def items(self, for_each: ForEach, values: Values) -> list[Payload]:
        with _reworded():
            return self._evaluator.items(for_each, values)


@contextmanager
def _reworded() -> Iterator[None]:
    try:
        yield
    except EvaluationFailed as error:
        raise EvaluationFailed(REWORDED, error.reason) from error


def as_version_1(event: Event) -> Event:
    """Return an event as version 1 recorded it: all is in the messages, causes and the reason of a cancel request."""
    match event:
        case StepFinished():
            return replace(event, failure=_optional(event.failure), original=_optional(event.original))
        case StepRetrying():
            return replace(event, failure=_without_cause(event.failure))
        case RunStopping():
            failure = _without_cause(event.failure)
            if event.cancel_reason:
                failure = replace(failure, message=f"{failure.message}: {event.cancel_reason}")
            return replace(event, failure=failure, cancel_reason="")
        case RunFinished():
            return replace(event, failures=tuple(map(_without_cause, event.failures)))
        case _:
            return event


def _optional(failure: Failure | None) -> Failure | None:
    return None if failure is None else _without_cause(failure)


def _without_cause(failure: Failure) -> Failure:
    return replace(failure, message=VERSION_1_WORDS.get(failure.cause, failure.message), cause=FailureCause.UNSPECIFIED)
