"""Outcomes of spans: status, attributes and exception events."""

from collections.abc import Mapping, Sequence

from opentelemetry.sdk.trace import Event
from opentelemetry.trace import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from stepwave_server.core.messages import RunFinished
from stepwave_server.core.model import Failure, State, immutable

__all__ = [
    "Outcome",
    "failure_attributes",
    "incomplete_outcome",
    "original_attributes",
    "outcome_of",
    "run_outcome",
    "wave_outcome",
    "with_fallback",
]

MAX_CHARACTERS = 2_048
"""Longest message, in characters. Tracebacks are bounded where they are made."""


@immutable
class Outcome:
    """The outcome of a span.

    The status is unset after success, as OpenTelemetry asks of instrumentation, and after cancellation, which is no
    error.

    Attributes:
        status: The span's status.
        attributes: Attributes that describe the outcome.
        events: Span events, such as the exception.
    """

    status: Status
    attributes: Mapping[str, AttributeValue]
    events: Sequence[Event] = ()


UNSET = Status()
NO_FAILURE = Outcome(UNSET, {})
SUCCEEDED = Outcome(UNSET, {"stepwave.state": "succeeded"})


def outcome_of(state: State, failure: Failure | None, time: int, *, abandoned: bool = False) -> Outcome:
    """Return the outcome of a step's or an attempt's span.

    Args:
        state: The final state.
        failure: The failure, if it did not succeed.
        time: The end, in nanoseconds since the epoch.
        abandoned: Whether the server stopped waiting for the attempt's clean-up.
    """
    if state is State.SUCCEEDED:
        return SUCCEEDED
    attributes = _attributes(state, failure)
    if abandoned:
        attributes["stepwave.abandoned"] = True
    message = "" if failure is None else failure.message
    return Outcome(status=_status(state, message), attributes=attributes, events=_exceptions(state, failure, time))


def wave_outcome(failure: Failure | None, count: int) -> Outcome:
    """Return the outcome of a wave's span: an error if steps of it failed, even if their failure is allowed."""
    return NO_FAILURE if failure is None else Outcome(_status(State.FAILED, _summary(failure, count)), {})


def run_outcome(event: RunFinished, stopping: Failure | None) -> Outcome:
    """Return the outcome of a run's span.

    Args:
        event: The run's last event.
        stopping: Why the run was cancelled or timed out; `None`: it was not.
    """
    if event.state is State.SUCCEEDED:  # possibly with failures that are allowed
        return SUCCEEDED
    failure = stopping or next(iter(event.failures), None)
    attributes = _attributes(event.state, failure)
    if failure is None:
        return Outcome(_status(event.state, ""), attributes)
    if failure.step_id:
        attributes["stepwave.failure.step_id"] = failure.step_id
    message = _summary(failure, 1 if stopping is not None else event.failure_count)
    return Outcome(
        status=_status(event.state, message),
        attributes=attributes,
        events=_exceptions(event.state, failure, event.time),
    )


def incomplete_outcome(message: str) -> Outcome:
    """Return the outcome of a span that was still open when its run ended or broke."""
    return Outcome(_status(State.FAILED, message), {"error.type": "internal"})


def failure_attributes(failure: Failure) -> dict[str, AttributeValue]:
    """Return the attributes of a span or a span event that describe a failure."""
    return {
        "stepwave.failure.reason": failure.reason.name.lower(),
        "stepwave.failure.message": _cut(failure.message),
        "stepwave.failure.retryable": failure.retryable,
    }


def with_fallback(outcome: Outcome, original: Failure) -> Outcome:
    """Return the outcome of a step whose fallback was used, with the original failure."""
    return Outcome(
        status=outcome.status,
        attributes={**outcome.attributes, **original_attributes(original)},
        events=outcome.events,
    )


def original_attributes(original: Failure) -> dict[str, AttributeValue]:
    """Return the attributes of a step whose fallback was used."""
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
        if state is State.FAILED:  # OpenTelemetry's attribute, for spans with an error only
            attributes["error.type"] = failure.reason.name.lower()
    return attributes


def _exceptions(state: State, failure: Failure | None, time: int) -> tuple[Event, ...]:
    return (_exception(failure, time),) if state is State.FAILED and failure is not None else ()


def _exception(failure: Failure, time: int) -> Event:
    """Return a failure as OpenTelemetry's exception event. Without an exception, the failure's reason is its type."""
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
    text = f'step "{failure.step_id}": {failure.message}' if failure.step_id else failure.message
    return f"the first of {count:,} failures: {text}" if count > 1 else text


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
