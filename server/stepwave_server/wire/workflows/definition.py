"""The definition of a run, as a message and back: all that its decisions depend on beside its events."""

from collections.abc import Iterator
from typing import NamedTuple

from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.core.info import RunKey, seed_of
from stepwave_server.core.model import Payload
from stepwave_server.core.state import RunOptions
from stepwave_server.core.validate import Limits
from stepwave_server.wire.values import fill_duration, fill_payload, fill_time, from_duration, from_payload, from_time

__all__ = ["Definition", "from_definition", "parts_of_definition", "to_definition"]

MAX_PART = 2 << 20
"""Bytes of a part of a definition, unless one step alone has more. No message is larger than 3 MiB."""


class Definition(NamedTuple):
    """The definition of a run.

    Attributes:
        key: The key of the run.
        workflow: The workflow, an encoded `Workflow` message.
        input: The input of the run.
        options: The options of the run.
        create_time: When the run was accepted, in nanoseconds since the epoch.
        rerun_of: The id of the run whose workflow and input it took; empty if it is no rerun.
    """

    key: RunKey
    workflow: bytes
    input: Payload
    options: RunOptions
    create_time: int
    rerun_of: str


def to_definition(
    *, key: RunKey, workflow: bytes, input: Payload, options: RunOptions, create_time: int, rerun_of: str
) -> orchestrator_pb2.RunDefinition:
    """Return the definition of a run as a message; see `Definition`."""
    message = orchestrator_pb2.RunDefinition(
        run_id=key.run_id,
        namespace=key.namespace,
        workflow=workflow_pb2.Workflow.FromString(workflow),
        open=options.open,
        max_steps=options.limits.max_steps,
        max_edges=options.limits.max_edges,
        scheduler_version=options.version,
        rerun_of=rerun_of,
        max_payload_bytes=options.max_payload_bytes or 0,
    )
    fill_payload(message.input, input)
    fill_time(message.create_time, create_time)
    fill_duration(message.default_step_timeout, options.step_timeout)
    if options.idle_timeout is not None:
        fill_duration(message.idle_timeout, options.idle_timeout)
    return message


def parts_of_definition(message: orchestrator_pb2.RunDefinition) -> Iterator[orchestrator_pb2.RunDefinition]:
    """Cut a definition into parts that messages hold, by the steps of its workflow. The parts, merged, are it."""
    steps = list(message.workflow.steps)
    part = orchestrator_pb2.RunDefinition()
    part.CopyFrom(message)
    del part.workflow.steps[:]
    size = part.ByteSize()
    for step in steps:
        weight = step.ByteSize()
        if size and size + weight > MAX_PART:
            yield part
            part, size = orchestrator_pb2.RunDefinition(), 0
        part.workflow.steps.append(step)
        size += weight
    yield part


def from_definition(message: orchestrator_pb2.RunDefinition) -> Definition:
    """Return the definition of a run."""
    limits = Limits(max_steps=message.max_steps, max_edges=message.max_edges)
    key = RunKey(message.namespace, message.run_id)
    options = RunOptions(
        open=message.open,
        step_timeout=from_duration(message.default_step_timeout),
        limits=limits,
        seed=seed_of(key),
        version=message.scheduler_version,
        max_payload_bytes=message.max_payload_bytes or None,
        idle_timeout=from_duration(message.idle_timeout) if message.HasField("idle_timeout") else None,
    )
    return Definition(
        key=key,
        workflow=message.workflow.SerializeToString(deterministic=True),
        input=from_payload(message.input),
        options=options,
        create_time=from_time(message.create_time),
        rerun_of=message.rerun_of,
    )
