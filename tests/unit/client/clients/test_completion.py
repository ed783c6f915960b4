"""Steps that are completed from outside: the requests of the client."""

from typing import Any, cast

import pytest

from stepwave import Blob, FailureReason, State, Workflow
from stepwave._transport.blocking import drive
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import payload_pb2, run_pb2
from unit.client.clients.transport import ScriptedTransport, session


def completing() -> ScriptedTransport:
    transport = ScriptedTransport()
    run = run_pb2.Run(run_id="r", state=run_pb2.STATE_RUNNING)
    transport.answers("CompleteStep", pb.CompleteStepResponse(run=run))
    return transport


def test_a_step_is_answered_by_its_path() -> None:
    transport = completing()
    run = drive(session(transport, namespace="n").complete_step("r", "pages[3]/approval", {"by": "Ada"}))
    assert run.state is State.RUNNING
    assert transport.sent[0][1] == pb.CompleteStepRequest(
        namespace="n", run_id="r", step_id="pages[3]/approval", output=payload_pb2.Payload(json='{"by":"Ada"}')
    )


@pytest.mark.parametrize(
    ("output", "payload"),
    [
        (None, payload_pb2.Payload(json="null")),
        (Blob(b"x", "a/b"), payload_pb2.Payload(blob=payload_pb2.Blob(data=b"x", content_type="a/b"))),
    ],
)
def test_the_answer_is_any_value(output: Any, payload: payload_pb2.Payload) -> None:
    transport = completing()
    step = Workflow("w").step("approval", "core.wait")
    drive(session(transport).complete_step("r", step, output))
    assert transport.sent[0][1] == pb.CompleteStepRequest(run_id="r", step_id="approval", output=payload)


def test_an_answer_that_json_cannot_hold_is_refused_before_anything_is_sent() -> None:
    transport = ScriptedTransport()
    with pytest.raises(ValueError, match="JSON cannot hold"):
        drive(session(transport).complete_step("r", "approval", {1, 2}))  # type: ignore[arg-type]  # what is tested
    assert transport.sent == []


@pytest.mark.parametrize("reason", ["unauthorized", FailureReason.UNAUTHORIZED])
def test_a_step_is_failed_with_a_reason(reason: str) -> None:
    transport = completing()
    drive(session(transport).fail_step("r", "approval", "rejected by Ada", reason=reason))
    failure = run_pb2.Failure(reason=run_pb2.FAILURE_REASON_UNAUTHORIZED, message="rejected by Ada")
    assert transport.sent[0][1] == pb.CompleteStepRequest(run_id="r", step_id="approval", failure=failure)


def test_a_failure_is_final_unless_it_may_be_retried() -> None:
    transport = completing()
    drive(session(transport).fail_step("r", "approval", "not yet", retryable=True))
    request = cast("pb.CompleteStepRequest", transport.sent[0][1])
    assert (request.failure.retryable, request.failure.reason) == (True, run_pb2.FAILURE_REASON_ACTION_ERROR)


@pytest.mark.parametrize("reason", ["rejected", "unknown"])
def test_a_reason_that_there_is_not_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        drive(session(ScriptedTransport()).fail_step("r", "approval", "no", reason=reason))
