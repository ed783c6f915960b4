"""Retry policies and fallbacks of steps, as messages and back."""

from stepwave.v1 import run_pb2, workflow_pb2
from stepwave_server.core.model import FallbackAction, Payload, Reason, Retry
from stepwave_server.wire.values import fill_duration, fill_payload

from .parsing import Parsed, fill_binding, parse_bindings, parse_duration, parse_payload
from .unknown import has_unknown_fields

__all__ = ["fill_fallback", "fill_retry", "parse_fallback", "parse_retry"]

DEFAULT = Retry()


def parse_retry(message: workflow_pb2.Retry, path: str, parsed: Parsed) -> Retry:
    """Return a retry policy with its defaults. `path` is its place in problems."""
    has = message.HasField
    first = parse_duration(message.initial_backoff, f"{path}.initial_backoff", parsed, zero=True)
    longest = parse_duration(message.max_backoff, f"{path}.max_backoff", parsed, zero=True)
    return Retry(
        max_attempts=message.max_attempts or DEFAULT.max_attempts,
        initial_backoff=first if has("initial_backoff") else DEFAULT.initial_backoff,
        backoff_multiplier=message.backoff_multiplier or DEFAULT.backoff_multiplier,
        max_backoff=longest if has("max_backoff") else DEFAULT.max_backoff,
        jitter=message.jitter if has("jitter") else DEFAULT.jitter,
        retryable_reasons=_reasons(message, path, parsed) or DEFAULT.retryable_reasons,
    )


def parse_fallback(message: workflow_pb2.Fallback, path: str, parsed: Parsed) -> Payload | FallbackAction | None:
    """Return a fallback; `None`: it is malformed. `path` is its place in problems."""
    match message.WhichOneof("answer"):
        case "action":
            return _fallback_action(message.action, f"{path}.action", parsed)
        case "value":
            return parse_payload(message.value, f"{path}.value", parsed)
        case _:
            if not has_unknown_fields(message):  # an alternative of a later version is refused already
                parsed.blame(path, "has no answer: set `action` or `value`")
            return None


def fill_retry(message: workflow_pb2.Retry, retry: Retry) -> None:
    """Set a message to a retry policy."""
    message.max_attempts = retry.max_attempts
    fill_duration(message.initial_backoff, retry.initial_backoff)
    message.backoff_multiplier = retry.backoff_multiplier
    fill_duration(message.max_backoff, retry.max_backoff)
    message.jitter = retry.jitter
    message.retryable_reasons.extend(run_pb2.FailureReason.ValueType(reason) for reason in retry.retryable_reasons)


def fill_fallback(message: workflow_pb2.Fallback, fallback: Payload | FallbackAction) -> None:
    """Set a message to a fallback."""
    if not isinstance(fallback, FallbackAction):
        fill_payload(message.value, fallback)
        return
    message.action.action = fallback.action
    if fallback.input is not None:
        fill_payload(message.action.input, fallback.input)
    for binding in fallback.bindings:
        fill_binding(message.action.bindings.add(), binding)


def _fallback_action(message: workflow_pb2.FallbackAction, path: str, parsed: Parsed) -> FallbackAction:
    if not message.action:
        parsed.blame(f"{path}.action", "must not be empty")
    return FallbackAction(
        action=message.action,
        input=parse_payload(message.input, f"{path}.input", parsed) if message.HasField("input") else None,
        bindings=parse_bindings(message.bindings, path, parsed),
    )


def _reasons(message: workflow_pb2.Retry, path: str, parsed: Parsed) -> tuple[Reason, ...]:
    found = []
    for position, number in enumerate(message.retryable_reasons):
        try:
            found.append(Reason(number))
        except ValueError:
            parsed.refuse(f"{path}.retryable_reasons[{position}]", f"this server does not know the value {number}")
    return tuple(found)
