"""Results and events: from messages of the contract, and as plain values."""

import json
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import timestamp_pb2

from stepwave import (
    Blob,
    Event,
    Failure,
    FailureCause,
    FailureReason,
    LogLevel,
    ParallelFailed,
    PlannedBinding,
    PlannedList,
    RunFailed,
    RunFinished,
    RunResult,
    RunStopping,
    SkipCause,
    SkipReason,
    State,
    StepExpanded,
    StepResult,
    StepStopping,
    UnknownEvent,
    WaitCause,
)
from stepwave._convert.events import event_from_proto
from stepwave._convert.results import plan_from_proto, run_from_proto, step_from_proto
from stepwave._convert.servers import action_from_proto, server_info_from_proto, workflow_from_proto
from stepwave._model.catalog import InputRule
from stepwave._values.payload import from_payload
from stepwave._values.plain import plain
from stepwave.v1 import event_pb2, orchestrator_pb2, payload_pb2, run_pb2, workflow_pb2
from unit.client.convert.result_maker import NOON, result


def stamp(moment: datetime) -> timestamp_pb2.Timestamp:
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def no_result(_: run_pb2.Result) -> RunResult:
    raise AssertionError("not a run_finished")


def event_of(**kind: object) -> Event:
    message = event_pb2.RunEvent(run_id="r", sequence=7, time=stamp(NOON))
    for name, value in kind.items():
        getattr(message, name).CopyFrom(value)
    return event_from_proto(message, no_result)


@pytest.mark.parametrize("microsecond", [0, 1, 123_457, 500_000, 999_999])
@pytest.mark.parametrize("year", [1970, 2026, 2100])
def test_times_keep_their_microseconds(year: int, microsecond: int) -> None:
    moment = datetime(year, 3, 4, 5, 6, 7, microsecond, tzinfo=UTC)
    assert run_from_proto(run_pb2.Run(create_time=stamp(moment))).create_time == moment


def test_every_value_of_the_contracts_enums_has_its_name_here() -> None:
    pairs = [
        (run_pb2.State, State),
        (run_pb2.FailureReason, FailureReason),
        (run_pb2.FailureCause, FailureCause),
        (run_pb2.SkipCause, SkipCause),
        (event_pb2.WaitCause, WaitCause),
        (event_pb2.LogLevel, LogLevel),
        (orchestrator_pb2.InputRule, InputRule),
    ]
    for contract, ours in pairs:
        assert len(contract.keys()) == len(list(ours))


def test_values_of_a_newer_server_read_unknown() -> None:
    failure = run_pb2.Failure(reason=99, cause=99)  # type: ignore[arg-type]  # newer
    step = step_from_proto(run_pb2.StepResult(state=99, failure=failure))  # type: ignore[arg-type]  # newer
    assert step.state is State.UNKNOWN
    assert not step.state.ended
    assert step.failure is not None
    assert step.failure.reason is FailureReason.UNKNOWN
    assert step.failure.cause is FailureCause.UNKNOWN


def test_an_event_of_a_newer_server_is_passed_on_unknown() -> None:
    event = event_of()
    assert event == UnknownEvent("r", 7, NOON)
    assert event.to_dict()["kind"] == "unknown"


def test_all_fields_of_a_successful_step_are_read() -> None:
    message = run_pb2.StepResult(
        step_id="a",
        action="core.echo",
        state=run_pb2.STATE_SUCCEEDED,
        wave=2,
        attempts=1,
        output=payload_pb2.Payload(json='{"n":9007199254740993}'),
        ready_time=stamp(NOON),
        start_time=stamp(NOON),
        end_time=stamp(NOON + timedelta(seconds=1)),
    )
    step = step_from_proto(message)
    assert step == StepResult(
        step_id="a",
        action="core.echo",
        state=State.SUCCEEDED,
        wave=2,
        attempts=1,
        output={"n": 2**53 + 1},
        failure=None,
        skip_reason=None,
        ready_time=NOON,
        start_time=NOON,
        end_time=NOON + timedelta(seconds=1),
        abandoned=False,
    )
    assert step.duration == timedelta(seconds=1)


def test_a_reused_output_names_its_run() -> None:
    assert step_from_proto(run_pb2.StepResult(step_id="a", reused_from="earlier")).reused_from == "earlier"


def test_a_step_with_a_used_fallback_keeps_the_original_failure() -> None:
    failure = run_pb2.Failure(message="no")
    step = step_from_proto(run_pb2.StepResult(state=run_pb2.STATE_SUCCEEDED, original_failure=failure))
    assert step.original_failure is not None
    assert (step.original_failure.message, step.by_fallback, step.failure) == ("no", True, None)
    assert not step_from_proto(run_pb2.StepResult(state=run_pb2.STATE_FAILED, original_failure=failure)).by_fallback
    assert not step_from_proto(run_pb2.StepResult(state=run_pb2.STATE_SUCCEEDED)).by_fallback


def test_a_run_names_the_run_it_repeats_and_what_it_waits_for() -> None:
    message = run_pb2.Run(rerun_of="earlier", paused=True, missing_actions=["search"], workflow_digest="ab12")
    run = run_from_proto(message)
    assert (run.rerun_of, run.paused, run.missing_actions) == ("earlier", True, ("search",))
    assert run.workflow_digest == "ab12"


def test_a_skipped_step_has_a_reason_and_no_times() -> None:
    reason = run_pb2.SkipReason(cause=run_pb2.SKIP_CAUSE_DEPENDENCY, step_id="b")
    step = step_from_proto(run_pb2.StepResult(state=run_pb2.STATE_SKIPPED, skip_reason=reason))
    assert step.skip_reason == SkipReason(SkipCause.DEPENDENCY, "b")
    assert (step.ready_time, step.start_time, step.end_time, step.duration) == (None, None, None, None)


def test_all_fields_of_a_failure_are_read() -> None:
    message = run_pb2.Failure(
        reason=run_pb2.FAILURE_REASON_RATE_LIMITED,
        message="slow down",
        retryable=True,
        step_id="a",
        attempt=2,
        details={"exception": "Busy"},
    )
    message.retry_after.FromTimedelta(timedelta(seconds=1.5))
    assert step_from_proto(run_pb2.StepResult(failure=message)).failure == Failure(
        FailureReason.RATE_LIMITED, "slow down", True, timedelta(seconds=1.5), "a", 2, {"exception": "Busy"}
    )


def test_the_cause_of_a_failure_that_the_server_decided_is_read() -> None:
    message = run_pb2.Failure(reason=run_pb2.FAILURE_REASON_TIMEOUT, cause=run_pb2.FAILURE_CAUSE_RUN_TIMEOUT)
    failure = step_from_proto(run_pb2.StepResult(failure=message)).failure
    assert failure is not None
    assert failure.cause is FailureCause.RUN_TIMEOUT
    assert failure.to_dict()["cause"] == "run_timeout"


def test_the_reason_of_a_cancel_request_is_read() -> None:
    event = event_of(run_stopping=event_pb2.RunStopping(cancel_reason="enough"))
    assert isinstance(event, RunStopping)
    assert event.cancel_reason == "enough"


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (payload_pb2.Payload(json="null"), None),
        (payload_pb2.Payload(json="[1,2.5]"), [1, 2.5]),
        (payload_pb2.Payload(), None),
        (payload_pb2.Payload(blob=payload_pb2.Blob(data=b"\0")), Blob(b"\0", "application/octet-stream")),
    ],
)
def test_payloads_become_values(payload: payload_pb2.Payload, value: object) -> None:
    assert from_payload(payload) == value


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"a":Infinity}'])
def test_a_payload_that_is_not_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        from_payload(payload_pb2.Payload(json=text))


EVENTS: dict[str, object] = {
    "run_started": event_pb2.RunStarted(
        workflow_name="w", waves=[event_pb2.Wave(index=0, step_ids=["a", "b"])], more=True, step_count=2
    ),
    "wave_started": event_pb2.WaveStarted(wave=1),
    "step_started": event_pb2.StepStarted(step_id="a", action="x", wave=1, attempt=2, deadline=stamp(NOON)),
    "step_chunk": event_pb2.StepChunk(step_id="a", attempt=1, index=3, payload=payload_pb2.Payload(json='"hi"')),
    "step_progress": event_pb2.StepProgress(step_id="a", attempt=1, fraction=0.0, message="begun"),
    "step_log": event_pb2.StepLog(index=4, step_id="a", attempt=1, level=event_pb2.LOG_LEVEL_ERROR, message="no\nluck"),
    "step_waiting": event_pb2.StepWaiting(step_id="a", cause=event_pb2.WAIT_CAUSE_RATE),
    "step_retrying": event_pb2.StepRetrying(step_id="a", attempt=1, failure=run_pb2.Failure(message="no")),
    "step_ready": event_pb2.StepReady(step_id="a", attempt=2),
    "step_finished": event_pb2.StepFinished(result=run_pb2.StepResult(step_id="a", state=run_pb2.STATE_FAILED)),
    "wave_finished": event_pb2.WaveFinished(wave=1),
    "steps_added": event_pb2.StepsAdded(steps=[workflow_pb2.Step(id="c")], sealed=True),
    "steps_reused": event_pb2.StepsReused(run_id="earlier", outputs={"pages[0]": payload_pb2.Payload(json="[1]")}),
    "step_expanded": event_pb2.StepExpanded(step_id="pages", item_count=0),
    "step_stopping": event_pb2.StepStopping(failure=run_pb2.Failure(step_id="pages", message="late")),
    "run_stopping": event_pb2.RunStopping(failure=run_pb2.Failure(reason=run_pb2.FAILURE_REASON_CANCELLED)),
}


def test_every_kind_of_event_of_the_contract_is_tested_here() -> None:
    oneof = event_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["kind"]
    assert {field.name for field in oneof.fields} == {*EVENTS, "run_finished"}


@pytest.mark.parametrize("kind", EVENTS)
def test_an_event_carries_its_kind_and_is_ready_for_json(kind: str) -> None:
    event = event_of(**{kind: EVENTS[kind]})
    assert event.kind == kind
    said = json.loads(json.dumps(event.to_dict()))
    assert (said["kind"], said["run_id"], said["sequence"]) == (kind, "r", 7)
    assert said["time"] == "2026-01-02T12:00:00.123457Z"


def test_details_of_events_are_read() -> None:
    assert event_of(run_started=EVENTS["run_started"]).to_dict()["waves"] == [{"index": 0, "step_ids": ["a", "b"]}]
    assert event_of(step_chunk=EVENTS["step_chunk"]).to_dict()["value"] == "hi"
    assert event_of(step_progress=EVENTS["step_progress"]).to_dict()["fraction"] == 0.0
    assert event_of(step_progress=event_pb2.StepProgress()).to_dict()["fraction"] is None
    assert event_of(step_log=EVENTS["step_log"]).to_dict()["level"] == "error"
    assert event_of(step_log=event_pb2.StepLog(level=99)).to_dict()["level"] == "unknown"  # type: ignore[arg-type]  # newer
    assert event_of(step_waiting=EVENTS["step_waiting"]).to_dict()["cause"] == "rate"
    assert event_of(steps_added=EVENTS["steps_added"]).to_dict()["step_ids"] == ["c"]


def test_a_step_that_became_several_says_of_what_it_consists() -> None:
    of_items = event_of(step_expanded=EVENTS["step_expanded"])
    workflow = workflow_pb2.Workflow(name="page", steps=[workflow_pb2.Step(id="fetch"), workflow_pb2.Step(id="clean")])
    message = event_pb2.StepExpanded(step_id="sub", workflow=workflow, input=payload_pb2.Payload(json='{"url":"a"}'))
    of_steps = event_of(step_expanded=message)
    assert of_items == StepExpanded("r", 7, NOON, "pages", 0, "", (), None)
    assert of_steps == StepExpanded("r", 7, NOON, "sub", None, "page", ("fetch", "clean"), {"url": "a"})


def test_a_step_that_is_stopping_has_its_failure() -> None:
    event = event_of(step_stopping=EVENTS["step_stopping"])
    assert isinstance(event, StepStopping)
    assert (event.step_id, event.failure.message) == ("pages", "late")


def test_outputs_that_were_taken_over_are_read() -> None:
    said = event_of(steps_reused=EVENTS["steps_reused"]).to_dict()
    assert (said["reused_from"], said["outputs"]) == ("earlier", {"pages[0]": [1]})


def test_an_attempt_without_a_timeout_has_no_deadline() -> None:
    assert event_of(step_started=event_pb2.StepStarted(step_id="a")).to_dict()["deadline"] is None


def test_plain_values_have_payloads_unchanged_and_bytes_in_base64() -> None:
    said = result(outputs={"a": None, "b": Blob(b"\xff", "image/png"), "c": {"d": [1]}}).to_dict()
    assert said["outputs"] == {"a": None, "b": {"content_type": "image/png", "data": "/w=="}, "c": {"d": [1]}}


def test_an_output_nested_as_deep_as_json_allows_becomes_plain() -> None:
    deep: object = []
    for _ in range(900):
        deep = [deep]
    said = result(outputs={"a": deep}).to_dict()["outputs"]
    assert said == {"a": deep}


def test_a_value_without_a_plain_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="no plain form for set"):
        plain({1})


def test_the_last_event_has_the_result() -> None:
    message = event_pb2.RunEvent(run_id="r", sequence=9, run_finished=event_pb2.RunFinished())
    event = event_from_proto(message, lambda _: result())
    assert isinstance(event, RunFinished)
    assert event.result.duration == timedelta(seconds=2)
    assert event.result.succeeded


def test_a_run_that_never_began_has_no_duration() -> None:
    assert result(start_time=None).duration == timedelta(0)


def test_results_and_errors_can_be_pickled() -> None:
    failed = result(State.FAILED, steps={"p0": step_from_proto(run_pb2.StepResult(step_id="p0"))})
    assert pickle.loads(pickle.dumps(failed)) == failed
    assert pickle.loads(pickle.dumps(RunFailed(failed))).result == failed
    parallel = pickle.loads(pickle.dumps(ParallelFailed(failed, 1, [None, 2], [False, True])))
    assert (parallel.index, parallel.partial, parallel.answered) == (1, (None, 2), (False, True))


def test_all_fields_of_a_plan_are_read() -> None:
    bindings = [
        workflow_pb2.Binding(target="/a", step=workflow_pb2.StepOutput(id="s", path="/x")),
        workflow_pb2.Binding(target="/b", input="/y"),
        workflow_pb2.Binding(target="/c", expression="deps.s"),
        workflow_pb2.Binding(target="/d"),
    ]
    step = orchestrator_pb2.PlannedStep(
        step_id="b",
        action="x",
        wave=1,
        depends_on=["s"],
        input_rule=orchestrator_pb2.INPUT_RULE_OWN,
        input=payload_pb2.Payload(json='{"a":null}'),
        bindings=bindings,
    )
    plan = plan_from_proto(orchestrator_pb2.Plan(workflow_name="w", step_count=2, wave_sizes=[1, 1], width=1), [step])
    assert (plan.workflow_name, plan.step_count, plan.wave_sizes, plan.width) == ("w", 2, (1, 1), 1)
    assert [(item.source, item.step_id, item.path) for item in plan.steps[0].bindings] == [
        ("step", "s", "/x"),
        ("input", "", "/y"),
        ("expression", "", "deps.s"),
        ("unknown", "", ""),
    ]
    assert json.dumps(plan.to_dict())


def test_the_decisions_of_a_planned_step_are_read() -> None:
    inner = workflow_pb2.Workflow(name="page", steps=[workflow_pb2.Step(id="fetch"), workflow_pb2.Step(id="clean")])
    for_each = workflow_pb2.ForEach(step=workflow_pb2.StepOutput(id="s", path="/x"), max_parallelism=8)
    step = orchestrator_pb2.PlannedStep(
        step_id="b",
        input_rule=orchestrator_pb2.INPUT_RULE_ITEM,
        when="deps.s.output > 3",
        join=workflow_pb2.JOIN_ALL_DONE,
        for_each=for_each,
        workflow=inner,
        bindings=[workflow_pb2.Binding(item="/a", default=payload_pb2.Payload(json="0"))],
    )
    plain = orchestrator_pb2.PlannedStep(step_id="c", join=99)  # type: ignore[arg-type]  # newer
    plan = plan_from_proto(orchestrator_pb2.Plan(), [step, plain])
    one, other = plan.steps
    assert (one.when, one.join, one.input_rule) == ("deps.s.output > 3", "all_done", InputRule.ITEM)
    assert one.for_each == PlannedList("step", "s", "/x", None, 8)
    assert (one.workflow_name, one.workflow_steps) == ("page", ("fetch", "clean"))
    assert one.bindings == (PlannedBinding("", "item", "", "/a", has_default=True, default=0),)
    assert (other.when, other.join, other.for_each, other.workflow_name) == ("", "unknown", None, "")
    assert json.dumps(plan.to_dict())


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (workflow_pb2.ForEach(input="/x"), PlannedList("input", "", "/x", None, 0)),
        (workflow_pb2.ForEach(input=""), PlannedList("input", "", "", None, 0)),
        (workflow_pb2.ForEach(expression="input.a"), PlannedList("expression", "", "input.a", None, 0)),
        (workflow_pb2.ForEach(items=payload_pb2.Payload(json="[1]")), PlannedList("items", "", "", [1], 0)),
        (workflow_pb2.ForEach(), PlannedList("unknown", "", "", None, 0)),
    ],
)
def test_every_source_of_a_list_is_read(message: workflow_pb2.ForEach, expected: PlannedList) -> None:
    plan = plan_from_proto(orchestrator_pb2.Plan(), [orchestrator_pb2.PlannedStep(for_each=message)])
    assert plan.steps[0].for_each == expected


def test_capabilities_of_a_server_are_read() -> None:
    action = action_from_proto(orchestrator_pb2.Action(name="a", input_schema='{"type":"object"}', streaming=True))
    assert (action.name, action.input_schema, action.streaming) == ("a", {"type": "object"}, True)
    assert action_from_proto(orchestrator_pb2.Action(name="a")).input_schema == {}
    named = workflow_from_proto(
        orchestrator_pb2.NamedWorkflow(
            name="w", step_count=3, labels={"k": "v"}, digest="ab12", input_schema='{"type":"object"}'
        )
    )
    assert named.to_dict() == {
        "name": "w",
        "step_count": 3,
        "labels": {"k": "v"},
        "digest": "ab12",
        "input_schema": {"type": "object"},
    }
    assert workflow_from_proto(orchestrator_pb2.NamedWorkflow(name="w")).input_schema == {}
    message = orchestrator_pb2.ServerInfo(version="1", start_time=stamp(NOON), draining=True)
    message.limits.default_step_timeout.FromTimedelta(timedelta(minutes=10))
    message.limits.default_idle_timeout.FromTimedelta(timedelta(minutes=5))
    message.limits.max_items = 100_000
    info = server_info_from_proto(message)
    assert (info.version, info.start_time, info.draining) == ("1", NOON, True)
    assert info.limits.to_dict()["default_step_timeout"] == 600.0
    assert (info.limits.max_items, info.limits.default_idle_timeout) == (100_000, timedelta(minutes=5))
