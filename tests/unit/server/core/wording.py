"""Other words for every message of the scheduler, and events as version 0.1.0 recorded them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

from stepwave_server.core import failures
from stepwave_server.core.inputs import EvaluationFailed, Evaluator
from stepwave_server.core.messages import Event, RunFinished, RunStopping, StepFinished, StepRetrying
from stepwave_server.core.model import Failure, FailureCause, Payload, Reason, Step

__all__ = ["REWORDED", "OtherWords", "as_recorded_early", "reworded"]

REWORDED = "in other words"


@contextmanager
def reworded() -> Iterator[None]:
    """Let the scheduler write other messages. A failure without a cause has the message of an input, which is data."""

    def failure(reason: Reason, message: str, *, cause: FailureCause = FailureCause.NONE, **given: Any) -> Failure:
        return Failure(reason, message if cause is FailureCause.NONE else REWORDED, cause=cause, **given)

    with (
        mock.patch.object(failures, "Failure", failure),
        mock.patch.object(failures, "_seconds", return_value=REWORDED),
    ):
        yield


class OtherWords:
    """An evaluator that says in other words why there is no input."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def input_of(
        self, step: Step, run_input: Payload, outputs: Mapping[str, Payload | None], max_bytes: int | None = None
    ) -> Payload:
        try:
            return self._evaluator.input_of(step, run_input, outputs, max_bytes)
        except EvaluationFailed as error:
            raise EvaluationFailed(REWORDED, error.reason) from error


def as_recorded_early(event: Event) -> Event:
    """Return an event without what version 0.1.0 did not record: causes, and the reason of a cancel request."""
    match event:
        case StepFinished():
            return replace(event, failure=_optional(event.failure), original=_optional(event.original))
        case StepRetrying():
            return replace(event, failure=_without_cause(event.failure))
        case RunStopping():
            return replace(event, failure=_without_cause(event.failure), cancel_reason="")
        case RunFinished():
            return replace(event, failures=tuple(map(_without_cause, event.failures)))
        case _:
            return event


def _optional(failure: Failure | None) -> Failure | None:
    return None if failure is None else _without_cause(failure)


def _without_cause(failure: Failure) -> Failure:
    return replace(failure, cause=FailureCause.NONE)
