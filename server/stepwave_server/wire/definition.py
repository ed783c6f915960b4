"""What a run was given, as a message."""

from stepwave.v1 import orchestrator_pb2, workflow_pb2
from stepwave_server.core.info import RunKey
from stepwave_server.core.model import Payload
from stepwave_server.core.state import SECOND, RunOptions

from .values import fill_payload, fill_time

__all__ = ["to_definition"]


def to_definition(
    *, key: RunKey, workflow: bytes, input: Payload, options: RunOptions, create_time: int, rerun_of: str
) -> orchestrator_pb2.RunDefinition:
    """Return what a run was given as a message; `workflow` is a `Workflow` message in bytes."""
    message = orchestrator_pb2.RunDefinition(
        run_id=key.run_id,
        namespace=key.namespace,
        workflow=workflow_pb2.Workflow.FromString(workflow),
        open=options.open,
        max_steps=options.limits.max_steps,
        max_edges=options.limits.max_edges,
        scheduler_version=options.version,
        rerun_of=rerun_of,
    )
    fill_payload(message.input, input)
    fill_time(message.create_time, create_time)
    seconds, nanos = divmod(options.step_timeout, SECOND)
    message.default_step_timeout.seconds, message.default_step_timeout.nanos = seconds, nanos
    return message
