"""Workflows: messages to the core's, with every problem named; and steps back to messages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration

from stepwave.v1 import payload_pb2, workflow_pb2
from stepwave_server.core.model import (
    Binding,
    FailurePolicy,
    FromInput,
    FromStep,
    Join,
    OnInterrupt,
    Payload,
    Scheduling,
    Step,
    Workflow,
)
from stepwave_server.core.validate import Violation

from .unknown import has_unknown_fields, unknown_workflow_fields
from .values import SECOND, fill_payload, from_duration, from_payload

__all__ = [
    "Parsed",
    "fill_binding",
    "fill_step",
    "parse_payload",
    "parse_step",
    "parse_workflow",
]

E = TypeVar("E", Scheduling, FailurePolicy, Join, OnInterrupt)

MOST_LABELS = 64
MOST_LABEL_LENGTH = 256
MOST_DURATION = 36_525 * 24 * 3600 * SECOND
"""Longer ones lead to times that no timestamp can hold."""

SERVED_FIELDS = frozenset(
    {"name", "steps", "scheduling", "failure_policy", "max_parallelism", "timeout", "labels", "outputs"}
)
SERVED_STEP_FIELDS = frozenset(
    {"id", "action", "depends_on", "input", "bindings", "timeout", "join", "allow_failure", "on_interrupt"}
)
"""What this server does of a workflow and a step; whatever else the contract has is refused, never ignored."""


@dataclass(slots=True)
class Parsed:
    """What parsing found wrong: fields that are malformed, and fields that this server does not serve yet."""

    max_payload_bytes: int = 1 << 20
    invalid: list[Violation] = field(default_factory=list)
    unsupported: list[Violation] = field(default_factory=list)

    def blame(self, path: str, description: str) -> None:
        """Note a malformed field."""
        self.invalid.append(Violation(path, description))

    def refuse(self, path: str, description: str = "this server does not support it yet") -> None:
        """Note a field or value that is not served."""
        self.unsupported.append(Violation(path, description))


def parse_workflow(message: workflow_pb2.Workflow, parsed: Parsed) -> Workflow:
    """Return a message as the core's workflow; what is wrong with it is noted in `parsed`."""
    parsed.unsupported += unknown_workflow_fields(message)
    for descriptor, _ in message.ListFields():
        if descriptor.name not in SERVED_FIELDS:
            parsed.refuse(descriptor.name)
    _check_labels(message, parsed)
    return Workflow(
        name=message.name,
        steps=tuple(parse_step(step, f"steps[{index}]", parsed) for index, step in enumerate(message.steps)),
        scheduling=_choice(message.scheduling, Scheduling.EAGER, "scheduling", parsed),
        failure_policy=_choice(message.failure_policy, FailurePolicy.FAIL_FAST, "failure_policy", parsed),
        max_parallelism=message.max_parallelism,
        timeout=_timeout(message, "timeout", parsed),
        labels=dict(message.labels),
        outputs=tuple(message.outputs),
    )


def parse_step(message: workflow_pb2.Step, path: str, parsed: Parsed) -> Step:
    """Return a message as the core's step; `path` names it in problems."""
    step_id, action, depends_on = message.id, message.action, tuple(message.depends_on)
    if not action:
        parsed.blame(f"{path}.action", "must not be empty")
    fields = message.ListFields()
    if len(fields) == bool(step_id) + bool(action) + bool(
        depends_on
    ):  # nothing else is set, as in most large workflows
        return Step(step_id, action, depends_on)
    for descriptor, _ in fields:
        if descriptor.name not in SERVED_STEP_FIELDS:
            parsed.refuse(f"{path}.{descriptor.name}")
    return Step(
        step_id,
        action,
        depends_on,
        parse_payload(message.input, f"{path}.input", parsed) if message.HasField("input") else None,
        _bindings(message.bindings, path, parsed),
        _timeout(message, f"{path}.timeout", parsed),
        _choice(message.join, Join.ALL, f"{path}.join", parsed),
        message.allow_failure,
        _choice(message.on_interrupt, OnInterrupt.RETRY, f"{path}.on_interrupt", parsed),
    )


def parse_payload(message: payload_pb2.Payload, path: str, parsed: Parsed) -> Payload:
    """Return a payload, having checked that its JSON is JSON and its size within bounds."""
    if not message.WhichOneof("body") and not has_unknown_fields(message):
        parsed.blame(path, "holds no value: set `json` or `blob`")
    size = message.ByteSize()
    if size > parsed.max_payload_bytes:
        parsed.blame(path, f"{size:,} bytes are more than the {parsed.max_payload_bytes:,} allowed")
    elif message.HasField("json") and (problem := _json_problem(message.json)):
        parsed.blame(f"{path}.json", problem)
    return from_payload(message)


def fill_step(message: workflow_pb2.Step, step: Step) -> None:
    """Set a message to a step."""
    message.id = step.id
    message.action = step.action
    message.depends_on.extend(step.depends_on)
    if step.input is not None:
        fill_payload(message.input, step.input)
    for binding in step.bindings:
        fill_binding(message.bindings.add(), binding)
    if step.timeout is not None:
        message.timeout.seconds, message.timeout.nanos = divmod(step.timeout, SECOND)
    message.join = workflow_pb2.Join.ValueType(step.join.value)
    message.allow_failure = step.allow_failure
    if step.on_interrupt is not OnInterrupt.RETRY:
        message.on_interrupt = workflow_pb2.OnInterrupt.ValueType(step.on_interrupt.value)


def fill_binding(message: workflow_pb2.Binding, binding: Binding) -> None:
    """Set a message to a binding."""
    message.target = binding.target
    if isinstance(binding.source, FromStep):
        message.step.id = binding.source.step_id
        message.step.path = binding.source.path
    else:
        message.input = binding.source.path
    if binding.default is not None:
        fill_payload(message.default, binding.default)


def _bindings(messages: Sequence[workflow_pb2.Binding], path: str, parsed: Parsed) -> tuple[Binding, ...]:
    if not messages:
        return ()
    found = []
    for position, message in enumerate(messages):
        place = f"{path}.bindings[{position}]"
        default = parse_payload(message.default, f"{place}.default", parsed) if message.HasField("default") else None
        match message.WhichOneof("source"):
            case "step":
                source: FromStep | FromInput = FromStep(message.step.id, message.step.path)
            case "input":
                source = FromInput(message.input)
            case None if has_unknown_fields(message):  # perhaps a source that came later: refused by name already
                continue
            case None:
                parsed.blame(place, "names no source: set `step` or `input`")
                continue
            case later:
                parsed.refuse(f"{place}.{later}")
                continue
        found.append(Binding(message.target, source, default, position))
    return tuple(found)


def _choice(value: int, default: E, path: str, parsed: Parsed) -> E:
    if not value:
        return default
    try:
        return type(default)(value)
    except ValueError:
        parsed.refuse(path, f"this server does not know the value {value}")
        return default


def _timeout(message: workflow_pb2.Workflow | workflow_pb2.Step, path: str, parsed: Parsed) -> int | None:
    if not message.HasField("timeout"):
        return None
    nanos = from_duration(message.timeout)
    if problem := _duration_problem(message.timeout, nanos):
        parsed.blame(path, problem)
    return nanos


def _duration_problem(message: Duration, nanos: int) -> str:
    if abs(message.nanos) >= SECOND or message.seconds * message.nanos < 0:
        return "malformed duration: nanos must be below one second and have the sign of seconds"
    if nanos <= 0:
        return f"must be positive, got {nanos / SECOND:g} s"
    if nanos > MOST_DURATION:
        return f"must be at most {MOST_DURATION // SECOND:,} s (a hundred years), got {nanos / SECOND:g} s"
    return ""


def _json_problem(text: str) -> str:
    if text == "null":
        return ""
    try:
        json.loads(text, parse_constant=_no_constant, parse_int=str)  # digits are kept, however many
    except RecursionError:
        return "is nested too deeply"
    except ValueError as error:
        return f"is not JSON: {error}"
    return ""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _check_labels(message: workflow_pb2.Workflow, parsed: Parsed) -> None:
    if len(message.labels) > MOST_LABELS:
        parsed.blame("labels", f"{len(message.labels)} labels are more than the {MOST_LABELS} allowed")
    for key, value in message.labels.items():
        if not key or len(key) > MOST_LABEL_LENGTH or len(value) > MOST_LABEL_LENGTH:
            parsed.blame(f"labels[{key!r}]", f"keys need 1 to {MOST_LABEL_LENGTH} characters, values at most as many")
