"""Workflow tasks that take in several inputs: workflows and servers decide on them in the same order."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle

from conformance.clusters import settings_for
from conformance.decisions import Decisions, check_history, history_of
from integration.server.build import fallback_to, flow, kinds_of, retry, step
from integration.server.controlled_actions import ControlledActions
from integration.server.raw_client import RawClient
from stepwave.v1 import run_pb2, workflow_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave.v1.orchestrator_pb2 import WatchRunResponse
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.core.messages import AddSteps, CancelRequested, StepCompleted
from stepwave_server.core.messages import Input as CoreInput
from stepwave_server.core.model import Step
from stepwave_server.engine.temporal.codec import SIGNAL, to_signal
from stepwave_server.engine.temporal.driver_messages import Request
from stepwave_server.engine.temporal.engine import TemporalEngine
from temporal_server import TemporalServer
from waiting import until

COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED
FAILED = EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED
FIRED = EventType.EVENT_TYPE_TIMER_FIRED

DUE = 4.0
"""Seconds until a timer fires. The workflows must have stopped before, also on a loaded machine."""


@pytest.fixture
def decisions(monkeypatch: pytest.MonkeyPatch) -> Decisions:
    return Decisions(monkeypatch)


@pytest.fixture
def settings(temporal_server: TemporalServer) -> Settings:
    return settings_for(temporal_server).model_copy(update={"drain_timeout": 0.0})


class Stage:
    """A server whose workflows stand still until they are told to go on, and a client of it."""

    def __init__(self, settings: Settings, server: Server, client: RawClient, temporal: Client) -> None:
        self.client = client
        self._settings = settings
        self._server = server
        self._temporal = temporal

    async def stop_workflows(self) -> None:
        """Let actions run on, and workflows stand still."""
        engine = self._server.engine
        assert isinstance(engine, TemporalEngine)
        assert engine._worker is not None
        await engine._worker.shutdown()

    def handle(self, run_id: str) -> WorkflowHandle[object, object]:
        return self._temporal.get_workflow_handle(run_id)

    async def request(self, run_id: str, given: CoreInput) -> None:
        """Send a request of a caller, without waiting for its answer."""
        await self.handle(run_id).signal(SIGNAL, to_signal(Request(f"token of {given}", given)))

    async def has(self, run_id: str, kind: "EventType.ValueType", count: int = 1) -> bool:
        """Return whether the history of a run has at least so many events of a kind."""
        history = await history_of(self._temporal, run_id)
        return sum(event.event_type == kind for event in history.events) >= count

    async def finish(self, decisions: Decisions, run_id: str) -> list[RunEvent]:
        """Let the workflows go on, on another server. Check the events of a run, and return them."""
        async with Server(self._settings) as other:
            client = RawClient(other.address)
            seen = [event for event in await client.events(run_id) if event.sequence]
            await client.close()
            records = await check_history(decisions, await history_of(self._temporal, run_id))
        assert [event for record in records for event in WatchRunResponse.FromString(record).events] == seen
        return seen


@asynccontextmanager
async def open_stage(settings: Settings, *actions: Callable[..., object]) -> AsyncIterator[Stage]:
    """Start a server on Temporal, and connect to both."""
    temporal = await Client.connect(settings.temporal_address)
    async with Server(settings, actions=actions) as server:
        client = RawClient(server.address)
        try:
            yield Stage(settings, server, client, temporal)
        finally:
            await client.close()


@pytest.fixture
async def controlled() -> ControlledActions:
    return ControlledActions()


@pytest.fixture
async def stage(settings: Settings, controlled: ControlledActions) -> AsyncIterator[Stage]:
    async with open_stage(settings, *controlled.actions()) as stage:
        yield stage
        controlled.release_all()


async def test_requests_come_first_then_outcomes_then_timers(
    stage: Stage, controlled: ControlledActions, decisions: Decisions
) -> None:
    workflow = flow(
        step("late", "core.wait", total_timeout=DUE),
        step("a", "controlled"),
        step("b", "fails"),
        step("w", "core.wait"),
        step("after", after=["a", "b", "w", "late"], join=workflow_pb2.JOIN_ALL_DONE),
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
    )
    await stage.client.start(workflow, run_id="order")
    await controlled.wait_started("a", "b")
    await stage.stop_workflows()
    await until(partial(stage.has, "order", FIRED))
    controlled.release("b", "a")
    await until(partial(stage.has, "order", COMPLETED))
    await until(partial(stage.has, "order", FAILED))
    await stage.request("order", StepCompleted("w", '"yes"'))
    events = await stage.finish(decisions, "order")
    ends = [event.step_finished.result.step_id for event in events if event.HasField("step_finished")]
    assert (ends[0], sorted(ends[1:3]), ends[3:]) == ("w", ["a", "b"], ["late", "after"])


async def test_a_request_may_come_with_the_start(stage: Stage, decisions: Decisions) -> None:
    await stage.stop_workflows()
    workflow = flow(step("w", "core.wait"), step("n"), step("last", after=["w", "n"]))
    await stage.client.start(workflow, run_id="early")
    await stage.request("early", CancelRequested("at once"))
    events = await stage.finish(decisions, "early")
    assert events[-1].run_finished.result.state == run_pb2.STATE_CANCELLED
    assert "step_started" in kinds_of(events)


async def test_a_run_may_be_cancelled_in_temporal_before_it_begins(stage: Stage, decisions: Decisions) -> None:
    await stage.stop_workflows()
    await stage.client.start(flow(step("w", "core.wait"), step("n")), run_id="unbegun")
    await stage.handle("unbegun").cancel()
    events = await stage.finish(decisions, "unbegun")
    assert events[-1].run_finished.result.state == run_pb2.STATE_CANCELLED


async def test_a_cancel_in_temporal_comes_after_the_outcomes(
    stage: Stage, controlled: ControlledActions, decisions: Decisions
) -> None:
    workflow = flow(step("a", "controlled"), step("b", "controlled"), step("w", "core.wait"))
    await stage.client.start(workflow, run_id="stopped")
    await controlled.wait_started("a", "b")
    await stage.stop_workflows()
    await stage.handle("stopped").cancel()
    controlled.release("a", "b")
    await until(partial(stage.has, "stopped", COMPLETED, 2))
    await stage.request("stopped", StepCompleted("w", "1"))
    events = await stage.finish(decisions, "stopped")
    assert events[-1].run_finished.result.state == run_pb2.STATE_SUCCEEDED


@pytest.mark.parametrize("first", ["cancel", "timer"])
async def test_a_cancel_in_temporal_and_timers_come_in_their_order(
    stage: Stage, decisions: Decisions, first: str
) -> None:
    run_id = f"{first}-first"
    workflow = flow(
        step("late", "core.wait", total_timeout=DUE, allow_failure=True),
        step("other", "core.wait", after=["late"], join=workflow_pb2.JOIN_ALL_DONE),
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
    )
    async with stage.client.execute(workflow, run_id=run_id, window=600) as run:
        await run.until("step_started", "late")
    await stage.stop_workflows()
    if first == "cancel":
        await stage.handle(run_id).cancel()
    await until(partial(stage.has, run_id, FIRED))
    if first == "timer":
        await stage.handle(run_id).cancel()
    events = await stage.finish(decisions, run_id)
    (late,) = [end for event in events if (end := event.step_finished.result).step_id == "late"]
    assert late.state == (run_pb2.STATE_CANCELLED if first == "cancel" else run_pb2.STATE_FAILED)


async def test_inputs_that_come_with_the_start_are_decided_with_it(stage: Stage, decisions: Decisions) -> None:
    """Bounds of one workflow task: requests that come with the start count."""
    await stage.stop_workflows()
    large = "x" * 700_000
    await stage.client.open(step("one", given=large), run_id="large")
    await stage.request("large", AddSteps((Step("two", "noop", (), json.dumps(large)),), seal=True))
    events = await stage.finish(decisions, "large")
    assert events[-1].run_finished.result.state == run_pb2.STATE_SUCCEEDED


async def test_a_backoff_that_is_due_with_a_cancel_starts_nothing(
    stage: Stage, controlled: ControlledActions, decisions: Decisions
) -> None:
    await stage.client.start(
        flow(step("a", "fails_first", retry=retry(3, DUE), fallback=fallback_to("noop")), step("b", "controlled")),
        run_id="backoff",
    )
    controlled.release("a")
    await controlled.wait_started("a", "b")
    await until(partial(stage.has, "backoff", FAILED))
    await until(partial(stage.has, "backoff", EventType.EVENT_TYPE_TIMER_STARTED))
    await stage.stop_workflows()
    await until(partial(stage.has, "backoff", FIRED))
    await stage.request("backoff", CancelRequested("enough"))
    controlled.release("b")
    await until(partial(stage.has, "backoff", COMPLETED))
    events = await stage.finish(decisions, "backoff")
    assert [event.step_started.step_id for event in events if event.HasField("step_started")].count("a") == 1
