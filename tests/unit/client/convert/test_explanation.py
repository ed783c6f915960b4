"""Explanations of runs: from messages of the contract, and as plain values."""

from datetime import UTC, datetime

from google.protobuf import timestamp_pb2

from stepwave import CodeLine, State, WaitCause
from stepwave._convert.results import explanation_from_proto
from stepwave._transport.blocking import drive
from stepwave.v1 import event_pb2, run_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from unit.client.clients.transport import ScriptedTransport, session

NOW = timestamp_pb2.Timestamp(seconds=1_700_000_000)
RESPONSE = pb.ExplainRunResponse(
    run=run_pb2.Run(run_id="r", state=run_pb2.STATE_RUNNING),
    time=NOW,
    steps=[
        pb.StepExplanation(
            step_id="a",
            action="fetch",
            state=run_pb2.STATE_RUNNING,
            attempt=2,
            since=NOW,
            where=pb.CodeLine(function="fetch", file="/srv/tools.py", line=14, text="await get()"),
        ),
        pb.StepExplanation(step_id="b", state=run_pb2.STATE_PENDING, cause=event_pb2.WAIT_CAUSE_RATE, message="m"),
        pb.StepExplanation(step_id="c", state=run_pb2.STATE_PENDING, waits_for_step_ids=["a", "b"], waits_for_count=2),
        pb.StepExplanation(step_id="d", state=run_pb2.STATE_RUNNING, until=NOW, cause=99),  # type: ignore[arg-type]  # a newer server's
    ],
    step_count=7,
)


def test_an_explanation_is_asked_for_by_the_runs_id() -> None:
    transport = ScriptedTransport()
    transport.answers("ExplainRun", RESPONSE)
    assert drive(session(transport, namespace="n").explain("r")) == explanation_from_proto(RESPONSE)
    assert transport.sent == [("ExplainRun", pb.ExplainRunRequest(namespace="n", run_id="r"))]


def test_a_running_step_has_its_line() -> None:
    step = explanation_from_proto(RESPONSE).steps[0]
    assert step.where == CodeLine("fetch", "/srv/tools.py", 14, "await get()")
    assert (step.state, step.attempt, step.since) == (State.RUNNING, 2, datetime.fromtimestamp(1_700_000_000, UTC))
    assert (step.running, step.cause, step.until) == (True, None, None)


def test_a_waiting_step_has_its_cause_or_its_steps() -> None:
    _, b, c, d = explanation_from_proto(RESPONSE).steps
    assert (b.running, b.cause, b.message, b.where, b.since) == (False, WaitCause.RATE, "m", None, None)
    assert (c.cause, c.waits_for, c.waits_for_count) == (None, ("a", "b"), 2)
    assert (d.running, d.cause) == (False, WaitCause.UNKNOWN)


def test_an_explanation_has_plain_values() -> None:
    fields = explanation_from_proto(RESPONSE).to_dict()
    assert (fields["step_count"], fields["time"]) == (7, "2023-11-14T22:13:20.000000Z")
