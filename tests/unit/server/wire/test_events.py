"""Encoding of events: the bytes are those of protobuf, and have all that the event has."""

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from stepwave.v1 import event_pb2, payload_pb2, run_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.core.messages import (
    Event,
    RunFinished,
    RunStarted,
    RunStopping,
    StepFinished,
    StepsAdded,
    StepStarted,
    Wave,
    WaveFinished,
    WaveStarted,
)
from stepwave_server.core.model import (
    SECOND,
    Blob,
    Failure,
    FailureCause,
    Payload,
    Reason,
    Skip,
    SkipCause,
    State,
    Step,
)
from stepwave_server.wire.events.encode import (
    Encoder,
    Kind,
    LogEntry,
    LogLevel,
    decode,
    decode_all,
    encode_chunk,
    encode_log,
    encode_progress,
    position,
)
from stepwave_server.wire.events.varint import prefixed, tag, text, timestamp, varint

ids = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,127}", fullmatch=True)
times = st.integers(0, 4_000_000_000_000_000_000)
counts = st.integers(0, (1 << 32) - 1)
payloads: st.SearchStrategy[Payload] = st.one_of(
    st.just("null"),
    st.text(max_size=300).filter(lambda value: value != "null"),
    st.builds(Blob, st.sampled_from(["image/png", ""]), st.binary(max_size=300)),
)
failures = st.builds(
    Failure,
    st.sampled_from(Reason),
    st.text(max_size=50),
    st.booleans(),
    st.none() | st.integers(0, 10**15),
    ids,
    counts,
    st.just(()) | st.just((("exception", "ValueError"), ("file", "é.py"))),
    st.sampled_from(FailureCause),
)


def _time(nanos: int) -> Timestamp:
    return Timestamp(seconds=nanos // SECOND, nanos=nanos % SECOND)


def _payload(payload: Payload) -> payload_pb2.Payload:
    if isinstance(payload, Blob):
        return payload_pb2.Payload(blob=payload_pb2.Blob(content_type=payload.content_type, data=payload.data))
    return payload_pb2.Payload(json=payload)


def _encoded(event: Event, sequence: int = 7) -> event_pb2.RunEvent:
    """Return an encoded event as a message, after a check that the bytes are protobuf's own."""
    record = Encoder("the-run", "the-flow", 5_000_000_001).encode(sequence, event)
    response = pb.WatchRunResponse.FromString(record.data)
    assert response.SerializeToString(deterministic=True) == record.data
    message = decode(record)
    assert [message] == list(response.events)
    assert (message.run_id, message.sequence, message.time) == ("the-run", sequence, _time(event.time))
    assert message.WhichOneof("kind") == record.kind.name.lower()
    return message


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (message, field.name)
        for message in (
            pb.WatchRunResponse,
            event_pb2.RunEvent,
            event_pb2.StepStarted,
            event_pb2.StepFinished,
            event_pb2.WaveStarted,
            run_pb2.StepResult,
            payload_pb2.Payload,
            payload_pb2.Blob,
            Timestamp,
        )
        for field in message.DESCRIPTOR.fields
    ],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
def test_a_tag_is_what_protobuf_writes_before_a_field(message: type[Message], field: str) -> None:
    encoded = _with(message, field).SerializeToString()
    assert encoded.startswith(tag(message, field))
    assert len(tag(message, field)) < len(encoded) <= len(tag(message, field)) + 2


def _with(message: type[Message], field: str) -> Message:
    """Return a message in which one field is set, to a value of at most two bytes with its length."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    filled = message()
    if descriptor.is_repeated:
        getattr(filled, field).add()
    elif descriptor.type == descriptor.TYPE_MESSAGE:
        getattr(filled, field).SetInParent()
    elif descriptor.type == descriptor.TYPE_STRING:
        setattr(filled, field, "x")
    else:
        setattr(filled, field, b"x" if descriptor.type == descriptor.TYPE_BYTES else 1)
    return filled


def test_the_fields_that_two_messages_share_have_the_same_tags() -> None:
    for field in ("step_id", "action"):
        assert tag(event_pb2.StepStarted, field) == tag(run_pb2.StepResult, field)
    assert tag(event_pb2.WaveStarted, "wave") == tag(event_pb2.WaveFinished, "wave")


@given(st.integers(0, (1 << 64) - 1))
def test_varints_are_protobufs(value: int) -> None:
    message = event_pb2.WaveStarted(wave=value & 0xFFFFFFFF)
    expected = message.SerializeToString() or b"\x08\x00"
    assert b"\x08" + varint(value & 0xFFFFFFFF) == expected
    assert varint(value) == _plain_varint(value)


def _plain_varint(value: int) -> bytes:
    """Return a varint by its definition: groups of seven bits, the lowest first; all but the last have the top bit."""
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes(group | 128 for group in groups[:-1]) + bytes(groups[-1:])


@given(times)
def test_timestamps_are_protobufs(nanos: int) -> None:
    assert timestamp(nanos) == prefixed(_time(nanos).SerializeToString())


@given(st.text())
def test_strings_are_protobufs(value: str) -> None:
    assert b"\x0a" + text(value) == (event_pb2.StepChunk(step_id=value).SerializeToString() or b"\x0a\x00")


@given(st.integers(1, (1 << 32) - 1), times, ids, counts, counts.filter(bool), times, times)
def test_the_start_of_a_step(
    sequence: int, now: int, step_id: str, wave: int, attempt: int, deadline: int, ready: int
) -> None:
    event = StepStarted(now, step_id, "an.action", wave, attempt, deadline, ready)
    assert _encoded(event, sequence).step_started == event_pb2.StepStarted(
        step_id=step_id,
        action="an.action",
        wave=wave,
        attempt=attempt,
        deadline=_time(deadline),
        ready_time=_time(ready),
    )


@given(
    times,
    ids,
    st.sampled_from(State),
    counts,
    counts,
    st.none() | payloads,
    st.none() | failures,
    st.none() | st.builds(Skip, st.sampled_from(SkipCause), st.just("") | ids),
    st.none() | times,
    st.none() | times,
    st.booleans(),
)
def test_the_end_of_a_step(
    now: int,
    step_id: str,
    state: State,
    wave: int,
    attempts: int,
    output: Payload | None,
    failure: Failure | None,
    skip: Skip | None,
    ready: int | None,
    start: int | None,
    abandoned: bool,
) -> None:
    event = StepFinished(
        now, step_id, "an.action", state, wave, attempts, output, failure, skip, ready, start, abandoned
    )
    result = _encoded(event).step_finished.result
    assert (result.step_id, result.action, result.state) == (step_id, "an.action", state.value)
    assert (result.wave, result.attempts, result.abandoned) == (wave, attempts, abandoned)
    assert (result.output if result.HasField("output") else None) == (None if output is None else _payload(output))
    assert (result.ready_time if result.HasField("ready_time") else None) == (None if ready is None else _time(ready))
    assert (result.start_time if result.HasField("start_time") else None) == (None if start is None else _time(start))
    assert result.end_time == _time(now)
    _check_failure(failure, result)
    _check_skip(skip, result)


def _check_failure(failure: Failure | None, result: run_pb2.StepResult) -> None:
    assert result.HasField("failure") == (failure is not None)
    if failure is None:
        return
    found = result.failure
    assert (found.reason, found.message, found.retryable) == (failure.reason.value, failure.message, failure.retryable)
    assert (found.step_id, found.attempt, dict(found.details)) == (
        failure.step_id,
        failure.attempt,
        dict(failure.details),
    )
    assert found.HasField("retry_after") == (failure.retry_after is not None)
    assert found.retry_after.ToNanoseconds() == (failure.retry_after or 0)


def _check_skip(skip: Skip | None, result: run_pb2.StepResult) -> None:
    assert result.HasField("skip_reason") == (skip is not None)
    if skip is not None:
        assert (result.skip_reason.cause, result.skip_reason.step_id) == (skip.cause.value, skip.step_id)


@given(times, counts)
def test_the_start_and_the_end_of_a_wave(now: int, wave: int) -> None:
    assert _encoded(WaveStarted(now, wave)).wave_started.wave == wave
    assert _encoded(WaveFinished(now, wave)).wave_finished.wave == wave


@given(times, st.booleans(), st.none() | times)
def test_a_plan(now: int, more: bool, deadline: int | None) -> None:
    waves = (Wave(0, ("a", "b")), Wave(1, ("c",)))
    started = _encoded(RunStarted(now, waves, more, 3, deadline, open=False)).run_started
    assert [(wave.index, list(wave.step_ids)) for wave in started.waves] == [(0, ["a", "b"]), (1, ["c"])]
    assert (started.workflow_name, started.more, started.step_count, started.open) == ("the-flow", more, 3, False)
    assert started.HasField("deadline") == (deadline is not None)


@given(times, failures, st.text(max_size=50))
def test_a_run_that_is_stopping(now: int, failure: Failure, reason: str) -> None:
    stopping = _encoded(RunStopping(now, failure, reason)).run_stopping
    assert (stopping.failure.message, stopping.failure.cause) == (failure.message, failure.cause.value)
    assert stopping.cancel_reason == reason


def test_steps_that_are_added() -> None:
    added = _encoded(StepsAdded(5, (Step("a", "noop", ("b",)),), (Wave(1, ("a",)),), sealed=True)).steps_added
    assert (added.steps[0].id, list(added.steps[0].depends_on), added.sealed) == ("a", ["b"], True)


def test_a_seal_without_steps() -> None:
    assert not _encoded(StepsAdded(5, (), (), sealed=False)).steps_added.sealed


@given(times, st.sampled_from([State.SUCCEEDED, State.FAILED]), st.lists(failures, max_size=3))
def test_the_end_of_a_run(now: int, state: State, found: list[Failure]) -> None:
    event = RunFinished(now, state, 3, (("a", "[1]"),), ("b",), 1, tuple(found), 9, (0, 0, 1, 2, 3, 4))
    result = _encoded(event).run_finished.result
    assert (result.run_id, result.workflow_name, result.state) == ("the-run", "the-flow", state.value)
    assert {step_id: output.json for step_id, output in result.outputs.items()} == {"a": "[1]"}
    assert (list(result.omitted_outputs), result.omitted_output_count, result.failure_count) == (["b"], 1, 9)
    assert [failure.message for failure in result.failures] == [failure.message for failure in found]
    assert (result.create_time, result.start_time, result.end_time) == (_time(5_000_000_001), _time(3), _time(now))
    assert (result.counts.succeeded, result.counts.failed, result.counts.cancelled, result.counts.skipped) == (
        1,
        2,
        3,
        4,
    )


@given(times, ids, counts, counts, payloads)
def test_a_chunk(now: int, step_id: str, attempt: int, index: int, payload: Payload) -> None:
    (event,) = pb.WatchRunResponse.FromString(encode_chunk("run", now, step_id, attempt, index, payload)).events
    assert (event.run_id, event.sequence, event.time) == ("run", 0, _time(now))
    assert event.step_chunk == event_pb2.StepChunk(
        step_id=step_id, attempt=attempt, index=index, payload=_payload(payload)
    )


@given(times, st.none() | st.floats(0, 1), st.text(max_size=20))
def test_progress(now: int, fraction: float | None, message: str) -> None:
    (event,) = pb.WatchRunResponse.FromString(encode_progress("run", now, "s", 1, fraction, message)).events
    progress = event.step_progress
    assert (progress.fraction if progress.HasField("fraction") else None) == fraction
    assert progress.message == message


@given(times, ids, counts, counts, st.sampled_from(LogLevel), st.text(max_size=20))
def test_a_log_message(now: int, step_id: str, attempt: int, index: int, level: LogLevel, message: str) -> None:
    (event,) = decode_all([encode_log("run", now, index, step_id, attempt, LogEntry(level, "tools", message))])
    assert (event.run_id, event.sequence, event.time) == ("run", 0, _time(now))
    log = event.step_log
    assert (log.index, log.step_id, log.attempt, log.level) == (index, step_id, attempt, level.value)
    assert (log.logger, log.message) == ("tools", message.encode(errors="replace").decode())


def test_a_batch_is_its_events_one_after_another() -> None:
    encoder = Encoder("run", "flow", 0)
    records = [encoder.encode(number, WaveStarted(number, number)) for number in range(1, 400)]
    batch = b"".join(record.data for record in records) + position(399)
    for kind in (pb.WatchRunResponse, pb.ExecuteWorkflowResponse):
        response = kind.FromString(batch)
        assert [event.sequence for event in response.events] == list(range(1, 400))
        assert response.last_sequence == 399


def test_kinds_have_the_numbers_of_the_contract() -> None:
    assert {kind.name: kind.value for kind in Kind} == {
        name.removeprefix("EVENT_KIND_"): value for name, value in event_pb2.EventKind.items() if value
    }
    fields = event_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
    assert {kind.name.lower(): kind.value for kind in Kind} == {field.name: field.number for field in fields}


def test_states_and_reasons_have_the_numbers_of_the_contract() -> None:
    for ours, theirs, prefix in (
        (State, run_pb2.State, "STATE_"),
        (Reason, run_pb2.FailureReason, "FAILURE_REASON_"),
        (FailureCause, run_pb2.FailureCause, "FAILURE_CAUSE_"),
        (SkipCause, run_pb2.SkipCause, "SKIP_CAUSE_"),
        (LogLevel, event_pb2.LogLevel, "LOG_LEVEL_"),
    ):
        named = {name.removeprefix(prefix): value for name, value in theirs.items() if value}
        assert {choice.name: choice.value for choice in ours if choice.value} == named
