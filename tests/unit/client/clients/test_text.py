"""The text of one step, over a scripted transport."""

import pickle
from typing import Any

import pytest

from stepwave import RunCancelled, RunFailed, SyncEventStream, SyncRunHandle, TextChunk, Workflow
from stepwave.v1 import event_pb2, run_pb2
from unit.client.clients.transport import (
    LOST,
    ScriptedTransport,
    batch,
    chunk,
    finished,
    run_finished,
    session,
    started,
)


def run(*events: event_pb2.RunEvent, workflow: Workflow | str = "w", check: bool = True) -> SyncRunHandle:
    """Return a run that was entered and has these events, all in one message."""
    transport = ScriptedTransport()
    transport.stream_answers(batch(*events))
    return SyncRunHandle(session(transport).run(workflow, run_id="r", check=check)).__enter__()


def watch(*events: event_pb2.RunEvent, **options: Any) -> SyncEventStream:
    transport = ScriptedTransport()
    transport.stream_answers(batch(*events))
    return SyncEventStream(session(transport).watch("r", **options)).__enter__()


def planned(sequence: int, *step_ids: str, **fields: Any) -> event_pb2.RunEvent:
    waves = [event_pb2.Wave(step_ids=step_ids)]
    fields = {"step_count": len(step_ids), **fields}
    return event_pb2.RunEvent(run_id="r", sequence=sequence, run_started=event_pb2.RunStarted(waves=waves, **fields))


def retrying(sequence: int, attempt: int, **fields: Any) -> event_pb2.RunEvent:
    body = event_pb2.StepRetrying(step_id="a", attempt=attempt, **fields)
    return event_pb2.RunEvent(run_id="r", sequence=sequence, step_retrying=body)


def marked(chunks: Any) -> list[tuple[str, bool]]:
    return [(str(text), text.restarts) for text in chunks]


def test_chunks_of_the_step_come_as_strings() -> None:
    events = [started(1), chunk(1, 0, json='"Hel"'), chunk(1, 0, "b"), chunk(1, 1, json='"lo"'), chunk(1, 2, json='""')]
    text = run(*events, finished(2, output='"Hello"'), run_finished(3)).text("a")
    assert marked(text) == [("Hel", False), ("lo", False), ("", False)]


def test_other_chunks_come_as_json() -> None:
    events = [chunk(1, 0, json='{"a":"é"}'), chunk(1, 1, json="1.5")]
    blob = chunk(1, 2)
    blob.step_chunk.payload.blob.data = b"\0"
    events = [*events, blob, finished(1, output="[]"), run_finished(2)]
    assert list(run(*events).text("a")) == [
        '{"a": "é"}',
        "1.5",
        '{"content_type": "application/octet-stream", "data": "AA=="}',
    ]


def test_a_step_can_be_given_by_its_handle() -> None:
    flow = Workflow("w")
    step = flow.step("a", "core.echo")
    assert list(run(finished(1, output='"x"'), run_finished(2), workflow=flow).text(step)) == ["x"]


@pytest.mark.parametrize(
    ("output", "text"), [('"all"', ["all"]), ('""', []), ("[1,2]", ["[1, 2]"]), ("null", ["null"])]
)
def test_a_step_without_chunks_gives_its_output_as_one(output: str, text: list[str]) -> None:
    assert list(run(started(1), finished(2, output=output), run_finished(3)).text("a")) == text


def test_an_explicit_answer_does_not_follow_its_chunks() -> None:
    events = [chunk(1, 0), finished(1, output='{"answer":1}'), run_finished(2)]
    assert list(run(*events).text("a")) == ["0"]


def test_the_first_chunk_of_a_new_attempt_restarts_the_text() -> None:
    events = [chunk(1, 0), chunk(1, 1), retrying(1, 1), chunk(2, 0), chunk(2, 1), finished(2, output='"01"')]
    text = run(*events, run_finished(3)).text("a")
    assert marked(text) == [("0", False), ("1", False), ("0", True), ("1", False)]


def test_a_new_attempt_without_earlier_chunks_does_not_restart_the_text() -> None:
    events = [retrying(1, 1), chunk(2, 0), finished(2, output='"0"'), run_finished(3)]
    assert marked(run(*events).text("a")) == [("0", False)]


@pytest.mark.parametrize("output", ["kept", ""])
def test_the_value_of_a_fallback_restarts_the_text(output: str) -> None:
    events = [chunk(1, 0), retrying(1, 1, fallback=True), finished(2, output=f'"{output}"'), run_finished(3)]
    assert marked(run(*events).text("a")) == [("0", False), (output, True)]


def test_late_chunks_of_an_earlier_attempt_are_dropped() -> None:
    events = [chunk(1, 0), retrying(1, 1), chunk(1, 1), chunk(2, 0), finished(2, output='"0"'), run_finished(3)]
    assert marked(run(*events).text("a")) == [("0", False), ("0", True)]


@pytest.mark.parametrize("indexes", [(0, 2), (0, 3), (0, 1), (0,)])
def test_text_after_a_gap_comes_at_the_end_of_the_step(indexes: tuple[int, ...]) -> None:
    chunks = [chunk(1, index) for index in indexes]
    text = list(run(*chunks, finished(1, output='"0123"'), run_finished(2)).text("a"))
    assert text[0] == "0"
    assert "".join(text) == "0123"


def test_chunks_of_json_after_a_gap_come_at_the_end_of_the_step() -> None:
    events = [chunk(1, 0, json="1"), chunk(1, 2, json="3"), finished(1, output="[1,2,3]"), run_finished(2)]
    assert list(run(*events).text("a")) == ["1", "23"]


def test_an_explicit_answer_replaces_chunks_with_a_gap() -> None:
    events = [chunk(1, 0), chunk(1, 2), finished(1, output='"answer"'), run_finished(2)]
    assert marked(run(*events).text("a")) == [("0", False), ("answer", True)]


def test_a_lost_stream_neither_repeats_nor_loses_text() -> None:
    transport = ScriptedTransport()
    transport.stream_answers(batch(started(1), chunk(1, 0), chunk(1, 1)), LOST)
    transport.stream_answers(batch(chunk(1, 0), chunk(1, 1), chunk(1, 2), finished(2, output='"012"'), run_finished(3)))
    handle = SyncRunHandle(session(transport).run("w", run_id="r")).__enter__()
    assert list(handle.text("a")) == ["0", "1", "2"]


def test_the_events_after_the_step_can_still_be_read() -> None:
    handle = run(chunk(1, 0), finished(1, output='"0"'), finished(2, "b", '"later"'), run_finished(3))
    assert list(handle.text("a")) == ["0"]
    assert list(handle.text("b")) == ["later"]
    assert [event.sequence for event in handle] == [3]
    assert list(handle.text("a")) == ["0"]
    assert handle.result.succeeded


def test_leaving_the_loop_early_does_not_leave_the_run() -> None:
    handle = run(chunk(1, 0), chunk(1, 1), finished(1, output='"01"'), run_finished(2))
    for _ in handle.text("a"):
        break
    assert list(handle.text("a")) == ["01"]  # its beginning has been read: the text comes whole
    assert [event.kind for event in handle] == ["run_finished"]


FAILURE = run_pb2.Failure(reason=run_pb2.FAILURE_REASON_ACTION_ERROR, message="boom", step_id="a")


@pytest.mark.parametrize("state", [run_pb2.STATE_FAILED, run_pb2.STATE_SKIPPED])
def test_a_step_without_success_raises_the_exception_of_its_run(state: run_pb2.State.ValueType) -> None:
    end = run_finished(3, state=run_pb2.STATE_FAILED, failures=[FAILURE], failure_count=1)
    chunks = run(chunk(1, 0), finished(1, state=state), finished(2, "b"), end).text("a")
    assert next(chunks) == "0"
    with pytest.raises(RunFailed, match="step 'a' failed: boom") as caught:
        next(chunks)
    assert list(caught.value.result.steps) == ["a", "b"]


def test_a_cancelled_step_raises_that_the_run_was_cancelled() -> None:
    end = run_finished(2, state=run_pb2.STATE_CANCELLED)
    with pytest.raises(RunCancelled):
        list(watch(finished(1, state=run_pb2.STATE_CANCELLED), end).text("a"))


def test_a_failed_step_of_a_run_that_succeeds_ends_its_text() -> None:
    handle = run(chunk(1, 0), finished(1, state=run_pb2.STATE_FAILED), finished(2, "b"), run_finished(3))
    assert list(handle.text("a")) == ["0"]
    assert handle.result.succeeded


def test_a_failed_step_of_an_unchecked_run_ends_its_text_at_once() -> None:
    events = [finished(1, state=run_pb2.STATE_FAILED), run_finished(2, state=run_pb2.STATE_FAILED)]
    handle = run(*events, check=False)
    assert list(handle.text("a")) == []
    assert [event.kind for event in handle] == ["run_finished"]


def test_an_unknown_step_of_a_workflow_is_refused_before_anything_is_read() -> None:
    flow = Workflow("w")
    flow.step("summary", "core.echo")
    transport = ScriptedTransport()
    with pytest.raises(ValueError, match="the run has no step 'sumary'; did you mean 'summary'"):
        SyncRunHandle(session(transport).run(flow)).text("sumary")
    assert transport.names == []


def test_an_unknown_step_is_refused_once_the_plan_was_read() -> None:
    chunks = watch(planned(1, "a", more=True, step_count=2), planned(2, "b", step_count=2), run_finished(3)).text("c")
    with pytest.raises(ValueError, match=r"the run has no step 'c'$"):
        next(chunks)


def test_a_step_within_another_is_refused_only_if_the_outer_one_is_unknown() -> None:
    flow = Workflow("w")
    flow.for_each("pages", over=[1], action="core.echo")
    handle = SyncRunHandle(session(ScriptedTransport()).run(flow))
    with pytest.raises(ValueError, match=r"the run has no step 'page\[0\]'"):
        handle.text("page[0]")
    handle.text("pages[0]")
    handle.text("pages[0]/fetch")


def test_a_part_of_the_plan_does_not_refuse_a_step() -> None:
    events = [planned(2, "b", step_count=2), finished(3, output='"x"'), run_finished(4)]
    assert list(watch(*events, after=1).text("a")) == ["x"]


def test_a_step_of_an_open_run_may_be_added() -> None:
    events = [planned(1, "b", open=True), finished(2, output='"x"'), run_finished(3)]
    assert list(watch(*events).text("a")) == ["x"]


def test_an_unknown_step_is_refused_at_the_end_if_the_plan_is_unknown() -> None:
    events = watch(finished(2), run_finished(3), after=1)
    with pytest.raises(ValueError, match="the run has no step 'c' that ended while it was watched"):
        list(events.text("c"))
    with pytest.raises(ValueError, match="the run has no step 'c'"):
        list(events.text("c"))


def test_the_output_of_a_step_that_ended_before_the_watch_is_its_text() -> None:
    end = run_finished(3)
    end.run_finished.result.outputs["a"].json = '"kept"'
    assert list(watch(end, after=2).text("a")) == ["kept"]


def test_the_text_needs_all_its_kinds_of_events() -> None:
    with pytest.raises(ValueError, match="add step_finished, step_retrying to `kinds`"):
        watch(kinds=["step_chunk"]).text("a")
    events = [chunk(1, 0), finished(5, output='"0"')]
    assert list(watch(*events, kinds=["step_chunk", "step_retrying", "step_finished"]).text("a")) == ["0"]


def test_a_chunk_of_text_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(TextChunk("x", restarts=True)))
    assert (copy, copy.restarts, type(copy)) == ("x", True, TextChunk)
