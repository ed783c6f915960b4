"""Converts messages of the contract to results, plans and server info."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeVar

from google.protobuf import duration_pb2, timestamp_pb2

from stepwave._actions.failure import FailureReason
from stepwave._model.catalog import (
    InputRule,
    Plan,
    PlannedBinding,
    PlannedFallback,
    PlannedList,
    PlannedRetry,
    PlannedStep,
)
from stepwave._model.events import LogLevel
from stepwave._model.explanation import CodeLine, RunExplanation, StepExplanation
from stepwave._model.results import (
    Counts,
    Failure,
    FailureCause,
    Run,
    RunResult,
    SkipCause,
    SkipReason,
    State,
    StepResult,
    WaitCause,
    WaitingSteps,
)
from stepwave._values.payload import Output, from_payload
from stepwave.v1 import event_pb2, orchestrator_pb2, run_pb2, workflow_pb2

__all__ = [
    "enum_values",
    "explanation_from_proto",
    "failure_from_proto",
    "log_level",
    "moment",
    "plan_from_proto",
    "result_from_proto",
    "run_from_proto",
    "span",
    "state_from_proto",
    "step_from_proto",
    "wait_cause",
]

Value = TypeVar("Value", bound=StrEnum)


class _EnumType(Protocol):
    """An enum of the contract."""

    def items(self) -> Iterable[tuple[str, int]]: ...


def enum_values(names: _EnumType, prefix: str, kind: Callable[[str], Value]) -> dict[int, Value]:
    """Return the SDK's values by the numbers of an enum of the contract; without 0, which is never sent."""
    return {number: kind(name.removeprefix(prefix).lower()) for name, number in names.items() if number}


_STATES = enum_values(run_pb2.State, "STATE_", State)
_REASONS = enum_values(run_pb2.FailureReason, "FAILURE_REASON_", FailureReason)
_FAILURE_CAUSES = enum_values(run_pb2.FailureCause, "FAILURE_CAUSE_", FailureCause)
_SKIP_CAUSES = enum_values(run_pb2.SkipCause, "SKIP_CAUSE_", SkipCause)
_WAITS = enum_values(event_pb2.WaitCause, "WAIT_CAUSE_", WaitCause)
_LOG_LEVELS = enum_values(event_pb2.LogLevel, "LOG_LEVEL_", LogLevel)
_JOINS = {number: name.removeprefix("JOIN_").lower() for name, number in workflow_pb2.Join.items()}
_RULES = enum_values(orchestrator_pb2.InputRule, "INPUT_RULE_", InputRule)


def moment(stamp: timestamp_pb2.Timestamp) -> datetime:
    """Convert a timestamp to a time in UTC, to the microsecond."""
    # Exact to the microsecond for any date before 2106, in a third of the time of `ToDatetime`.
    return datetime.fromtimestamp(stamp.seconds + stamp.nanos * 1e-9, UTC)


def span(duration: duration_pb2.Duration) -> timedelta:
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos // 1000)


def state_from_proto(number: int) -> State:
    """Convert a state of the contract."""
    return _STATES.get(number, State.UNKNOWN)


def run_from_proto(message: run_pb2.Run, waiting: Iterable[orchestrator_pb2.WaitingSteps] = ()) -> Run:
    """Convert a run of the contract, and what its steps wait for."""
    return Run(
        run_id=message.run_id,
        namespace=message.namespace,
        workflow_name=message.workflow_name,
        state=_STATES.get(message.state, State.UNKNOWN),
        labels=dict(message.labels),
        create_time=moment(message.create_time),
        start_time=moment(message.start_time) if message.HasField("start_time") else None,
        end_time=moment(message.end_time) if message.HasField("end_time") else None,
        counts=_counts(message.counts),
        last_sequence=message.last_sequence,
        open=message.open,
        stopping=message.stopping,
        rerun_of=message.rerun_of,
        paused=message.paused,
        missing_actions=tuple(message.missing_actions),
        workflow_digest=message.workflow_digest,
        created_by=message.created_by,
        waiting=tuple(map(_waiting, waiting)),
    )


def log_level(number: int) -> LogLevel:
    """Convert a log level of the contract."""
    return _LOG_LEVELS.get(number, LogLevel.UNKNOWN)


def wait_cause(number: int) -> WaitCause:
    """Convert a wait cause of the contract."""
    return _WAITS.get(number, WaitCause.UNKNOWN)


def _waiting(message: orchestrator_pb2.WaitingSteps) -> WaitingSteps:
    return WaitingSteps(
        cause=wait_cause(message.cause),
        message=message.message,
        limit=message.limit,
        step_count=message.step_count,
        step_ids=tuple(message.step_ids),
    )


def _counts(message: run_pb2.StateCounts) -> Counts:
    return Counts(
        pending=message.pending,
        running=message.running,
        succeeded=message.succeeded,
        failed=message.failed,
        cancelled=message.cancelled,
        skipped=message.skipped,
    )


def step_from_proto(message: run_pb2.StepResult) -> StepResult:
    """Convert a step's result of the contract."""
    has = message.HasField
    return StepResult(
        message.step_id,
        message.action,
        _STATES.get(message.state, State.UNKNOWN),
        message.wave,
        message.attempts,
        from_payload(message.output),
        failure_from_proto(message.failure) if has("failure") else None,
        _skip_reason(message.skip_reason) if has("skip_reason") else None,
        moment(message.ready_time) if has("ready_time") else None,
        moment(message.start_time) if has("start_time") else None,
        moment(message.end_time) if has("end_time") else None,
        message.abandoned,
        message.reused_from,
        failure_from_proto(message.original_failure) if has("original_failure") else None,
        message.completed_by,
    )


def failure_from_proto(message: run_pb2.Failure) -> Failure:
    """Convert a failure of the contract."""
    return Failure(
        reason=_REASONS.get(message.reason, FailureReason.UNKNOWN),
        message=message.message,
        retryable=message.retryable,
        retry_after=span(message.retry_after) if message.HasField("retry_after") else None,
        step_id=message.step_id,
        attempt=message.attempt,
        details=dict(message.details),
        cause=_FAILURE_CAUSES.get(message.cause, FailureCause.UNKNOWN) if message.cause else None,
    )


def _skip_reason(message: run_pb2.SkipReason) -> SkipReason:
    return SkipReason(cause=_SKIP_CAUSES.get(message.cause, SkipCause.UNKNOWN), step_id=message.step_id)


def result_from_proto(
    message: run_pb2.Result, *, outputs: Mapping[str, Output], steps: Mapping[str, StepResult]
) -> RunResult:
    """Convert a result of the contract, with the outputs and steps that were assembled for it."""
    return RunResult(
        run_id=message.run_id,
        workflow_name=message.workflow_name,
        state=_STATES.get(message.state, State.UNKNOWN),
        outputs=outputs,
        steps=steps,
        failures=tuple(map(failure_from_proto, message.failures)),
        failure_count=message.failure_count,
        create_time=moment(message.create_time),
        start_time=moment(message.start_time) if message.HasField("start_time") else None,
        end_time=moment(message.end_time),
        counts=_counts(message.counts),
        omitted_output_count=max(0, len(message.outputs) + message.omitted_output_count - len(outputs)),
    )


def explanation_from_proto(message: orchestrator_pb2.ExplainRunResponse) -> RunExplanation:
    """Convert an explanation of the contract."""
    return RunExplanation(
        run=run_from_proto(message.run),
        time=moment(message.time),
        steps=tuple(map(_step_explanation, message.steps)),
        step_count=message.step_count,
    )


def _step_explanation(message: orchestrator_pb2.StepExplanation) -> StepExplanation:
    return StepExplanation(
        step_id=message.step_id,
        action=message.action,
        state=state_from_proto(message.state),
        attempt=message.attempt,
        since=moment(message.since) if message.HasField("since") else None,
        until=moment(message.until) if message.HasField("until") else None,
        waits_for=tuple(message.waits_for_step_ids),
        waits_for_count=message.waits_for_count,
        cause=wait_cause(message.cause) if message.cause else None,
        message=message.message,
        where=_code_line(message.where) if message.HasField("where") else None,
    )


def _code_line(message: orchestrator_pb2.CodeLine) -> CodeLine:
    return CodeLine(function=message.function, file=message.file, line=message.line, text=message.text)


def plan_from_proto(message: orchestrator_pb2.Plan, steps: Iterable[orchestrator_pb2.PlannedStep]) -> Plan:
    """Convert a plan of the contract, and the steps of all its pages."""
    return Plan(
        workflow_name=message.workflow_name,
        step_count=message.step_count,
        edge_count=message.edge_count,
        wave_sizes=tuple(message.wave_sizes),
        width=message.width,
        outputs=tuple(message.outputs),
        steps=tuple(map(_planned_step, steps)),
    )


def _planned_step(message: orchestrator_pb2.PlannedStep) -> PlannedStep:
    return PlannedStep(
        step_id=message.step_id,
        action=message.action,
        wave=message.wave,
        depends_on=tuple(message.depends_on),
        input_rule=_RULES.get(message.input_rule, InputRule.UNKNOWN),
        input=from_payload(message.input),
        bindings=tuple(map(_planned_binding, message.bindings)),
        timeout=span(message.timeout) if message.HasField("timeout") else None,
        total_timeout=span(message.total_timeout) if message.HasField("total_timeout") else None,
        retry=_planned_retry(message.retry) if message.HasField("retry") else None,
        fallback=_planned_fallback(message.fallback) if message.HasField("fallback") else None,
        when=message.when,
        join=_JOINS.get(message.join or workflow_pb2.JOIN_ALL, "unknown"),
        for_each=_planned_list(message.for_each) if message.HasField("for_each") else None,
        workflow_name=message.workflow.name,
        workflow_steps=tuple(step.id for step in message.workflow.steps),
    )


def _planned_list(message: workflow_pb2.ForEach) -> PlannedList:
    source = message.WhichOneof("source") or "unknown"
    return PlannedList(
        source=source,
        step_id=message.step.id,
        path=message.step.path or message.input or message.expression,
        items=from_payload(message.items),
        max_parallelism=message.max_parallelism,
    )


def _planned_retry(message: workflow_pb2.Retry) -> PlannedRetry:
    return PlannedRetry(
        max_attempts=message.max_attempts,
        initial_backoff=span(message.initial_backoff),
        backoff_multiplier=message.backoff_multiplier,
        max_backoff=span(message.max_backoff),
        jitter=message.jitter,
        retryable_reasons=tuple(_REASONS.get(number, FailureReason.UNKNOWN) for number in message.retryable_reasons),
    )


def _planned_fallback(message: workflow_pb2.Fallback) -> PlannedFallback:
    if message.WhichOneof("answer") != "action":
        return PlannedFallback(action="", value=from_payload(message.value), bindings=())
    action = message.action
    return PlannedFallback(
        action=action.action,
        value=from_payload(action.input),
        bindings=tuple(map(_planned_binding, action.bindings)),
    )


def _planned_binding(message: workflow_pb2.Binding) -> PlannedBinding:
    source = message.WhichOneof("source") or "unknown"
    path = message.step.path if source == "step" else getattr(message, source, "")
    return PlannedBinding(
        target=message.target,
        source=source,
        step_id=message.step.id,
        path=path,
        has_default=message.HasField("default"),
        default=from_payload(message.default),
    )
