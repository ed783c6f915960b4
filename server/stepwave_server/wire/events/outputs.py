"""A run's last event without the outputs that its steps' events have as well, and with them again."""

from collections.abc import Iterable

from stepwave.v1 import orchestrator_pb2
from stepwave_server.wire.events.encode import Kind, Record, decode

__all__ = ["with_outputs", "without_outputs"]


def without_outputs(record: Record) -> Record:
    """Return a `run_finished` without the outputs in its result."""
    message = orchestrator_pb2.WatchRunResponse.FromString(record.data)
    message.events[0].run_finished.result.ClearField("outputs")
    return Record(Kind.RUN_FINISHED, message.SerializeToString(deterministic=True))


def with_outputs(record: Record, steps: Iterable[Record]) -> Record:
    """Return a `run_finished` with the outputs of steps, given by their `step_finished`: the same bytes as before."""
    message = orchestrator_pb2.WatchRunResponse.FromString(record.data)
    outputs = message.events[0].run_finished.result.outputs
    for step in steps:
        result = decode(step).step_finished.result
        outputs[result.step_id].CopyFrom(result.output)
    return Record(Kind.RUN_FINISHED, message.SerializeToString(deterministic=True))
