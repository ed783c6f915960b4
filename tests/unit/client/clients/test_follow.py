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
    ScriptedTransport,
    batch,
    chunk,
    finished,
    run_finished,
    session,
    started,
    transient,
)


def followed(transport: ScriptedTransport, *, timeout: int | None = None, **settings: Any) -> SyncRunHandle:
    return SyncRunHandle(session(transport, **settings).run("w", run_id="r", timeout=timeout))


def watched(
    transport: ScriptedTransport, *, after: int = 0, kinds: Iterable[str] = (), attach: bool = False
) -> SyncEventStream:
    return SyncEventStream(session(transport).watch("r", after=after, kinds=kinds, attach=attach))


def complete(transport: ScriptedTransport, timeout: int | None = None) -> RunResult:
    return drive(session(transport).run("w", run_id="r", timeout=timeout))


def read_all(run: SyncRunHandle | SyncEventStream) -> list[Event]:
    return list(run.__enter__())


def sequences(run: SyncRunHandle | SyncEventStream) -> list[int]:
    return [event.sequence for event in read_all(run)]


def test_a_run_is_followed_to_its_last_event() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), batch(finished(2), run_finished(3)))
    run = followed(transport)
    assert sequences(run) == [1, 2, 3]
    assert transport.names == ["ExecuteWorkflow"]
    assert run.result.succeeded


def test_a_lost_stream_is_resumed_after_the_last_event_and_attached_again() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1), finished(2)), LOST)
    transport.stream_answers(batch(run_finished(3)))
    assert sequences(followed(transport, namespace="n")) == [1, 2, 3]
    assert transport.sent[1] == (
        "WatchRun",
        pb.WatchRunRequest(namespace="n", run_id="r", after_sequence=2, attach=True),
    )


def test_events_that_come_again_are_dropped() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1), finished(2)), LOST)
    transport.stream_answers(batch(finished(2)), batch(started(1), run_finished(3)))
    assert sequences(followed(transport)) == [1, 2, 3]


def test_chunks_that_come_again_with_a_new_stream_are_dropped() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1), chunk(1, 0), chunk(1, 1)), LOST)
    transport.stream_answers(batch(chunk(1, 0), chunk(1, 1), chunk(1, 2), finished(2), run_finished(3)))
    events = read_all(followed(transport))
    assert [event.index for event in events if isinstance(event, StepChunk)] == [0, 1, 2]


def test_chunks_of_a_new_attempt_begin_anew() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1), chunk(1, 0), chunk(2, 0), finished(2), run_finished(3)))
    events = read_all(followed(transport))
    assert [event.attempt for event in events if isinstance(event, StepChunk)] == [1, 2]


def test_a_missing_event_is_an_error_of_the_server() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), batch(finished(3)))
    run = followed(transport).__enter__()
    next(run)
    with pytest.raises(ServerError, match="event 3 came after event 1"):
        next(run)


def test_transient_events_pass_whatever_their_number() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1), transient("half")), LOST)
    transport.stream_answers(batch(transient("half"), transient("whole"), run_finished(2)))
    events = read_all(followed(transport))
    assert [event.message for event in events if isinstance(event, StepProgress)] == ["half", "half", "whole"]


def test_a_stream_that_a_stopping_server_closes_is_resumed() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), None)
    transport.stream_answers(batch(run_finished(2)))
    assert sequences(followed(transport)) == [1, 2]


def test_until_the_first_message_the_start_is_sent_again() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(LOST)
    transport.stream_answers(None)
    transport.stream_answers(batch(run_finished(1)))
    run = SyncRunHandle(session(transport).run("w", {"city": "Oslo"}))
    read_all(run)
    assert transport.names == ["ExecuteWorkflow"] * 3
    assert transport.sent[0] == transport.sent[1] == transport.sent[2]


def test_without_a_server_the_run_gives_up_after_the_connect_timeout() -> None:
    transport = ScriptedTransport()
    run = followed(transport, connect_timeout=2.0)
    with pytest.raises(ServerUnavailable, match=f"no server at {ADDRESS}"):
        read_all(run)
    assert sum(transport.pauses) == pytest.approx(2.0)


def test_a_server_that_does_not_come_back_is_given_up_after_the_reconnect_window() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    run = followed(transport, reconnect_window=7.0)
    with pytest.raises(ServerUnavailable, match="did not come back in 7 s") as caught:
        read_all(run)
    assert caught.value.address == ADDRESS
    assert sum(transport.pauses) == pytest.approx(7.0)


def test_pauses_double_up_to_five_seconds() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    with pytest.raises(ServerUnavailable):
        read_all(followed(transport))
    assert transport.pauses[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])


def test_every_message_resets_the_backoff() -> None:
    transport = ScriptedTransport()
    for sequence in range(1, 30):
        transport.stream_answers(batch(started(sequence)), LOST)
    transport.stream_answers(batch(run_finished(30)))
    assert sequences(followed(transport, reconnect_window=0.15))[-1] == 30


def test_a_keep_alive_resets_the_backoff_and_is_no_event() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    for _ in range(5):
        transport.stream_answers(batch(last=1), LOST)
    transport.stream_answers(batch(run_finished(2)))
    assert sequences(followed(transport, reconnect_window=0.15)) == [1, 2]


def test_a_run_that_a_restarted_server_does_not_know_is_lost() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    transport.stream_answers(NotFound("no run r", reason="RUN_NOT_FOUND"))
    with pytest.raises(RunLost, match=f"run 'r' is lost: the server at {ADDRESS} does not know it") as caught:
        read_all(followed(transport))
    assert (caught.value.run_id, caught.value.reason) == ("r", "RUN_NOT_FOUND")


def test_a_lost_run_is_not_cancelled() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    transport.stream_answers(NotFound("no run r", reason="RUN_NOT_FOUND"))
    with pytest.raises(RunLost):
        complete(transport)
    assert "CancelRun" not in transport.names


def test_a_run_that_never_existed_is_not_lost() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(NotFound("no run r", reason="RUN_NOT_FOUND"))
    with pytest.raises(NotFound) as caught:
        read_all(watched(transport))
    assert not isinstance(caught.value, RunLost)


def test_a_lost_connection_and_its_return_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    transport.stream_answers(LOST)
    transport.stream_answers(batch(last=1), batch(finished(2)), LOST)
    transport.stream_answers(batch(run_finished(3)))
    with caplog.at_level("INFO", "stepwave.connection"):
        read_all(followed(transport))
    assert caplog.messages == [f"lost the server at {ADDRESS}; reconnecting", "reconnected"] * 2


def test_a_stream_that_a_stopping_server_closes_is_not_logged_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), None)
    transport.stream_answers(batch(run_finished(2)))
    with caplog.at_level("INFO", "stepwave.connection"):
        read_all(followed(transport))
    assert caplog.messages == []


def test_the_timeout_ends_the_run_by_name() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), DeadlineExceeded("Deadline Exceeded"))
    with pytest.raises(DeadlineExceeded, match="run 'r' did not end within 2 s"):
        read_all(followed(transport, timeout=2))


def test_the_timeout_applies_while_a_lost_stream_is_retried() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    with pytest.raises(DeadlineExceeded):
        read_all(followed(transport, timeout=2))
    assert sum(transport.pauses) == pytest.approx(2.0)


def test_every_stream_gets_what_is_left_of_the_timeout() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), lambda: drive(transport.sleep(4)), LOST)
    transport.stream_answers(batch(run_finished(2)))
    read_all(followed(transport, timeout=10))
    assert transport.limits == pytest.approx([10, 5.9])


def test_a_filtered_watch_resumes_after_what_was_filtered_out() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(finished(4), last=6), batch(last=9), LOST)
    transport.stream_answers(batch(run_finished(12)))
    watch = watched(transport, kinds=["step_finished"])
    assert sequences(watch) == [4, 12]
    assert transport.sent[1][1] == pb.WatchRunRequest(run_id="r", after_sequence=9, kinds=[EVENT_KIND_STEP_FINISHED])


def test_a_watch_begins_after_the_number_it_was_given() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(8), run_finished(9)))
    assert sequences(watched(transport, after=7, attach=True)) == [8, 9]
    assert transport.sent[0][1] == pb.WatchRunRequest(run_id="r", after_sequence=7, attach=True)


def test_an_unknown_kind_of_event_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="unknown kind of event 'step_ended'; there are run_started, wave_started"):
        watched(ScriptedTransport(), kinds=["step_ended"])


def test_leaving_a_run_before_its_end_cuts_the_stream_and_cancels_the_run() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)))
    transport.answers("CancelRun", pb.CancelRunResponse())
    with followed(transport, namespace="n") as run:
        next(run)
    reason = "its caller left before the end"
    assert transport.sent[1] == ("CancelRun", pb.CancelRunRequest(namespace="n", run_id="r", reason=reason))
    assert transport.cancelled == 1


def test_leaving_a_run_that_was_opened_and_never_read_cancels_it() -> None:
    transport = ScriptedTransport()
    transport.answers("CancelRun", pb.CancelRunResponse())
    with followed(transport):
        pass
    assert transport.names == ["ExecuteWorkflow", "CancelRun"]


def test_a_run_that_was_never_opened_sends_nothing() -> None:
    transport = ScriptedTransport()
    followed(transport).__exit__(None, None, None)
    assert transport.sent == []


def test_leaving_a_run_after_its_end_lets_the_stream_end_and_cancels_nothing() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(run_finished(1)))
    with followed(transport) as run:
        next(run)
    assert transport.names == ["ExecuteWorkflow"]
    assert (transport.finished, transport.cancelled) == (1, 0)


def test_leaving_a_watch_cancels_nothing_but_the_stream() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)))
    with watched(transport, attach=True) as events:
        next(events)
    assert (transport.names, transport.cancelled) == (["WatchRun"], 1)


@pytest.mark.parametrize("refusal", [AlreadyExists("taken"), InvalidWorkflow("no steps")])
def test_a_refused_run_is_not_cancelled(refusal: Exception) -> None:
    transport = ScriptedTransport()
    transport.stream_answers(refusal)
    with pytest.raises(type(refusal)):
        complete(transport)
    assert transport.names == ["ExecuteWorkflow"]


def test_a_run_whose_timeout_passed_is_cancelled() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), DeadlineExceeded("Deadline Exceeded"))
    transport.answers("CancelRun", pb.CancelRunResponse())
    with pytest.raises(DeadlineExceeded):
        complete(transport, timeout=2)
    assert transport.names == ["ExecuteWorkflow", "CancelRun"]


def test_an_interrupt_cancels_the_run() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), KeyboardInterrupt())
    transport.answers("CancelRun", pb.CancelRunResponse())
    with pytest.raises(KeyboardInterrupt):
        complete(transport)
    assert transport.names == ["ExecuteWorkflow", "CancelRun"]


def test_a_cancel_that_fails_hides_no_other_error() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), ServerError("INTERNAL: defect"))
    transport.answers("CancelRun", NotFound("no run r"))
    with pytest.raises(ServerError, match="defect"):
        complete(transport)


def test_a_server_that_was_given_up_gets_no_cancel_request() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1)), LOST)
    with pytest.raises(ServerUnavailable):
        complete(transport)
    assert "CancelRun" not in transport.names


def test_a_run_that_was_left_cannot_be_followed_again() -> None:
    transport = ScriptedTransport()
    run = session(transport).run("w")
    drive(run.__aexit__(None, None, None))
    with pytest.raises(RuntimeError, match="followed only once"):
        drive(run)


def test_nothing_is_read_ahead_of_the_caller() -> None:
    transport = ScriptedTransport()
    read: list[int] = []
    transport.stream_answers(batch(started(1)), lambda: read.append(2), batch(run_finished(2)))
    run = followed(transport).__enter__()
    next(run)
    assert read == []
    next(run)
    assert read == [2]


def test_a_result_is_complete_however_the_stream_broke() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(finished(1, "a", '"one"')), LOST)
    transport.stream_answers(batch(finished(2, "b", '"two"'), run_finished(3)))
    result = complete(transport)
    assert {step_id: step.output for step_id, step in result.steps.items()} == {"a": "one", "b": "two"}


def test_cutting_at_every_event_gives_the_same_events() -> None:
    events = [started(1), finished(2), started(3, "b"), finished(4, "b"), run_finished(5)]
    for cuts in itertools.product([False, True], repeat=len(events)):
        transport = ScriptedTransport()
        script: list[object] = []
        for event, cut in zip(events, cuts, strict=True):
            script.append(batch(event))
            if cut:
                transport.stream_answers(*script, LOST)
                script = [batch(event)]  # the next stream repeats it
        transport.stream_answers(*script)
        read = read_all(followed(transport))
        assert [event.sequence for event in read] == [1, 2, 3, 4, 5]
        assert isinstance(read[-1], RunFinished)
