"""Following a run over lost streams, over a scripted transport."""

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from stepwave import RunResult, SyncEventStream, SyncRunHandle
from stepwave._model.events import Event, RunFinished, StepChunk, StepProgress
from stepwave._transport.blocking import drive
from stepwave.exceptions import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidWorkflow,
    NotFound,
    RunLost,
    ServerError,
    ServerUnavailable,
)
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import EVENT_KIND_STEP_FINISHED
from unit.client.clients.transport import (
    ADDRESS,
    LOST,
    Wire,
    batch,
    chunk,
    finished,
    run_finished,
    session,
    started,
    transient,
)


def followed(wire: Wire, *, timeout: int | None = None, **settings: Any) -> SyncRunHandle:
    return SyncRunHandle(session(wire, **settings).run("w", run_id="r", timeout=timeout))


def watched(wire: Wire, *, after: int = 0, kinds: Iterable[str] = (), attach: bool = False) -> SyncEventStream:
    return SyncEventStream(session(wire).watch("r", after=after, kinds=kinds, attach=attach))


def complete(wire: Wire, timeout: int | None = None) -> RunResult:
    return drive(session(wire).run("w", run_id="r", timeout=timeout))


def read_all(run: SyncRunHandle | SyncEventStream) -> list[Event]:
    return list(run.__enter__())


def sequences(run: SyncRunHandle | SyncEventStream) -> list[int]:
    return [event.sequence for event in read_all(run)]


def test_a_run_is_followed_to_its_last_event() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), batch(finished(2), run_finished(3)))
    run = followed(wire)
    assert sequences(run) == [1, 2, 3]
    assert wire.names == ["ExecuteWorkflow"]
    assert run.result.succeeded


def test_a_lost_stream_is_resumed_after_the_last_event_and_attached_again() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1), finished(2)), LOST)
    wire.stream_answers(batch(run_finished(3)))
    assert sequences(followed(wire, namespace="n")) == [1, 2, 3]
    assert wire.sent[1] == ("WatchRun", pb.WatchRunRequest(namespace="n", run_id="r", after_sequence=2, attach=True))


def test_events_that_come_again_are_dropped() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1), finished(2)), LOST)
    wire.stream_answers(batch(finished(2)), batch(started(1), run_finished(3)))
    assert sequences(followed(wire)) == [1, 2, 3]


def test_chunks_that_come_again_with_a_new_stream_are_dropped() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1), chunk(1, 0), chunk(1, 1)), LOST)
    wire.stream_answers(batch(chunk(1, 0), chunk(1, 1), chunk(1, 2), finished(2), run_finished(3)))
    events = read_all(followed(wire))
    assert [event.index for event in events if isinstance(event, StepChunk)] == [0, 1, 2]


def test_chunks_of_a_new_attempt_begin_anew() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1), chunk(1, 0), chunk(2, 0), finished(2), run_finished(3)))
    events = read_all(followed(wire))
    assert [event.attempt for event in events if isinstance(event, StepChunk)] == [1, 2]


def test_a_missing_event_is_an_error_of_the_server() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), batch(finished(3)))
    run = followed(wire).__enter__()
    next(run)
    with pytest.raises(ServerError, match="event 3 came after event 1"):
        next(run)


def test_transient_events_pass_whatever_their_number() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1), transient("half")), LOST)
    wire.stream_answers(batch(transient("half"), transient("whole"), run_finished(2)))
    events = read_all(followed(wire))
    assert [event.message for event in events if isinstance(event, StepProgress)] == ["half", "half", "whole"]


def test_a_stream_that_a_stopping_server_closes_is_resumed() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), None)
    wire.stream_answers(batch(run_finished(2)))
    assert sequences(followed(wire)) == [1, 2]


def test_until_the_first_message_the_start_is_sent_again() -> None:
    wire = Wire()
    wire.stream_answers(LOST)
    wire.stream_answers(None)
    wire.stream_answers(batch(run_finished(1)))
    run = SyncRunHandle(session(wire).run("w", {"city": "Oslo"}))
    read_all(run)
    assert wire.names == ["ExecuteWorkflow"] * 3
    assert wire.sent[0] == wire.sent[1] == wire.sent[2]


def test_without_a_server_the_run_gives_up_after_the_connect_timeout() -> None:
    wire = Wire()
    run = followed(wire, connect_timeout=2.0)
    with pytest.raises(ServerUnavailable, match=f"no server at {ADDRESS}"):
        read_all(run)
    assert sum(wire.pauses) == pytest.approx(2.0)


def test_a_server_that_does_not_come_back_is_given_up_after_the_reconnect_window() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    run = followed(wire, reconnect_window=7.0)
    with pytest.raises(ServerUnavailable, match="did not come back in 7 s") as caught:
        read_all(run)
    assert caught.value.address == ADDRESS
    assert sum(wire.pauses) == pytest.approx(7.0)


def test_pauses_double_up_to_five_seconds() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    with pytest.raises(ServerUnavailable):
        read_all(followed(wire))
    assert wire.pauses[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


def test_every_message_resets_the_backoff() -> None:
    wire = Wire()
    for sequence in range(1, 30):
        wire.stream_answers(batch(started(sequence)), LOST)
    wire.stream_answers(batch(run_finished(30)))
    assert sequences(followed(wire, reconnect_window=0.15))[-1] == 30


def test_a_keep_alive_resets_the_backoff_and_is_no_event() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    for _ in range(5):
        wire.stream_answers(batch(last=1), LOST)
    wire.stream_answers(batch(run_finished(2)))
    assert sequences(followed(wire, reconnect_window=0.15)) == [1, 2]


def test_a_run_that_a_restarted_server_does_not_know_is_lost() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    wire.stream_answers(NotFound("no run r", reason="RUN_NOT_FOUND"))
    with pytest.raises(RunLost, match=f"run 'r' is lost: the server at {ADDRESS} does not know it") as caught:
        read_all(followed(wire))
    assert (caught.value.run_id, caught.value.reason) == ("r", "RUN_NOT_FOUND")


def test_a_lost_run_is_not_cancelled() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    wire.stream_answers(NotFound("no run r", reason="RUN_NOT_FOUND"))
    with pytest.raises(RunLost):
        complete(wire)
    assert "CancelRun" not in wire.names


def test_a_run_that_never_existed_is_not_lost() -> None:
    wire = Wire()
    wire.stream_answers(NotFound("no run r", reason="RUN_NOT_FOUND"))
    with pytest.raises(NotFound) as caught:
        read_all(watched(wire))
    assert not isinstance(caught.value, RunLost)


def test_a_lost_connection_and_its_return_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    wire.stream_answers(LOST)
    wire.stream_answers(batch(last=1), batch(finished(2)), LOST)
    wire.stream_answers(batch(run_finished(3)))
    with caplog.at_level("INFO", "stepwave.connection"):
        read_all(followed(wire))
    assert caplog.messages == [f"lost the server at {ADDRESS}; reconnecting", "reconnected"] * 2


def test_a_stream_that_a_stopping_server_closes_is_not_logged_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), None)
    wire.stream_answers(batch(run_finished(2)))
    with caplog.at_level("INFO", "stepwave.connection"):
        read_all(followed(wire))
    assert caplog.messages == []


def test_the_timeout_ends_the_run_by_name() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), DeadlineExceeded("Deadline Exceeded"))
    with pytest.raises(DeadlineExceeded, match="run 'r' did not end within 2 s"):
        read_all(followed(wire, timeout=2))


def test_the_timeout_applies_while_a_lost_stream_is_retried() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    with pytest.raises(DeadlineExceeded):
        read_all(followed(wire, timeout=2))
    assert sum(wire.pauses) == pytest.approx(2.0)


def test_every_stream_gets_what_is_left_of_the_timeout() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), lambda: drive(wire.sleep(4)), LOST)
    wire.stream_answers(batch(run_finished(2)))
    read_all(followed(wire, timeout=10))
    assert wire.limits == pytest.approx([10, 5.9])


def test_a_filtered_watch_resumes_after_what_was_filtered_out() -> None:
    wire = Wire()
    wire.stream_answers(batch(finished(4), last=6), batch(last=9), LOST)
    wire.stream_answers(batch(run_finished(12)))
    watch = watched(wire, kinds=["step_finished"])
    assert sequences(watch) == [4, 12]
    assert wire.sent[1][1] == pb.WatchRunRequest(run_id="r", after_sequence=9, kinds=[EVENT_KIND_STEP_FINISHED])


def test_a_watch_begins_after_the_number_it_was_given() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(8), run_finished(9)))
    assert sequences(watched(wire, after=7, attach=True)) == [8, 9]
    assert wire.sent[0][1] == pb.WatchRunRequest(run_id="r", after_sequence=7, attach=True)


def test_an_unknown_kind_of_event_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown kind of event 'step_ended'; there are run_started, wave_started"):
        watched(Wire(), kinds=["step_ended"])


def test_leaving_a_run_before_its_end_cuts_the_stream_and_cancels_the_run() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)))
    wire.answers("CancelRun", pb.CancelRunResponse())
    with followed(wire, namespace="n") as run:
        next(run)
    reason = "its caller left before the end"
    assert wire.sent[1] == ("CancelRun", pb.CancelRunRequest(namespace="n", run_id="r", reason=reason))
    assert wire.cancelled == 1


def test_leaving_a_run_that_was_opened_and_never_read_cancels_it() -> None:
    wire = Wire()
    wire.answers("CancelRun", pb.CancelRunResponse())
    with followed(wire):
        pass
    assert wire.names == ["ExecuteWorkflow", "CancelRun"]


def test_a_run_that_was_never_opened_sends_nothing() -> None:
    wire = Wire()
    followed(wire).__exit__(None, None, None)
    assert wire.sent == []


def test_leaving_a_run_after_its_end_lets_the_stream_end_and_cancels_nothing() -> None:
    wire = Wire()
    wire.stream_answers(batch(run_finished(1)))
    with followed(wire) as run:
        next(run)
    assert wire.names == ["ExecuteWorkflow"]
    assert (wire.finished, wire.cancelled) == (1, 0)


def test_leaving_a_watch_cancels_nothing_but_the_stream() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)))
    with watched(wire, attach=True) as events:
        next(events)
    assert (wire.names, wire.cancelled) == (["WatchRun"], 1)


@pytest.mark.parametrize("refusal", [AlreadyExists("taken"), InvalidWorkflow("no steps")])
def test_a_refused_run_is_not_cancelled(refusal: Exception) -> None:
    wire = Wire()
    wire.stream_answers(refusal)
    with pytest.raises(type(refusal)):
        complete(wire)
    assert wire.names == ["ExecuteWorkflow"]


def test_a_run_whose_timeout_passed_is_cancelled() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), DeadlineExceeded("Deadline Exceeded"))
    wire.answers("CancelRun", pb.CancelRunResponse())
    with pytest.raises(DeadlineExceeded):
        complete(wire, timeout=2)
    assert wire.names == ["ExecuteWorkflow", "CancelRun"]


def test_an_interrupt_cancels_the_run() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), KeyboardInterrupt())
    wire.answers("CancelRun", pb.CancelRunResponse())
    with pytest.raises(KeyboardInterrupt):
        complete(wire)
    assert wire.names == ["ExecuteWorkflow", "CancelRun"]


def test_a_cancel_that_fails_hides_no_other_error() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), ServerError("INTERNAL: defect"))
    wire.answers("CancelRun", NotFound("no run r"))
    with pytest.raises(ServerError, match="defect"):
        complete(wire)


def test_a_server_that_was_given_up_gets_no_cancel_request() -> None:
    wire = Wire()
    wire.stream_answers(batch(started(1)), LOST)
    with pytest.raises(ServerUnavailable):
        complete(wire)
    assert "CancelRun" not in wire.names


def test_a_run_that_was_left_cannot_be_followed_again() -> None:
    wire = Wire()
    run = session(wire).run("w")
    drive(run.__aexit__(None, None, None))
    with pytest.raises(RuntimeError, match="followed only once"):
        drive(run)


def test_nothing_is_read_ahead_of_the_caller() -> None:
    wire = Wire()
    read: list[int] = []
    wire.stream_answers(batch(started(1)), lambda: read.append(2), batch(run_finished(2)))
    run = followed(wire).__enter__()
    next(run)
    assert read == []
    next(run)
    assert read == [2]


def test_a_result_is_complete_however_the_stream_broke() -> None:
    wire = Wire()
    wire.stream_answers(batch(finished(1, "a", '"one"')), LOST)
    wire.stream_answers(batch(finished(2, "b", '"two"'), run_finished(3)))
    result = complete(wire)
    assert {step_id: step.output for step_id, step in result.steps.items()} == {"a": "one", "b": "two"}


def test_cutting_at_every_event_gives_the_same_events() -> None:
    events = [started(1), finished(2), started(3, "b"), finished(4, "b"), run_finished(5)]
    for cuts in itertools.product([False, True], repeat=len(events)):
        wire = Wire()
        script: list[object] = []
        for event, cut in zip(events, cuts, strict=True):
            script.append(batch(event))
            if cut:
                wire.stream_answers(*script, LOST)
                script = [batch(event)]  # the next stream repeats it
        wire.stream_answers(*script)
        read = read_all(followed(wire))
        assert [event.sequence for event in read] == [1, 2, 3, 4, 5]
        assert isinstance(read[-1], RunFinished)
