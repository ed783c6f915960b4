"""Runs, steps and results, as messages."""

from stepwave.v1 import run_pb2
from stepwave_server.core.info import RunInfo, RunKey
from stepwave_server.core.messages import RunFinished
from stepwave_server.core.model import State
from stepwave_server.core.state import StepState
from stepwave_server.wire.values import fill_failure, fill_payload, fill_time, from_counts, from_time, to_counts

__all__ = ["decode_run", "encode_run", "fill_result", "to_run", "to_state", "to_step_result"]


def to_state(state: State) -> run_pb2.State.ValueType:
    """Return a state of the contract, which has the same number in the core."""
    return run_pb2.State.ValueType(state.value)


def to_run(info: RunInfo) -> run_pb2.Run:
    """Return a run as a message."""
    message = run_pb2.Run(
        run_id=info.key.run_id,
        namespace=info.key.namespace,
        workflow_name=info.workflow_name,
        state=to_state(info.state),
        labels=info.labels,
        counts=to_counts(info.counts),
        last_sequence=info.last_sequence,
        open=info.open,
        stopping=info.stopping,
        rerun_of=info.rerun_of,
        paused=info.paused,
        missing_actions=info.missing,
        workflow_digest=info.workflow_digest,
        created_by=info.created_by,
    )
    fill_time(message.create_time, info.create_time)
    if info.start_time is not None:
        fill_time(message.start_time, info.start_time)
    if info.end_time is not None:
        fill_time(message.end_time, info.end_time)
    return message


def encode_run(info: RunInfo) -> bytes:
    """Return the information about a run as an encoded message."""
    data: bytes = to_run(info).SerializeToString()
    return data


def decode_run(data: bytes) -> RunInfo:
    """Return the information about a run of an encoded message."""
    message = run_pb2.Run.FromString(data)
    return RunInfo(
        key=RunKey(message.namespace, message.run_id),
        workflow_name=message.workflow_name,
        state=State(message.state),
        labels=dict(message.labels),
        create_time=from_time(message.create_time),
        start_time=from_time(message.start_time) if message.HasField("start_time") else None,
        end_time=from_time(message.end_time) if message.HasField("end_time") else None,
        counts=from_counts(message.counts),
        last_sequence=message.last_sequence,
        open=message.open,
        stopping=message.stopping,
        rerun_of=message.rerun_of,
        paused=message.paused,
        missing=tuple(message.missing_actions),
        workflow_digest=message.workflow_digest,
        created_by=message.created_by,
    )


def to_step_result(step: StepState) -> run_pb2.StepResult:
    """Return the result so far of a step that has not ended. A step that has ended has its result in its event."""
    message = run_pb2.StepResult(
        step_id=step.id,
        action=step.spec.action,
        state=to_state(step.state),
        wave=max(step.wave, 0),
        attempts=step.attempt,
    )
    if step.ready_time is not None:
        fill_time(message.ready_time, step.ready_time)
    if step.start_time is not None:
        fill_time(message.start_time, step.start_time)
    if step.original is not None:
        fill_failure(message.original_failure, step.original)
    return message


def fill_result(message: run_pb2.Result, run_id: str, workflow_name: str, create_time: int, event: RunFinished) -> None:
    """Set a result to that in the last event of a run."""
    message.run_id = run_id
    message.workflow_name = workflow_name
    message.state = to_state(event.state)
    for step_id, output in event.outputs:
        fill_payload(message.outputs[step_id], output)
    message.omitted_outputs.extend(event.omitted)
    message.omitted_output_count = event.omitted_count
    for failure in event.failures:
        fill_failure(message.failures.add(), failure)
    message.failure_count = event.failure_count
    fill_time(message.create_time, create_time)
    fill_time(message.start_time, event.start_time)
    fill_time(message.end_time, event.time)
    message.counts.CopyFrom(to_counts(event.counts))
