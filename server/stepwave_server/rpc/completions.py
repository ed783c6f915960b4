"""The outcome in a request to complete a step."""

from dataclasses import replace

from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave_server.access.roles import CALL
from stepwave_server.core.messages import StepCompleted
from stepwave_server.core.model import Failure, FailureCause, Reason
from stepwave_server.wire.values import from_failure
from stepwave_server.wire.workflows.parsing import Parsed, parse_payload

__all__ = ["parse_completion"]

COMPLETED_BY = "completed_by"
"""The key of the details of a failure under which it says who gave it."""

MAX_MESSAGE = 2_048
MAX_DETAILS = 16_384
"""Bytes of the message and of the details of a failure, as of one that an action raises."""

NOT_GIVEN = (Reason.CANCELLED, Reason.INTERRUPTED)
"""Reasons that only the server gives."""


def parse_completion(request: pb.CompleteStepRequest, parsed: Parsed) -> StepCompleted:
    """Return the completion of a step. Its problems are added to `parsed`."""
    caller = CALL.get().caller.name
    if not request.step_id:
        parsed.blame("step_id", "must not be empty")
    match request.WhichOneof("outcome"):
        case "output":
            output = parse_payload(request.output, "output", parsed)
            return StepCompleted(request.step_id, output=output, caller=caller)
        case "failure":
            failure = _failure(request.failure, parsed)
            if caller:
                details = {**dict(failure.details), COMPLETED_BY: caller}
                failure = replace(failure, details=tuple(sorted(details.items())))
            return StepCompleted(request.step_id, failure=failure, caller=caller)
        case _:
            parsed.blame("output", "has no outcome: set `output` or `failure`")
            return StepCompleted(request.step_id)


def _failure(message: run_pb2.Failure, parsed: Parsed) -> Failure:
    fallback = Failure(Reason.ACTION_ERROR, "")
    if int(message.reason) not in {reason.value for reason in Reason}:
        parsed.blame("failure.reason", "is required: set a known reason, such as `FAILURE_REASON_ACTION_ERROR`")
        return fallback
    if Reason(message.reason) in NOT_GIVEN:
        parsed.blame("failure.reason", "only the server gives this reason")
    if message.cause or message.step_id or message.attempt:
        parsed.blame("failure", "`cause`, `step_id` and `attempt` must not be set: the server sets them")
        return fallback
    if len(message.message.encode()) > MAX_MESSAGE:
        parsed.blame("failure.message", f"must have at most {MAX_MESSAGE:,} bytes")
    if sum(len(key.encode()) + len(value.encode()) for key, value in message.details.items()) > MAX_DETAILS:
        parsed.blame("failure.details", f"must have at most {MAX_DETAILS:,} bytes in all")
    failure = from_failure(message)
    if failure.retry_after is not None and failure.retry_after < 0:
        parsed.blame("failure.retry_after", "must not be negative")
    assert failure.cause is FailureCause.UNSPECIFIED
    return failure
