"""The common parts of parsing: problems, payloads, bindings, lists, enums, durations."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from stepwave._values.json import json_problem
from stepwave.v1 import payload_pb2, workflow_pb2
from stepwave_server.core.model import (
    MAX_ITEMS,
    MAX_PAYLOAD_BYTES,
    SECOND,
    Binding,
    BindingSource,
    ForEach,
    FromExpression,
    FromInput,
    FromItem,
    FromSecret,
    FromStep,
    Payload,
)
from stepwave_server.core.validate import Violation
from stepwave_server.wire.values import fill_payload, from_duration, from_payload

from .unknown import has_unknown_fields

__all__ = [
    "MAX_EXPRESSION",
    "Parsed",
    "fill_binding",
    "fill_for_each",
    "parse_bindings",
    "parse_choice",
    "parse_duration",
    "parse_expression",
    "parse_for_each",
    "parse_payload",
]

E = TypeVar("E", bound=Enum)

MAX_EXPRESSION = 4_096
"""Characters of an expression."""

MAX_SCHEMA_TIME = 10.0
"""Seconds of processor time for the checks of all schemas of a request."""

MAX_DURATION = 36_525 * 24 * 3600 * SECOND
"""Nanoseconds in a duration. Longer ones lead to times that no timestamp can hold."""


@dataclass(slots=True)
class Parsed:
    """The problems that parsing found.

    Attributes:
        max_payload_bytes: Bytes that a payload may have.
        accepted: The workflow was accepted before, so that its schemas are not checked again.
        schema_time: Seconds of processor time that are left for checks of schemas.
        invalid: Malformed fields.
        unsupported: Fields and values that this server does not support yet.
    """

    max_payload_bytes: int = MAX_PAYLOAD_BYTES
    accepted: bool = False
    schema_time: float = field(default=MAX_SCHEMA_TIME, compare=False)
    invalid: list[Violation] = field(default_factory=list)
    unsupported: list[Violation] = field(default_factory=list)

    def blame(self, path: str, description: str) -> None:
        """Add a malformed field."""
        self.invalid.append(Violation(path, description))

    def refuse(self, path: str, description: str = "this server does not support it yet") -> None:
        """Add a field or value that this server does not support."""
        self.unsupported.append(Violation(path, description))

    def add_workflow(self, invalid: Iterable[Violation], unsupported: Iterable[Violation]) -> None:
        """Add the problems of the workflow of a request. Their paths get the field of the request that it is in."""
        self.invalid += map(_in_workflow, invalid)
        self.unsupported += map(_in_workflow, unsupported)


def _in_workflow(violation: Violation) -> Violation:
    field = violation.field if violation.field == "workflow" else f"workflow.{violation.field}"
    return replace(violation, field=field)


def parse_payload(message: payload_pb2.Payload, path: str, parsed: Parsed) -> Payload:
    """Return a payload. Its size is checked, and that its JSON is valid. `path` is its place in problems."""
    if not message.WhichOneof("body") and not has_unknown_fields(message):
        parsed.blame(path, "has no value: set `json` or `blob`")
    size = message.ByteSize()
    if size > parsed.max_payload_bytes:
        parsed.blame(path, f"{size:,} bytes are more than the {parsed.max_payload_bytes:,} allowed")
    elif message.HasField("json") and (problem := json_problem(message.json)):
        parsed.blame(f"{path}.json", problem)
    return from_payload(message)


def fill_binding(message: workflow_pb2.Binding, binding: Binding) -> None:
    """Set a message to a binding."""
    message.target = binding.target
    match binding.source:
        case FromStep(step_id, path):
            message.step.id, message.step.path = step_id, path
        case FromInput(path):
            message.input = path
        case FromItem(path):
            message.item = path
        case FromExpression(text):
            message.expression = text
        case FromSecret(name):
            message.secret = name
    if binding.default is not None:
        fill_payload(message.default, binding.default)


def parse_bindings(messages: Sequence[workflow_pb2.Binding], path: str, parsed: Parsed) -> tuple[Binding, ...]:
    """Return bindings. `path` is the place of their owner in problems."""
    if not messages:
        return ()
    found = []
    for position, message in enumerate(messages):
        place = f"{path}.bindings[{position}]"
        default = parse_payload(message.default, f"{place}.default", parsed) if message.HasField("default") else None
        source = _binding_source(message, place, parsed)
        if source is not None:
            found.append(Binding(message.target, source, default, position))
    return tuple(found)


def _binding_source(message: workflow_pb2.Binding, path: str, parsed: Parsed) -> BindingSource | None:
    """Return the source of a binding; `None`: it is malformed, or not supported."""
    match message.WhichOneof("source"):
        case "step":
            return FromStep(message.step.id, message.step.path)
        case "input":
            return FromInput(message.input)
        case "item":
            return FromItem(message.item)
        case "expression":
            return FromExpression(parse_expression(message.expression, f"{path}.expression", parsed))
        case "secret":
            return FromSecret(message.secret)
        case None if has_unknown_fields(message):  # a source of a later version is refused already
            return None
        case None:
            parsed.blame(path, "has no source: set `step`, `input`, `item`, `secret` or `expression`")
            return None
        case later:
            parsed.refuse(f"{path}.{later}")
            return None


def parse_expression(text: str, path: str, parsed: Parsed) -> str:
    """Return the text of an expression. Its length is checked."""
    if len(text) > MAX_EXPRESSION:
        parsed.blame(path, f"{len(text):,} characters are more than the {MAX_EXPRESSION:,} allowed")
    elif not text.strip():
        parsed.blame(path, "must not be empty")
    return text


def parse_for_each(message: workflow_pb2.ForEach, path: str, parsed: Parsed) -> ForEach | None:
    """Return a list to run a step over; `None`: it is malformed. `path` is its place in problems."""
    source: FromStep | FromInput | FromExpression | Payload
    match message.WhichOneof("source"):
        case "step":
            source = FromStep(message.step.id, message.step.path)
        case "input":
            source = FromInput(message.input)
        case "expression":
            source = FromExpression(parse_expression(message.expression, f"{path}.expression", parsed))
        case "items":
            source = _parse_items(message.items, f"{path}.items", parsed)
        case _:
            if not has_unknown_fields(message):  # a source of a later version is refused already
                parsed.blame(path, "has no source: set `step`, `input`, `expression` or `items`")
            return None
    return ForEach(source, message.max_parallelism)


def _parse_items(message: payload_pb2.Payload, path: str, parsed: Parsed) -> Payload:
    problems = len(parsed.invalid)
    payload = parse_payload(message, path, parsed)
    if len(parsed.invalid) > problems or has_unknown_fields(message):
        return payload
    items = json.loads(payload, parse_float=str, parse_int=str) if isinstance(payload, str) else None
    if not isinstance(items, list):
        parsed.blame(path, "must be a JSON array")
    elif len(items) > MAX_ITEMS:
        parsed.blame(path, f"{len(items):,} items are more than the {MAX_ITEMS:,} allowed")
    return payload


def fill_for_each(message: workflow_pb2.ForEach, for_each: ForEach) -> None:
    """Set a message to a list to run a step over."""
    message.max_parallelism = for_each.max_parallelism
    match for_each.source:
        case FromStep(step_id, path):
            message.step.id, message.step.path = step_id, path
        case FromInput(path):
            message.input = path
        case FromExpression(text):
            message.expression = text
        case items:
            fill_payload(message.items, items)


def parse_choice(value: int, default: E, path: str, parsed: Parsed) -> E:
    """Return a value of an enum, which has the same numbers in the core and the contract; 0 is the default."""
    if not value:
        return default
    try:
        return type(default)(value)
    except ValueError:
        parsed.refuse(path, f"this server does not know the value {value}")
        return default


def parse_duration(message: Duration, path: str, parsed: Parsed, *, zero: bool = False) -> int:
    """Return a duration in nanoseconds. It must be positive and within bounds; `zero`: it may be zero, too."""
    nanos = from_duration(message)
    if problem := _duration_problem(message, nanos, zero=zero):
        parsed.blame(path, problem)
    return nanos


def _duration_problem(message: Duration, nanos: int, *, zero: bool) -> str:
    if abs(message.nanos) >= SECOND or message.seconds * message.nanos < 0:
        return "malformed duration: nanos must be below one second and have the sign of seconds"
    if nanos < 0 and zero:
        return f"must not be negative, got {nanos / SECOND:g} s"
    if nanos <= 0 and not zero:
        return f"must be positive, got {nanos / SECOND:g} s"
    if nanos > MAX_DURATION:
        return f"must be at most {MAX_DURATION // SECOND:,} s (a hundred years), got {nanos / SECOND:g} s"
    return ""
