"""Workflows and steps: messages to values of the core, with every problem reported; and back to messages."""

import time

from google.protobuf import json_format

from stepwave.v1 import workflow_pb2
from stepwave_server.core.model import (
    MAX_NESTING,
    WORKFLOW_ACTION,
    FailurePolicy,
    Join,
    OnInterrupt,
    Scheduling,
    Step,
    Workflow,
)
from stepwave_server.wire.values import fill_duration, fill_payload

from .failure_policies import fill_fallback, fill_retry, parse_fallback, parse_retry
from .input_schema import schema_problem
from .parsing import (
    MAX_SCHEMA_TIME,
    Parsed,
    fill_binding,
    fill_for_each,
    parse_bindings,
    parse_choice,
    parse_duration,
    parse_expression,
    parse_for_each,
    parse_payload,
)
from .unknown import unknown_workflow_fields

__all__ = [
    "Parsed",
    "fill_binding",
    "fill_step",
    "fill_workflow",
    "parse_payload",
    "parse_step",
    "parse_workflow",
    "workflow_of_json",
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
        "when",
        "for_each",
        "workflow",
    }
)
"""The fields of a workflow and a step that this server supports. It refuses all others, and ignores none."""


def parse_workflow(message: workflow_pb2.Workflow, parsed: Parsed) -> Workflow:
    """Return the workflow of a message. Its problems are added to `parsed`."""
    parsed.unsupported += unknown_workflow_fields(message)
    return _parse_workflow(message, "", parsed, 0)


def _parse_workflow(message: workflow_pb2.Workflow, prefix: str, parsed: Parsed, depth: int) -> Workflow:
    """Return a workflow. Its fields have `prefix` in problems; `depth` workflows are around it."""
    for descriptor, _ in message.ListFields():
        if descriptor.name not in SUPPORTED_FIELDS:
            parsed.refuse(prefix + descriptor.name)
    _check_labels(message, prefix, parsed)
    _check_schema(message.input_schema, f"{prefix}input_schema", parsed)
    has, policy, timeout = message.HasField, f"{prefix}failure_policy", f"{prefix}timeout"
    steps = enumerate(message.steps)
    return Workflow(
        name=message.name,
        steps=tuple(parse_step(step, f"{prefix}steps[{index}]", parsed, depth) for index, step in steps),
        scheduling=parse_choice(message.scheduling, Scheduling.EAGER, f"{prefix}scheduling", parsed),
        failure_policy=parse_choice(message.failure_policy, FailurePolicy.FAIL_FAST, policy, parsed),
        max_parallelism=message.max_parallelism,
        timeout=parse_duration(message.timeout, timeout, parsed) if has("timeout") else None,
        labels=dict(message.labels),
        outputs=tuple(message.outputs),
        retry=parse_retry(message.retry, f"{prefix}retry", parsed) if has("retry") else None,
        input_schema=message.input_schema,
    )


def workflow_of_json(text: str) -> workflow_pb2.Workflow:
    """Return the workflow of its JSON form, as protobuf defines it.

    Raises:
        ValueError: It is no such form.
    """
    try:
        return json_format.Parse(text, workflow_pb2.Workflow())
    except json_format.ParseError as error:
        raise ValueError(str(error)) from error


def parse_step(message: workflow_pb2.Step, path: str, parsed: Parsed, depth: int = 0) -> Step:
    """Return the step of a message. `path` is its place in problems; `depth` workflows are around its own one."""
    step_id, action, depends_on = message.id, message.action, tuple(message.depends_on)
    if not action and not message.HasField("workflow"):
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
        action=WORKFLOW_ACTION if has("workflow") else action,
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
        when=parse_expression(message.when, f"{path}.when", parsed) if message.when else "",
        for_each=parse_for_each(message.for_each, f"{path}.for_each", parsed) if has("for_each") else None,
        workflow=_parse_nested(message, path, parsed, depth) if has("workflow") else None,
    )


def _parse_nested(message: workflow_pb2.Step, path: str, parsed: Parsed, depth: int) -> Workflow | None:
    """Return the workflow that a step runs; `None`: too many are nested."""
    if message.action:
        parsed.blame(f"{path}.action", "must not be set beside `workflow`")
    if message.HasField("retry"):
        parsed.blame(f"{path}.retry", "must not be set beside `workflow`: its steps have their own")
    if depth == MAX_NESTING:
        parsed.blame(f"{path}.workflow", f"more than {MAX_NESTING} workflows are nested")
        return None
    return _parse_workflow(message.workflow, f"{path}.workflow.", parsed, depth + 1)


def fill_step(message: workflow_pb2.Step, step: Step) -> None:
    """Set a message to a step."""
    message.id = step.id
    if step.workflow is None:
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
    message.when = step.when
    if step.for_each is not None:
        fill_for_each(message.for_each, step.for_each)
    if step.workflow is not None:
        fill_workflow(message.workflow, step.workflow)


def fill_workflow(message: workflow_pb2.Workflow, workflow: Workflow) -> None:
    """Set a message to a workflow."""
    message.name = workflow.name
    for step in workflow.steps:
        fill_step(message.steps.add(), step)
    message.scheduling = workflow_pb2.Scheduling.ValueType(workflow.scheduling.value)
    message.failure_policy = workflow_pb2.FailurePolicy.ValueType(workflow.failure_policy.value)
    message.max_parallelism = workflow.max_parallelism
    if workflow.timeout is not None:
        fill_duration(message.timeout, workflow.timeout)
    message.labels.update(workflow.labels)
    message.outputs.extend(workflow.outputs)
    if workflow.retry is not None:
        fill_retry(message.retry, workflow.retry)
    message.input_schema = workflow.input_schema


def _check_schema(schema: str, path: str, parsed: Parsed) -> None:
    if not schema or parsed.accepted:
        return
    if parsed.schema_time <= 0:
        parsed.blame(path, f"the checks of all schemas take longer than {MAX_SCHEMA_TIME:g} s")
        return
    start = time.thread_time()
    if problem := schema_problem(schema):
        parsed.blame(path, problem)
    parsed.schema_time -= time.thread_time() - start


def _check_labels(message: workflow_pb2.Workflow, prefix: str, parsed: Parsed) -> None:
    if len(message.labels) > MAX_LABELS:
        parsed.blame(f"{prefix}labels", f"{len(message.labels)} labels are more than the {MAX_LABELS} allowed")
    for key, value in message.labels.items():
        if not key or len(key) > MAX_LABEL_LENGTH or len(value) > MAX_LABEL_LENGTH:
            parsed.blame(
                f"{prefix}labels[{key!r}]", f"keys need 1 to {MAX_LABEL_LENGTH} characters, values at most as many"
            )
