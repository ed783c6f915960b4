"""Retries of calls, over a scripted transport."""

import pytest

from stepwave import DeadlineExceeded, NotFound, ServerUnavailable
from stepwave._transport.blocking import drive
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from unit.client.clients.transport import LOST, ScriptedTransport, batch, run_finished, session


def test_a_call_is_retried_until_the_server_answers() -> None:
    transport = ScriptedTransport()
    transport.answers("GetRun", LOST, LOST, pb.GetRunResponse(run=run_pb2.Run(run_id="r")))
    assert drive(session(transport).get("r")).run_id == "r"
    assert transport.pauses == pytest.approx([0.1, 0.2])


def test_a_call_gives_up_after_the_connect_timeout() -> None:
    transport = ScriptedTransport()
    with pytest.raises(ServerUnavailable):
        drive(session(transport, connect_timeout=1.0).get("r"))
    assert sum(transport.pauses) == pytest.approx(1.0)


def test_without_a_connect_timeout_a_call_is_made_once() -> None:
    transport = ScriptedTransport()
    with pytest.raises(ServerUnavailable):
        drive(session(transport, connect_timeout=0.0).get("r"))
    assert transport.names == ["GetRun"]


def test_all_attempts_of_a_call_take_no_longer_than_the_timeout() -> None:
    transport = ScriptedTransport()
    with pytest.raises(DeadlineExceeded, match="GetRun: no answer from"):
        drive(session(transport, timeout=1.0, connect_timeout=60.0).get("r"))
    assert sum(transport.pauses) == pytest.approx(1.0)
    assert transport.limits == pytest.approx([1.0, 0.9, 0.7, 0.3])


def test_a_refused_stream_is_not_retried() -> None:
    transport = ScriptedTransport()
    transport.answers("GetRun", NotFound("no run r"))
    with pytest.raises(NotFound):
        drive(session(transport).get("r"))
    assert transport.names == ["GetRun"]


def test_pauses_have_full_jitter() -> None:
    transport = ScriptedTransport()
    transport.answers("GetRun", LOST, LOST, pb.GetRunResponse())
    drive(session(transport, draw=0.5).get("r"))
    assert transport.pauses == pytest.approx([0.05, 0.1])


def test_a_start_that_is_made_again_has_the_same_run_id() -> None:
    transport = ScriptedTransport()
    transport.answers("StartRun", LOST, pb.StartRunResponse())
    drive(session(transport).start("briefing", {"city": "Oslo"}))
    (_, first), (_, second) = transport.sent
    assert isinstance(first, pb.StartRunRequest)
    assert first == second
    assert first.run_id


def ended(transport: ScriptedTransport) -> ScriptedTransport:
    """Script a run that has ended."""
    transport.stream_answers(batch(run_finished(1)))
    return transport


def test_a_wait_retries_the_result_as_long_as_a_lost_stream() -> None:
    transport = ended(ScriptedTransport())
    transport.answers(
        "GetResult", *[LOST] * 7, pb.GetResultResponse(result=run_pb2.Result(state=run_pb2.STATE_SUCCEEDED))
    )
    transport.answers("ListStepResults", *[LOST] * 7, pb.ListStepResultsResponse())
    assert drive(session(transport).wait("r")).succeeded
    assert sum(transport.pauses) == pytest.approx(2 * (0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 5.0))


def test_a_wait_without_a_result_gives_up_after_the_reconnect_window() -> None:
    transport = ended(ScriptedTransport())
    with pytest.raises(ServerUnavailable):
        drive(session(transport, timeout=5.0, connect_timeout=1.0, reconnect_window=20.0).wait("r"))
    assert sum(transport.pauses) == pytest.approx(20.0)


def test_without_a_reconnect_window_a_wait_retries_the_result_like_any_call() -> None:
    transport = ended(ScriptedTransport())
    with pytest.raises(ServerUnavailable):
        drive(session(transport, connect_timeout=1.0, reconnect_window=0.0).wait("r"))
    assert sum(transport.pauses) == pytest.approx(1.0)


def test_the_timeout_of_a_wait_also_ends_the_retries_of_the_result() -> None:
    transport = ended(ScriptedTransport())
    transport.answers("GetResult", LOST, pb.GetResultResponse(result=run_pb2.Result(state=run_pb2.STATE_SUCCEEDED)))
    with pytest.raises(DeadlineExceeded, match="ListStepResults: no answer from"):
        drive(session(transport).wait("r", timeout=4.0))
    assert sum(transport.pauses) == pytest.approx(4.0)
