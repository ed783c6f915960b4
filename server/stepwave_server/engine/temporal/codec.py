"""Converts to the values that Temporal stores, and back: starts, signals, activities and their outcomes."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from temporalio.api.common.v1 import Payload as TemporalPayload
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeout

from stepwave._values.json import json_problem
from stepwave.v1 import orchestrator_pb2, run_pb2, workflow_pb2
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.actions.values import bounded
from stepwave_server.core.info import DEFAULT_NAMESPACE, RunKey
from stepwave_server.core.messages import (
    AddSteps,
    AttemptExpanded,
    AttemptFailed,
    AttemptLost,
    AttemptSucceeded,
    CancelRequested,
    Started,
    StepCompleted,
)
from stepwave_server.core.model import MAX_PAYLOAD_BYTES, WORKFLOW_ACTION, Blob, Failure, Payload, Reason
from stepwave_server.engine.temporal.driver_messages import AttemptStopped, DriverInput, Request
from stepwave_server.engine.temporal.holds import HoldChange
from stepwave_server.journal import Header
from stepwave_server.wire.values import decode_payload, encode_payload, from_failure, to_failure
from stepwave_server.wire.workflows.definition import from_definition, to_definition
from stepwave_server.wire.workflows.workflow import Parsed, fill_step, parse_step, parse_workflow

__all__ = [
    "NO_VALUE",
    "SIGNAL",
    "WORKFLOW_TYPE",
    "StartInput",
    "activity_id",
    "attempt_of_activity",
    "decode_start",
    "decode_value",
    "encode_start",
    "encode_value",
    "error_of_failure",
    "expansion",
    "from_signal",
    "lost",
    "max_bytes",
    "microseconds",
    "outcome_of_answer",
    "outcome_of_error",
    "stopped",
    "task_queue_of",
    "to_signal",
    "workflow_id_of",
]

WORKFLOW_TYPE = "stepwave.run"


def workflow_id_of(key: RunKey) -> str:
    """Return the id of the workflow of a run. That of a run of the default namespace is the run's id."""
    return key.run_id if key.namespace == DEFAULT_NAMESPACE else f"{key.namespace}/{key.run_id}"


"""The type of the workflow that drives a run."""

SIGNAL = "stepwave.request"
"""The signal that gives a run a request of a caller."""

STOPPED = "stepwave.stopped"
LOST = "stepwave.lost"
"""Types of failures by which a host says that it stopped an attempt, or gave it up because the host itself stops."""

_REASONS = {reason.name.lower(): reason for reason in Reason}
_ENCODING = "encoding"
_CONTENT_TYPE = "content-type"
_CHECKED = "stepwave"
_JSON = b"json/plain"
_BINARY = b"binary/plain"


def task_queue_of(prefix: str, action: str) -> str:
    """Return the task queue of an action's attempts."""
    return f"{prefix}:{action}"


def activity_id(step_id: str, attempt: int) -> str:
    """Return the id of an attempt's activity."""
    return f"{step_id}:{attempt}"


def attempt_of_activity(activity: str) -> tuple[str, int]:
    """Return the step and the number of the attempt of an activity."""
    step_id, _, attempt = activity.rpartition(":")
    return step_id, int(attempt)


NO_VALUE = TemporalPayload(metadata={"encoding": b"binary/null"})
"""The answer of an activity that answers nothing."""


# Values: inputs and outputs of activities.


def encode_value(payload: Payload) -> RawValue:
    """Return a payload as a value of Temporal. JSON keeps its text, and is marked as checked."""
    if isinstance(payload, Blob):
        metadata = {_ENCODING: _BINARY, _CONTENT_TYPE: payload.content_type.encode()}
        return RawValue(TemporalPayload(metadata=metadata, data=payload.data))
    return RawValue(TemporalPayload(metadata={_ENCODING: _JSON, _CHECKED: b"1"}, data=payload.encode()))


def decode_value(value: TemporalPayload) -> Payload:
    """Return the payload of a value of Temporal.

    Raises:
        ValueError: It has an encoding that is neither JSON nor bytes, or is no valid JSON.
    """
    encoding = value.metadata[_ENCODING]
    if encoding in (_JSON, b"json/protobuf"):
        text = value.data.decode()
        if _CHECKED not in value.metadata and (problem := json_problem(text)):
            raise ValueError(f"its answer {problem}")
        return text
    if encoding == b"binary/null":
        return "null"
    if encoding == _BINARY:
        kind = value.metadata[_CONTENT_TYPE].decode() if _CONTENT_TYPE in value.metadata else ""
        return Blob(kind or "application/octet-stream", value.data)
    raise ValueError(f'its answer has the encoding "{encoding.decode(errors="replace")}": want JSON or bytes')


# The start of a run.


class StartInput(NamedTuple):
    """The arguments of a workflow.

    Attributes:
        header: The definition of the run.
        started: The first input.
        heartbeat_timeout: Seconds after which an attempt without a heartbeat is lost.
        cancel_grace: Seconds to wait for the clean-up of an interrupted attempt.
        task_queue: The task queue of workflows, and the prefix of those of actions.
        holder: The server whose stream holds the run from its start; empty: none.
    """

    header: Header
    started: Started
    heartbeat_timeout: float
    cancel_grace: float
    task_queue: str
    holder: str = ""


def max_bytes(start: StartInput) -> int:
    """Return the bytes that a payload of a run may have."""
    return start.header.options.max_payload_bytes or MAX_PAYLOAD_BYTES


def encode_start(start: StartInput) -> list[Any]:
    """Return the arguments of the workflow of a run."""
    header, started = start.header, start.started
    definition = to_definition(
        key=header.key,
        workflow=header.workflow,
        input=header.input,
        options=header.options,
        create_time=header.create_time,
        rerun_of=header.rerun_of,
    )
    options = {
        "traceparent": header.traceparent,
        "tracestate": header.tracestate,
        "window": header.window,
        "workflow_digest": header.workflow_digest,
        **({"created_by": header.created_by} if header.created_by else {}),
        "reused_from": started.reused_from,
        "reused": [[step_id, b64encode(encode_payload(output)).decode()] for step_id, output in started.reused],
        "heartbeat_timeout": start.heartbeat_timeout,
        "cancel_grace": start.cancel_grace,
        "task_queue": start.task_queue,
        "holder": start.holder,
    }
    return [definition.SerializeToString(), options]


def microseconds(nanos: int) -> int:
    """Return a time in nanoseconds, to the microsecond. Temporal's visibility keeps no more."""
    return nanos // 1_000 * 1_000


def decode_start(definition: bytes, options: Mapping[str, Any], start_time: int) -> StartInput:
    """Return what a workflow was started with.

    Args:
        definition: The first argument of the workflow.
        options: The second argument.
        start_time: When it started by Temporal's clock, in nanoseconds since the epoch. The run was accepted then: the
            clocks of servers may differ.
    """
    found = from_definition(orchestrator_pb2.RunDefinition.FromString(definition))
    header = Header(
        key=found.key,
        workflow=found.workflow,
        input=found.input,
        options=found.options,
        create_time=microseconds(start_time),
        traceparent=options["traceparent"],
        tracestate=options["tracestate"],
        window=options["window"],
        rerun_of=found.rerun_of,
        workflow_digest=options["workflow_digest"],
        created_by=options.get("created_by", ""),
    )
    reused = tuple((step_id, decode_payload(b64decode(output))) for step_id, output in options["reused"])
    return StartInput(
        header=header,
        started=Started(reused, options["reused_from"]),
        heartbeat_timeout=options["heartbeat_timeout"],
        cancel_grace=options["cancel_grace"],
        task_queue=options["task_queue"],
        holder=options.get("holder", ""),
    )


# Signals.


def to_signal(request: Request) -> dict[str, Any]:
    """Return a request of a caller as the argument of a signal."""
    message: dict[str, Any] = {"token": request.token}
    match request.input:
        case HoldChange(kind, holder):
            message["hold"] = {"kind": kind, "holder": holder}
        case CancelRequested(reason, caller):
            message["cancel"] = {"reason": reason, **_by(caller)}
        case AddSteps(steps, seal):
            workflow = workflow_pb2.Workflow()
            for step in steps:
                fill_step(workflow.steps.add(), step)
            message["add_steps"] = {"steps": b64encode(workflow.SerializeToString()).decode(), "seal": seal}
        case StepCompleted(step_id, output, failure, caller):
            message["complete_step"] = completion = {"step_id": step_id, **_by(caller)}
            if failure is not None:
                completion["failure"] = b64encode(to_failure(failure).SerializeToString()).decode()
            else:
                completion["output"] = b64encode(encode_payload("null" if output is None else output)).decode()
        case _:
            raise AssertionError("only callers' inputs are signals")
    return message


def from_signal(message: Mapping[str, Any]) -> Request:
    """Return the request of a signal."""
    token = message["token"]
    if "hold" in message:
        return Request(token, HoldChange(message["hold"]["kind"], message["hold"]["holder"]))
    if "cancel" in message:
        return Request(token, CancelRequested(message["cancel"]["reason"], message["cancel"].get("caller", "")))
    if "add_steps" in message:
        added = message["add_steps"]
        workflow = workflow_pb2.Workflow.FromString(b64decode(added["steps"]))
        parsed = Parsed(accepted=True)
        steps = tuple(parse_step(step, f"steps[{index}]", parsed) for index, step in enumerate(workflow.steps))
        return Request(token, AddSteps(steps, added["seal"]))
    completion = message["complete_step"]
    caller = completion.get("caller", "")
    if "failure" in completion:
        failure = from_failure(run_pb2.Failure.FromString(b64decode(completion["failure"])))
        return Request(token, StepCompleted(completion["step_id"], None, failure, caller))
    output = decode_payload(b64decode(completion["output"]))
    return Request(token, StepCompleted(completion["step_id"], output, None, caller))


def _by(caller: str) -> dict[str, str]:
    return {"caller": caller} if caller else {}


# Outcomes of attempts.


def expansion(workflow: workflow_pb2.Workflow, given: Payload) -> RawValue:
    """Return the answer of an attempt of `core.workflow`."""
    answer = {
        "workflow": b64encode(workflow.SerializeToString()).decode(),
        "input": b64encode(encode_payload(given)).decode(),
    }
    return encode_value(json.dumps(answer))


def outcome_of_answer(step_id: str, attempt: int, action: str, value: TemporalPayload, max_bytes: int) -> DriverInput:
    """Return the outcome of an attempt that answered.

    Args:
        step_id: The step.
        attempt: The number of the attempt.
        action: The action.
        value: The answer.
        max_bytes: Bytes that an output may have.
    """
    try:
        payload = decode_value(value)
        if action == WORKFLOW_ACTION:
            return _expanded(step_id, attempt, payload)
    except ValueError as error:
        failure = Failure(Reason.ACTION_ERROR, str(error), step_id=step_id, attempt=attempt)
        return AttemptFailed(step_id, attempt, failure)
    try:
        return AttemptSucceeded(step_id, attempt, bounded(payload, max_bytes))
    except ActionFailed as error:
        failure = Failure(error.reason, str(error), step_id=step_id, attempt=attempt)
        return AttemptFailed(step_id, attempt, failure)


def _expanded(step_id: str, attempt: int, payload: Payload) -> AttemptExpanded:
    assert isinstance(payload, str), "the answer of the server's own action is JSON"
    answer = json.loads(payload)
    message = workflow_pb2.Workflow.FromString(b64decode(answer["workflow"]))
    workflow = parse_workflow(message, Parsed(accepted=True))
    return AttemptExpanded(step_id, attempt, workflow, decode_payload(b64decode(answer["input"])))


def error_of_failure(failure: Failure) -> ApplicationError:
    """Return an attempt's failure as the error that its activity raises."""
    return ApplicationError(
        failure.message,
        {"details": dict(failure.details)},
        type=failure.reason.name.lower(),
        non_retryable=not failure.retryable,
        next_retry_delay=None if failure.retry_after is None else timedelta(microseconds=failure.retry_after / 1_000),
    )


def stopped(given: AttemptStopped) -> ApplicationError:
    """Return the end of an attempt that was cancelled, or passed its timeout, as the error that its activity raises."""
    details = {"timed_out": given.timed_out, "abandoned": given.abandoned, "did": given.did}
    return ApplicationError(
        "the attempt passed its timeout" if given.timed_out else "the attempt was cancelled",
        details,
        type=STOPPED,
        non_retryable=True,
    )


def lost(message: str) -> ApplicationError:
    """Return the loss of an attempt with a host that stops in order, as the error that its activity raises."""
    return ApplicationError(message, type=LOST, non_retryable=True)


def outcome_of_error(step_id: str, attempt: int, error: BaseException | None) -> DriverInput:
    """Return the outcome of an attempt whose activity did not answer.

    Args:
        step_id: The step.
        attempt: The number of the attempt.
        error: Why the activity did not answer.
    """
    if isinstance(error, ActivityError):
        error = error.cause
    match error:
        case ApplicationError():
            return _outcome_of_application_error(step_id, attempt, error)
        case ActivityTimeout(type=TimeoutType.HEARTBEAT):
            return AttemptLost(step_id, attempt, hosted=True)
        case ActivityTimeout():
            return AttemptStopped(step_id, attempt, timed_out=True, abandoned=True)
        case CancelledError():
            return AttemptStopped(step_id, attempt, timed_out=False)
    failure = Failure(Reason.INTERNAL, str(error), step_id=step_id, attempt=attempt)
    return AttemptFailed(step_id, attempt, failure)


def _outcome_of_application_error(step_id: str, attempt: int, error: ApplicationError) -> DriverInput:
    details = _first(error.details)
    if error.type == LOST:
        return AttemptLost(step_id, attempt, drained=True, hosted=True)
    if error.type == STOPPED:
        return AttemptStopped(step_id, attempt, details["timed_out"], details["abandoned"], details["did"])
    reason = _REASONS.get(error.type or "", Reason.ACTION_ERROR)
    shown = details.get("details")
    known = {str(key): str(value) for key, value in shown.items()} if isinstance(shown, dict) else {}
    if error.type and error.type not in _REASONS:
        known.setdefault("type", error.type)
    delay = error.next_retry_delay
    failure = Failure(
        reason,
        error.message,
        retryable=not error.non_retryable,
        retry_after=None if delay is None else round(delay / timedelta(microseconds=1)) * 1_000,
        step_id=step_id,
        attempt=attempt,
        details=tuple(sorted(known.items())),
    )
    return AttemptFailed(step_id, attempt, failure)


def _first(details: Sequence[Any]) -> dict[str, Any]:
    return details[0] if details and isinstance(details[0], dict) else {}
