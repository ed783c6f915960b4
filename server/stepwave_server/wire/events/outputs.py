"""The outputs of a run, stored once.

The core chooses a run's outputs. `run_finished` repeats them, so that its readers need no other event. On disk they are
stored with their steps alone: a journal writes `run_finished` without them, beside the numbers of the `step_finished`
events that have them, and restores them when it reads. No other part of the server sees a record without its outputs.
"""

from collections.abc import Iterable

from stepwave.v1 import orchestrator_pb2
from stepwave_server.wire.events.encode import Kind, Record, decode

__all__ = ["with_outputs", "without_outputs"]


def without_outputs(record: Record) -> Record:
    """Return a `run_finished` without its outputs."""
    message = orchestrator_pb2.WatchRunResponse.FromString(record.data)
    message.events[0].run_finished.result.ClearField("outputs")
    return Record(kind=Kind.RUN_FINISHED, data=message.SerializeToString(deterministic=True))


def with_outputs(record: Record, steps: Iterable[Record]) -> Record:
    """Return a `run_finished` with the outputs of steps, byte for byte as it was.

    Args:
        record: A `run_finished` without outputs.
        steps: The `step_finished` of the steps whose outputs are the run's.
    """
    message = orchestrator_pb2.WatchRunResponse.FromString(record.data)
    outputs = message.events[0].run_finished.result.outputs
    for step in steps:
        result = decode(step).step_finished.result
        outputs[result.step_id].CopyFrom(result.output)
    return Record(kind=Kind.RUN_FINISHED, data=message.SerializeToString(deterministic=True))
