"""Workflows and steps: messages to values of the core, with every problem reported; and steps back to messages."""

from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import FailurePolicy, Join, OnInterrupt, Scheduling, Step, Workflow
from stepwave_server.wire.values import fill_duration, fill_payload

from .failure_policies import fill_fallback, fill_retry, parse_fallback, parse_retry
from .input_schema import schema_problem
from .parsing import Parsed, fill_binding, parse_bindings, parse_choice, parse_duration, parse_payload
from .unknown import unknown_workflow_fields

__all__ = [
    "Parsed",
    "fill_binding",
    "fill_step",
    "parse_payload",
    "parse_step",
    "parse_workflow",
]

MAX_LABELS = 64
MAX_LABEL_LENGTH = 256
SUPPORTED_FIELDS = frozenset(
    {
        "name",
        "steps",
        "scheduling",
        "failure_policy",
        "max_parallelism",
        "timeout",
        "labels",
        "outputs",
        "retry",
        "input_schema",
    }
)
SUPPORTED_STEP_FIELDS = frozenset(
    {
        "id",
        "action",
        "depends_on",
        "input",
        "bindings",
        "retry",
        "timeout",
        "total_timeout",
        "fallback",
        "join",
        "allow_failure",
        "concurrency_key",
        "on_interrupt",
    }
)
"""The fields of a workflow and a step that this server supports. It refuses all others, and ignores none."""


def parse_workflow(message: workflow_pb2.Workflow, parsed: Parsed) -> Workflow:
    """Return the workflow of a message. Its problems are added to `parsed`."""
    parsed.unsupported += unknown_workflow_fields(message)
    for descriptor, _ in message.ListFields():
        if descriptor.name not in SUPPORTED_FIELDS:
            parsed.refuse(descriptor.name)
    _check_labels(message, parsed)
    if problem := schema_problem(message.input_schema):
        parsed.blame("input_schema", problem)
    return Workflow(
        name=message.name,
        steps=tuple(parse_step(step, f"steps[{index}]", parsed) for index, step in enumerate(message.steps)),
        scheduling=parse_choice(message.scheduling, Scheduling.EAGER, "scheduling", parsed),
        failure_policy=parse_choice(message.failure_policy, FailurePolicy.FAIL_FAST, "failure_policy", parsed),
        max_parallelism=message.max_parallelism,
        timeout=parse_duration(message.timeout, "timeout", parsed) if message.HasField("timeout") else None,
        labels=dict(message.labels),
        outputs=tuple(message.outputs),
        retry=parse_retry(message.retry, "retry", parsed) if message.HasField("retry") else None,
        input_schema=message.input_schema,
    )


def parse_step(message: workflow_pb2.Step, path: str, parsed: Parsed) -> Step:
    """Return the step of a message. `path` is its place in problems."""
    step_id, action, depends_on = message.id, message.action, tuple(message.depends_on)
    if not action:
        parsed.blame(f"{path}.action", "must not be empty")
    fields = message.ListFields()
    if len(fields) == bool(step_id) + bool(action) + bool(depends_on):  # no others are set, as in most large workflows
        return Step(step_id, action, depends_on)
    for descriptor, _ in fields:
        if descriptor.name not in SUPPORTED_STEP_FIELDS:
            parsed.refuse(f"{path}.{descriptor.name}")
    has = message.HasField
    return Step(
        id=step_id,
        action=action,
        depends_on=depends_on,
        input=parse_payload(message.input, f"{path}.input", parsed) if has("input") else None,
        bindings=parse_bindings(message.bindings, path, parsed),
        timeout=parse_duration(message.timeout, f"{path}.timeout", parsed) if has("timeout") else None,
        join=parse_choice(message.join, Join.ALL, f"{path}.join", parsed),
        allow_failure=message.allow_failure,
        on_interrupt=parse_choice(message.on_interrupt, OnInterrupt.RETRY, f"{path}.on_interrupt", parsed),
        retry=parse_retry(message.retry, f"{path}.retry", parsed) if has("retry") else None,
        total_timeout=(
            parse_duration(message.total_timeout, f"{path}.total_timeout", parsed) if has("total_timeout") else None
        ),
        fallback=parse_fallback(message.fallback, f"{path}.fallback", parsed) if has("fallback") else None,
        concurrency_key=message.concurrency_key if has("concurrency_key") else None,
    )


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
        fill_duration(message.timeout, step.timeout)
    message.join = workflow_pb2.Join.ValueType(step.join.value)
    message.allow_failure = step.allow_failure
    if step.on_interrupt is not OnInterrupt.RETRY:
        message.on_interrupt = workflow_pb2.OnInterrupt.ValueType(step.on_interrupt.value)
    if step.retry is not None:
        fill_retry(message.retry, step.retry)
    if step.total_timeout is not None:
        fill_duration(message.total_timeout, step.total_timeout)
    if step.fallback is not None:
        fill_fallback(message.fallback, step.fallback)
    if step.concurrency_key is not None:
        message.concurrency_key = step.concurrency_key


def _check_labels(message: workflow_pb2.Workflow, parsed: Parsed) -> None:
    if len(message.labels) > MAX_LABELS:
        parsed.blame("labels", f"{len(message.labels)} labels are more than the {MAX_LABELS} allowed")
    for key, value in message.labels.items():
        if not key or len(key) > MAX_LABEL_LENGTH or len(value) > MAX_LABEL_LENGTH:
            parsed.blame(f"labels[{key!r}]", f"keys need 1 to {MAX_LABEL_LENGTH} characters, values at most as many")
