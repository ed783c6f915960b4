"""Batches of inputs from the history of a workflow, in the order in which they are decided."""

import time
from itertools import count

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import EventType, TimeoutType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import PayloadConverter

from stepwave.v1 import workflow_pb2
from stepwave.v1.orchestrator_pb2 import WatchRunResponse
from stepwave.v1.run_pb2 import STATE_FAILED
from stepwave_server.core.info import RunKey
from stepwave_server.core.messages import AttemptLost, AttemptSucceeded, CancelRequested, Started
from stepwave_server.core.model import SECOND
from stepwave_server.core.state import RunOptions
from stepwave_server.engine.temporal.codec import SIGNAL, StartInput, encode_start, encode_value, to_signal
from stepwave_server.engine.temporal.driver_messages import AttemptStopped, HistorySize, Request, TimerDue
from stepwave_server.engine.temporal.followed_run import FollowedRun
from stepwave_server.engine.temporal.history import Batch, HistoryReader
from stepwave_server.journal import Header, MemoryJournal
from stepwave_server.wire.workflows.workflow import fill_workflow
from unit.server.core.build import flow, step

_PAYLOADS = PayloadConverter.default
START = 1_700_000_000


class Told:
    """A history that a test writes, an event each second, and what a reader makes of it."""

    def __init__(self) -> None:
        self.reader = HistoryReader()
        self.events: list[HistoryEvent] = []
        self.batches: list[Batch] = []
        self._ids = count(1)
        definition = workflow_pb2.Workflow()
        fill_workflow(definition, flow(step("a"), step("b")))
        header = Header(
            key=RunKey("default", "run"),
            workflow=definition.SerializeToString(),
            input="null",
            options=RunOptions(),
            create_time=START * SECOND,
            traceparent="",
            tracestate="",
            window=0,
        )
        event = self.event("WORKFLOW_EXECUTION_STARTED")
        arguments = encode_start(StartInput(header, Started(), 10.0, 10.0, "queue"))
        event.workflow_execution_started_event_attributes.input.payloads.extend(_PAYLOADS.to_payloads(arguments))
        self.add(event)

    def event(self, kind: str) -> HistoryEvent:
        number = next(self._ids)
        event_type = EventType.Value(f"EVENT_TYPE_{kind}")
        return HistoryEvent(event_id=number, event_type=event_type, event_time=Timestamp(seconds=START + number))

    def add(self, event: HistoryEvent) -> int:
        """Add an event, and return its id."""
        self.events.append(event)
        batch = self.reader.add(event)
        if batch is not None:
            self.batches.append(batch)
        return event.event_id

    def begin_task(self) -> int:
        event = self.event("WORKFLOW_TASK_STARTED")
        event.workflow_task_started_event_attributes.history_size_bytes = 1_000
        return self.add(event)

    def complete_task(self) -> None:
        self.add(self.event("WORKFLOW_TASK_COMPLETED"))

    def schedule(self, activity: str) -> int:
        event = self.event("ACTIVITY_TASK_SCHEDULED")
        event.activity_task_scheduled_event_attributes.activity_id = activity
        event.activity_task_scheduled_event_attributes.activity_type.name = "echo"
        return self.add(event)

    def complete(self, scheduled: int) -> None:
        event = self.event("ACTIVITY_TASK_COMPLETED")
        event.activity_task_completed_event_attributes.scheduled_event_id = scheduled
        event.activity_task_completed_event_attributes.result.payloads.append(encode_value("1").payload)
        self.add(event)

    def cancel_activity(self, scheduled: int) -> None:
        event = self.event("ACTIVITY_TASK_CANCELED")
        event.activity_task_canceled_event_attributes.scheduled_event_id = scheduled
        self.add(event)

    def time_out(self, scheduled: int) -> None:
        event = self.event("ACTIVITY_TASK_TIMED_OUT")
        event.activity_task_timed_out_event_attributes.scheduled_event_id = scheduled
        event.activity_task_timed_out_event_attributes.failure.timeout_failure_info.timeout_type = (
            TimeoutType.TIMEOUT_TYPE_HEARTBEAT
        )
        self.add(event)

    def start_timer(self, name: str) -> int:
        event = self.event("TIMER_STARTED")
        event.user_metadata.summary.CopyFrom(_PAYLOADS.to_payload(name))
        return self.add(event)

    def fire(self, started: int) -> None:
        event = self.event("TIMER_FIRED")
        event.timer_fired_event_attributes.started_event_id = started
        self.add(event)

    def signal(self, request: Request, name: str = SIGNAL) -> None:
        event = self.event("WORKFLOW_EXECUTION_SIGNALED")
        event.workflow_execution_signaled_event_attributes.signal_name = name
        event.workflow_execution_signaled_event_attributes.input.payloads.append(
            _PAYLOADS.to_payload(to_signal(request))
        )
        self.add(event)

    def begin(self) -> None:
        """Complete the first task."""
        self.begin_task()
        self.complete_task()
        self.batches.clear()


@pytest.fixture
def told() -> Told:
    return Told()


def cancel(token: str) -> Request:
    return Request(token, CancelRequested(token))


def test_the_first_batch_has_the_start_and_what_came_with_it(told: Told) -> None:
    told.signal(cancel("one"))
    started = told.begin_task()
    told.complete_task()
    (batch,) = told.batches
    assert batch.time == (START + started) * SECOND
    assert batch.inputs == [HistorySize(started, 1_000), Started(), cancel("one")]


def test_requests_come_before_outcomes_and_those_before_timers(told: Told) -> None:
    told.begin()
    one, two, timer = told.schedule("a:1"), told.schedule("b:1"), told.start_timer("total a")
    told.fire(timer)
    told.complete(two)
    told.signal(cancel("first"))
    told.complete(one)
    told.signal(cancel("second"))
    told.begin_task()
    told.complete_task()
    assert told.batches[0].inputs[1:] == [
        cancel("first"),
        cancel("second"),
        AttemptSucceeded("b", 1, "1"),
        AttemptSucceeded("a", 1, "1"),
        TimerDue("total a"),
    ]


def test_what_comes_while_a_task_runs_belongs_to_the_next_one(told: Told) -> None:
    told.begin()
    told.signal(cancel("first"))
    told.begin_task()
    told.signal(cancel("second"))
    told.complete_task()
    told.begin_task()
    told.complete_task()
    assert [batch.inputs[1:] for batch in told.batches] == [[cancel("first")], [cancel("second")]]


@pytest.mark.parametrize("kind", ["WORKFLOW_TASK_FAILED", "WORKFLOW_TASK_TIMED_OUT"])
def test_the_inputs_of_a_task_that_failed_are_taken_by_the_next_with_later_ones(told: Told, kind: str) -> None:
    told.begin()
    activity, timer = told.schedule("a:1"), told.start_timer("run")
    told.fire(timer)
    told.begin_task()
    told.complete(activity)
    told.add(told.event(kind))
    told.signal(cancel("later"))
    started = told.begin_task()
    told.complete_task()
    (batch,) = told.batches
    assert batch.time == (START + started) * SECOND
    assert batch.inputs[1:] == [cancel("later"), AttemptSucceeded("a", 1, "1"), TimerDue("run")]


def test_an_activity_may_be_cancelled_or_lost(told: Told) -> None:
    told.begin()
    one, two = told.schedule("a:1"), told.schedule("b:2")
    told.cancel_activity(one)
    told.time_out(two)
    told.begin_task()
    told.complete_task()
    assert told.batches[0].inputs[1:] == [AttemptStopped("a", 1, timed_out=False), AttemptLost("b", 2, hosted=True)]


def test_a_cancel_of_the_workflow_is_a_cancel_of_the_run(told: Told) -> None:
    told.begin()
    told.add(told.event("WORKFLOW_EXECUTION_CANCEL_REQUESTED"))
    told.begin_task()
    told.complete_task()
    assert told.batches[0].inputs[1:] == [CancelRequested("the workflow was cancelled in Temporal")]


def test_signals_of_others_are_no_inputs(told: Told) -> None:
    told.begin()
    told.signal(cancel("one"), name="other")
    told.begin_task()
    told.complete_task()
    assert told.batches[0].inputs[1:] == []


def test_a_run_whose_workflow_is_terminated_fails_then(told: Told) -> None:
    told.begin_task()
    told.complete_task()
    told.schedule("a:1")
    terminated = told.add(told.event("WORKFLOW_EXECUTION_TERMINATED"))
    reader = HistoryReader()
    reader.add(told.events[0])
    journal = MemoryJournal(time.time_ns)
    run = FollowedRun(reader, "execution", journal, time.time_ns)
    for event in told.events[1:]:
        run.add(event)
    (last,) = WatchRunResponse.FromString(_last(run)).events
    assert last.run_finished.result.state == STATE_FAILED
    assert last.time == Timestamp(seconds=START + terminated)
    assert run.closed


def _last(run: FollowedRun) -> bytes:
    return run._records[-1].data
