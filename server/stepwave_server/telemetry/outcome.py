"""How a span ends: its status, the exception it records, and what its attributes say of that."""

from collections.abc import Mapping, Sequence

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from stepwave_server.core.messages import RunFinished
from stepwave_server.core.model import Failure, State, immutable

__all__ = [
    "Outcome",
    "broken_off",
    "by_fallback",
    "failure_attributes",
    "original_attributes",
    "outcome_of",
    "run_outcome",
    "wave_outcome",
]

MOST_CHARACTERS = 2_048
"""Messages are cut to so many. A traceback is bounded where it is made."""


@immutable
class Outcome:
    """How a span ends.

    Success is not declared, as OpenTelemetry asks of instrumentation; neither success nor cancellation is an error.
    """

    status: Status
    attributes: Mapping[str, AttributeValue]
    events: Sequence[Event] = ()


UNSET = Status()
FINE = Outcome(UNSET, {})
SUCCEEDED = Outcome(UNSET, {"stepwave.state": "succeeded"})


def outcome_of(state: State, failure: Failure | None, time: int, *, abandoned: bool = False) -> Outcome:
    """Return how the span of a step or an attempt ends.

    Args:
        state: What it came to.
        failure: Why it did not succeed.
        time: When, in nanoseconds since the epoch.
        abandoned: Its clean-up was not awaited to the end.
    """
    if state is State.SUCCEEDED:
        return SUCCEEDED
    attributes = _attributes(state, failure)
    if abandoned:
        attributes["stepwave.abandoned"] = True
    message = "" if failure is None else failure.message
    return Outcome(_status(state, message), attributes, _exceptions(state, failure, time))


def wave_outcome(failure: Failure | None, count: int) -> Outcome:
    """Return how a wave's span ends: in error if steps of it failed, be they allowed to."""
    return FINE if failure is None else Outcome(_status(State.FAILED, _summary(failure, count)), {})


def run_outcome(event: RunFinished, stopping: Failure | None) -> Outcome:
    """Return how a run's span ends.

    Args:
        event: The run's end.
        stopping: Why it was cancelled or timed out; `None` if it was not.
    """
    if event.state is State.SUCCEEDED:  # in spite of failures, if they are allowed
        return SUCCEEDED
    failure = stopping or next(iter(event.failures), None)
    attributes = _attributes(event.state, failure)
    if failure is None:
        return Outcome(_status(event.state, ""), attributes)
    if failure.step_id:
        attributes["stepwave.failure.step_id"] = failure.step_id
    message = _summary(failure, 1 if stopping is not None else event.failure_count)
    return Outcome(_status(event.state, message), attributes, _exceptions(event.state, failure, event.time))


def broken_off(message: str) -> Outcome:
    """Return the outcome of what never came to an end of its own."""
    return Outcome(_status(State.FAILED, message), {"error.type": "internal"})


def failure_attributes(failure: Failure) -> dict[str, AttributeValue]:
    """Return what a span or a span event says of a failure."""
    return {
        "stepwave.failure.reason": failure.reason.name.lower(),
        "stepwave.failure.message": _cut(failure.message),
        "stepwave.failure.retryable": failure.retryable,
    }


def by_fallback(outcome: Outcome, original: Failure) -> Outcome:
    """Add to how a step's span ends that its fallback stood in, and why."""
    return Outcome(outcome.status, {**outcome.attributes, **original_attributes(original)}, outcome.events)


def original_attributes(original: Failure) -> dict[str, AttributeValue]:
    """Return what is said of a step whose fallback stood in."""
    return {
        "stepwave.fallback": True,
        "stepwave.original_failure.reason": original.reason.name.lower(),
        "stepwave.original_failure.message": _cut(original.message),
    }


def _status(state: State, description: str) -> Status:
    return Status(StatusCode.ERROR, _cut(description) or None) if state is State.FAILED else UNSET


def _attributes(state: State, failure: Failure | None) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {"stepwave.state": state.name.lower()}
    if failure is not None:
        attributes |= failure_attributes(failure)
        if state is State.FAILED:  # OpenTelemetry's own attribute, for spans that end in error alone
            attributes["error.type"] = failure.reason.name.lower()
    return attributes


def _exceptions(state: State, failure: Failure | None, time: int) -> tuple[Event, ...]:
    return (_exception(failure, time),) if state is State.FAILED and failure is not None else ()


def _exception(failure: Failure, time: int) -> Event:
    """Return the failure as OpenTelemetry's span event; one that no exception caused has its reason for a type."""
    details = dict(failure.details)
    kind = details.get("exception", "")
    attributes = {
        "exception.type": kind or failure.reason.name.lower(),
        "exception.message": _cut(failure.message.removeprefix(f"{kind}: ") if kind else failure.message),
    }
    if "traceback" in details:
        attributes["exception.stacktrace"] = details["traceback"]
    return Event("exception", attributes, time)


def _summary(failure: Failure, count: int) -> str:
    line = f'step "{failure.step_id}": {failure.message}' if failure.step_id else failure.message
    return f"the first of {count:,} failures: {line}" if count > 1 else line


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
