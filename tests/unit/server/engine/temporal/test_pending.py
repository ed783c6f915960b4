"""The attempts that Temporal has of a run."""

import pytest
from temporalio.api.common.v1 import ActivityType, Payloads
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.converter import PayloadConverter

from stepwave_server.core.explanation import CodeLine
from stepwave_server.engine.temporal.pending import PendingAttempt, pending_attempts
from stepwave_server.engine.temporal.progress import Progress
from stepwave_server.engine.temporal.task_queues import POLL_NANOS, is_served


def _activity(**options: object) -> PendingActivityInfo:
    activity = PendingActivityInfo(activity_id="s:2", activity_type=ActivityType(name="act"), **options)  # type: ignore[arg-type]  # fields of the message
    activity.scheduled_time.FromNanoseconds(1_000)
    return activity


def _one(activity: PendingActivityInfo) -> PendingAttempt:
    (found,) = pending_attempts(DescribeWorkflowExecutionResponse(pending_activities=[activity])).values()
    return found


def test_an_attempt_that_no_host_has_taken_has_no_start() -> None:
    activity = _activity(state=PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED)
    assert _one(activity) == PendingAttempt("s", 2, "act", 1_000, None, "", None)


@pytest.mark.parametrize(
    "state",
    [
        PendingActivityState.PENDING_ACTIVITY_STATE_STARTED,
        PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED,
    ],
)
def test_an_attempt_on_a_host_has_a_start_and_the_host(state: PendingActivityState.ValueType) -> None:
    activity = _activity(state=state, last_worker_identity="7@host")
    activity.last_started_time.FromNanoseconds(2_000)
    assert _one(activity) == PendingAttempt("s", 2, "act", 1_000, 2_000, "7@host", None)


@pytest.mark.parametrize(
    ("details", "progress"),
    [
        ([0.5, "half"], Progress(0.5, "half")),
        ([1], Progress(1.0, "")),
        ([None, "busy"], Progress(None, "busy")),
        ([], None),
        ([None], None),
        ([True, "yes"], None),
        ([2.5, "too much"], None),
        (["half"], None),
        ([0.5, {"a": 1}], None),
    ],
    ids=str,
)
def test_progress_is_a_fraction_and_a_message(details: list[object], progress: Progress | None) -> None:
    activity = _activity(state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
    activity.heartbeat_details.CopyFrom(Payloads(payloads=PayloadConverter.default.to_payloads(details)))
    assert _one(activity).progress == progress


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        (["act", "/a.py", 7, "await it"], CodeLine("act", "/a.py", 7, "await it")),
        (["act", "/a.py", -7, ""], None),
        (["act", "/a.py"], None),
        ("act", None),
        (None, None),
    ],
    ids=str,
)
def test_a_heartbeat_carries_the_line_of_code_of_the_action(sent: object, line: CodeLine | None) -> None:
    activity = _activity(state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
    details = PayloadConverter.default.to_payloads([None, None, sent])
    activity.heartbeat_details.CopyFrom(Payloads(payloads=details))
    assert (_one(activity).where, _one(activity).progress) == (line, None)


def test_heartbeats_that_cannot_be_read_are_no_progress() -> None:
    activity = _activity(state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
    activity.heartbeat_details.payloads.add(data=b"x", metadata={"encoding": b"unknown"})
    assert _one(activity).progress is None


def test_a_long_message_of_another_program_is_cut() -> None:
    activity = _activity(state=PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
    details = PayloadConverter.default.to_payloads([0.5, "x" * 10_000])
    activity.heartbeat_details.CopyFrom(Payloads(payloads=details))
    found = _one(activity).progress
    assert found is not None
    assert len(found.message) == 2_048


def _poller(last_access: int) -> PollerInfo:
    poller = PollerInfo()
    poller.last_access_time.FromNanoseconds(last_access)
    return poller


def test_an_action_is_served_while_one_of_its_hosts_asks_for_attempts() -> None:
    now = 10 * POLL_NANOS
    assert not is_served([], now)
    assert not is_served([_poller(now - POLL_NANOS)], now)
    assert is_served([_poller(0), _poller(now - POLL_NANOS + 1)], now)
