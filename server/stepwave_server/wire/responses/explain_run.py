"""Explanations of what the steps of a run wait for, as messages."""

from stepwave.v1 import event_pb2, orchestrator_pb2
from stepwave_server.core.explanation import Explanation, StepExplanation
from stepwave_server.wire.responses.results import to_run, to_state
from stepwave_server.wire.values import clean, fill_time

__all__ = ["to_explanation"]


def to_explanation(explanation: Explanation) -> orchestrator_pb2.ExplainRunResponse:
    """Return the explanation of a run as a message."""
    message = orchestrator_pb2.ExplainRunResponse(
        run=to_run(explanation.info), step_count=explanation.step_count, steps=map(_to_step, explanation.steps)
    )
    fill_time(message.time, explanation.time)
    return message


def _to_step(step: StepExplanation) -> orchestrator_pb2.StepExplanation:
    message = orchestrator_pb2.StepExplanation(
        step_id=step.step_id,
        action=step.action,
        state=to_state(step.state),
        attempt=step.attempt,
        waits_for_step_ids=step.waits_for,
        waits_for_count=step.waits_for_count,
        cause=event_pb2.WaitCause.ValueType(step.cause.value),
        message=clean(step.message),
    )
    if step.since is not None:
        fill_time(message.since, step.since)
    if step.until is not None:
        fill_time(message.until, step.until)
    if (where := step.where) is not None:
        message.where.function, message.where.file = clean(where.function), clean(where.file)
        message.where.line, message.where.text = where.line, clean(where.text)
    return message
