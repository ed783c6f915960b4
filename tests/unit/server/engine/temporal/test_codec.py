"""Conversions to the values that Temporal stores, and back."""

import pytest
from temporalio.api.common.v1 import Payload as TemporalPayload
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeout

from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import (
    AddSteps,
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    CancelRequested,
    Started,
    StepCompleted,
)
from stepwave_server.core.model import Blob, Failure, Payload, Reason, Step
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.temporal.codec import (
    NO_VALUE,
    StartInput,
    activity_id,
    attempt_of_activity,
    decode_start,
    decode_value,
    encode_start,
    encode_value,
    error_of_failure,
    from_signal,
    lost,
    outcome_of_answer,
    outcome_of_error,
    stopped,
    to_signal,
)
from stepwave_server.engine.temporal.driver_messages import AttemptStopped, DriverInput, Request
from stepwave_server.journal import Header

JSON = {"encoding": b"json/plain"}


def _answer(data: bytes, *, max_bytes: int = 1_000) -> DriverInput:
    return outcome_of_answer("s", 1, "work", TemporalPayload(metadata=JSON, data=data), max_bytes)


@pytest.mark.parametrize("payload", ["null", '{"big":9007199254740993}', '"ü"', Blob("image/png", b"\x00\x01")])
def test_a_value_comes_back_as_it_was(payload: Payload) -> None:
    assert decode_value(encode_value(payload).payload) == payload


@pytest.mark.parametrize("step_id", ["plain", "list[3]", "list[3]/inner", "with-dash"])
def test_the_id_of_an_activity_names_the_attempt(step_id: str) -> None:
    assert attempt_of_activity(activity_id(step_id, 12)) == (step_id, 12)


def test_the_start_of_a_run_comes_back_as_it_was() -> None:
    header = Header(
        key=RunKey("default", "run"),
        workflow=b"",
        input='{"a": 1.0}',
        options=RunOptions(seed="default/run", max_payload_bytes=5_000, open=True, idle_timeout=7),
        create_time=1_234_567_000,
        traceparent="00-1-2-01",
        window=2.5,
        rerun_of="other",
        workflow_digest="ab",
    )
    start = StartInput(header, Started((("s", "1"), ("t", Blob("a/b", b"\xff"))), "other"), 10.0, 3.0, "queue")
    definition, options = encode_start(start)
    assert decode_start(definition, options, start.header.create_time) == start


@pytest.mark.parametrize(
    "given",
    [
        CancelRequested("enough"),
        AddSteps(
            (Step(id="a", action="work", input='{"x":1.50}'), Step(id="b", action="work", depends_on=("a",))), True
        ),
        StepCompleted("s", output="1.0"),
        StepCompleted("s", failure=Failure(Reason.NOT_FOUND, "nobody", step_id="s", attempt=1)),
    ],
)
def test_a_request_comes_back_as_it_was(given: CancelRequested | AddSteps | StepCompleted) -> None:
    request = Request("token", given)
    assert from_signal(to_signal(request)) == request


def test_a_failure_of_an_action_comes_back_as_it_was() -> None:
    failure = Failure(
        Reason.RATE_LIMITED, "slow down", True, 1_500_000_000, step_id="s", attempt=2, details=(("shop", "north"),)
    )
    assert outcome_of_error("s", 2, error_of_failure(failure)) == AttemptFailed("s", 2, failure)


def test_a_failure_of_another_type_is_an_error_of_the_action_that_names_the_type() -> None:
    outcome = outcome_of_error("s", 1, ApplicationError("no luck", type="ValueError"))
    failure = Failure(
        Reason.ACTION_ERROR, "no luck", retryable=True, step_id="s", attempt=1, details=(("type", "ValueError"),)
    )
    assert outcome == AttemptFailed("s", 1, failure)


def test_a_stopped_attempt_comes_back_as_it_was() -> None:
    given = AttemptStopped("s", 1, timed_out=True, abandoned=True, did="it went on")
    assert outcome_of_error("s", 1, stopped(given)) == given


def test_an_attempt_is_lost_with_its_host_or_without_its_heartbeats() -> None:
    silent = ActivityTimeout("silent", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])
    assert outcome_of_error("s", 1, lost("the host stopped")) == AttemptLost("s", 1, drained=True, hosted=True)
    assert outcome_of_error("s", 1, silent) == AttemptLost("s", 1, hosted=True)


def test_the_cause_of_an_error_of_an_activity_counts() -> None:
    error = ActivityError(
        "failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="work",
        activity_id="s:1",
        retry_state=None,
    )
    error.__cause__ = CancelledError()
    assert outcome_of_error("s", 1, error) == AttemptStopped("s", 1, timed_out=False)


def test_an_answer_that_is_too_large_fails_the_attempt() -> None:
    outcome = _answer(b'"' + b"x" * 2_000 + b'"')
    assert isinstance(outcome, AttemptFailed)
    assert outcome.failure.reason is Reason.RESOURCE_EXHAUSTED
    assert outcome.failure.message == "it answered 2,002 bytes, more than the 1,000 allowed"


@pytest.mark.parametrize("data", [b"NaN", b"[1", b'{"a":1,"a":2}', b"1e999"])
def test_json_of_another_sdk_is_checked(data: bytes) -> None:
    outcome = _answer(data)
    assert isinstance(outcome, AttemptFailed)
    assert outcome.failure.reason is Reason.ACTION_ERROR


def test_an_unknown_encoding_fails_the_attempt() -> None:
    value = TemporalPayload(metadata={"encoding": b"binary/protobuf"}, data=b"")
    outcome = outcome_of_answer("s", 1, "work", value, 1_000)
    assert isinstance(outcome, AttemptFailed)
    assert "binary/protobuf" in outcome.failure.message


def test_no_answer_is_null() -> None:
    assert outcome_of_answer("s", 1, "work", NO_VALUE, 1_000) == AttemptSucceeded("s", 1, "null")
