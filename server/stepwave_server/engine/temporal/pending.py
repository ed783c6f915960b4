"""The attempts of a run that Temporal has, and no outcome of: which hosts run them, since when, and their progress."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from temporalio.api.common.v1 import Payloads
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.converter import PayloadConverter

from stepwave_server.core.explanation import CodeLine
from stepwave_server.engine.temporal.codec import attempt_of_activity
from stepwave_server.engine.temporal.progress import Progress, progress_of

__all__ = ["PendingAttempt", "pending_attempts"]


class PendingAttempt(NamedTuple):
    """An attempt that Temporal has.

    Attributes:
        step_id: The step.
        attempt: The number of the attempt.
        action: The name of its action.
        scheduled_time: When Temporal got it, in nanoseconds since the epoch.
        start_time: When a host began to run it; `None`: no host has it yet.
        host: The identity of this host; empty: no host has it yet.
        progress: Its newest progress; `None`: it showed none.
        where: The line of code that it was at; `None`: unknown, or not to be shown.
    """

    step_id: str
    attempt: int
    action: str
    scheduled_time: int
    start_time: int | None
    host: str
    progress: Progress | None
    where: CodeLine | None = None


def pending_attempts(description: DescribeWorkflowExecutionResponse) -> Mapping[str, PendingAttempt]:
    """Return the attempts that Temporal has of a run, by step."""
    return {found.step_id: found for found in map(_attempt, description.pending_activities)}


def _attempt(activity: PendingActivityInfo) -> PendingAttempt:
    step_id, attempt = attempt_of_activity(activity.activity_id)
    started = activity.state not in (
        PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED,
        PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED,
    )
    details = _details(activity.heartbeat_details)
    return PendingAttempt(
        step_id=step_id,
        attempt=attempt,
        action=activity.activity_type.name,
        scheduled_time=activity.scheduled_time.ToNanoseconds(),
        start_time=activity.last_started_time.ToNanoseconds() if started else None,
        host=activity.last_worker_identity if started else "",
        progress=progress_of(details),
        where=_line(details),
    )


def _details(heartbeat: Payloads) -> list[object]:
    """Return what a heartbeat carries: a fraction, a message and a line of code.

    Other programs may send anything. Some SDKs send one value: an object with `fraction` and `message`.
    """
    try:
        values = PayloadConverter.default.from_payloads(heartbeat.payloads)
    except Exception:  # the converter raises anything for what it does not know
        values = []
    if len(values) == 1 and isinstance(values[0], dict):
        values = [values[0].get("fraction"), values[0].get("message")]
    return [*values, None, None, None][:3]


def _line(details: Sequence[object]) -> CodeLine | None:
    """Return the line of code in the details of a heartbeat."""
    match details[2]:
        case [str(function), str(file), int(line), str(text)] if line >= 0:
            return CodeLine(function, file, line, text)
    return None
