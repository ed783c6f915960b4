"""A run that meets a defect of the server: it fails visibly, and nothing else is affected."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from itertools import count
from typing import TypeAlias

import pytest
from grpc.aio import AioRpcError
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from integration.server.build import (
    check_sequences,
    end_of,
    fallback_to,
    finished,
    flow,
    kinds_of,
    retry,
    state_of,
    states,
    step,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.faults import ALWAYS, CHAIN, WIDE, Countdown, Faults, ends, failed_internally, failure_reasons
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import RawClient, refusal
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.workflow_pb2 import FAILURE_POLICY_CONTINUE, JOIN_ANY
from stepwave_server.app import Server
from stepwave_server.core.messages import (
    AttemptSucceeded,
    RunFinished,
)
from stepwave_server.core.model import State
from stepwave_server.telemetry import Telemetry

pytestmark = pytest.mark.one_server("the defects are put into its engine and its journal")

Where: TypeAlias = Callable[[Faults, Countdown, int], None]


# Where the defect is.


def _on_answer(faults: Faults) -> None:
    faults.in_deciding(lambda given: isinstance(given, AttemptSucceeded) and given.step_id == "bad")


def _on_end_of_step(faults: Faults) -> None:
    faults.in_encoding(ends("bad"))


def _on_start_of_step(faults: Faults) -> None:
    faults.in_starting("bad")


def _on_end_of_attempt(faults: Faults) -> None:
    faults.in_ending("bad")


def _on_end_of_run(faults: Faults) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunFinished) and event.state is State.SUCCEEDED)


PLACES = [_on_answer, _on_end_of_step, _on_start_of_step, _on_end_of_attempt, _on_end_of_run]


@pytest.mark.parametrize("place", PLACES)
async def test_a_run_that_meets_a_defect_fails_and_its_watchers_see_the_end(
    server: Server, client: RawClient, controlled: ControlledActions, faults: Faults, place: Callable[[Faults], None]
) -> None:
    place(faults)
    controlled.release("bad")
    events = await client.run(CHAIN, run_id="live")
    assert faults.count == 1
    check_sequences(events)
    assert states(events)["first"] == "succeeded"
    assert set(states(events)) == {"first", "bad", "next"}
    assert failed_internally(end_of(events))
    assert await client.events("live") == events
    assert server.engine.attempts_in_flight == 0


async def test_a_defect_while_the_first_events_are_carried_out_fails_the_run(
    client: RawClient, controlled: ControlledActions, faults: Faults
) -> None:
    faults.in_starting("bad")
    events = await client.run(WIDE, run_id="live")
    assert states(events) == {"bad": "cancelled", "b": "cancelled", "c": "cancelled", "next": "skipped"}
    assert failed_internally(end_of(events))
    assert controlled.invoked == []


async def test_a_broken_run_is_listed_as_failed_with_all_its_step_results(
    client: RawClient, controlled: ControlledActions, faults: Faults
) -> None:
    _on_end_of_step(faults)
    controlled.release("bad")
    events = await client.run(CHAIN, run_id="live")
    (listed,) = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
    assert (state_of(listed.state), listed.last_sequence, listed.stopping) == ("failed", events[-1].sequence, False)
    assert listed == await client.get("live")
    assert failed_internally(await client.result("live"))
    response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
    assert {result.step_id: result for result in response.step_results} == finished(events)


async def test_running_attempts_are_interrupted_and_their_places_go_to_other_runs(
    serve: Serve, connect: Connect, controlled: ControlledActions, faults: Faults
) -> None:
    server = await serve(max_attempts=3)
    client = connect(server)
    faults.in_encoding(ends("bad"))
    await client.start(WIDE, run_id="live")
    await controlled.wait_started("bad", "b", "c")
    await client.start(flow(*(step(f"other{i}", "controlled") for i in range(3))), run_id="other")
    controlled.release("bad")
    assert states(await client.events("live")) == dict.fromkeys("bc", "cancelled") | {
        "bad": "cancelled",
        "next": "skipped",
    }
    await controlled.wait_started("other0", "other1", "other2")
    assert sorted(controlled.cancelled) == ["b", "c"]
    controlled.release_all()
    assert state_of(end_of(await client.events("other")).state) == "succeeded"
    assert server.engine.attempts_in_flight == 0


async def test_reports_of_an_interrupted_attempt_are_not_shown(
    serve: Serve, connect: Connect, controlled: ControlledActions, faults: Faults
) -> None:
    spoke = asyncio.Event()

    @action
    async def speaks(context: Context) -> AsyncIterator[str]:
        try:
            yield "before"
            await asyncio.Event().wait()
        finally:
            context.progress(1.0)
            spoke.set()

    client = connect(await serve(speaks))
    faults.in_encoding(ends("bad"))
    async with client.execute(flow(step("bad", "controlled"), step("s", "speaks")), run_id="live", window=60) as watch:
        await watch.until("step_chunk", "s")
        controlled.release("bad")
        events = await watch.rest()
    await spoke.wait()
    assert kinds_of(events).count("step_progress") == 0
    assert states(events) == {"bad": "cancelled", "s": "cancelled"}


async def test_a_run_that_breaks_while_it_is_cancelled_ends_cancelled(
    client: RawClient, controlled: ControlledActions, faults: Faults
) -> None:
    faults.in_encoding(ends("bad"))
    await client.start(WIDE, run_id="live")
    await controlled.wait_started("bad", "b", "c")
    await client.cancel("live")
    events = await client.events("live")
    assert faults.count == 1
    assert states(events) == {"bad": "cancelled", "b": "cancelled", "c": "cancelled", "next": "skipped"}
    assert state_of(end_of(events).state) == "cancelled"


RICH = flow(
    step("a"),
    step("tried", "fails_first", after=["a"], retry=retry(3), given={"times": 1}),
    step("replaced", "fails", after=["a"], fallback=fallback_to("noop")),
    step("any", after=["tried", "replaced"], join=JOIN_ANY),
    step("allowed", "fails", allow_failure=True),
    step("last", after=["any", "allowed"]),
    failure_policy=FAILURE_POLICY_CONTINUE,
)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("where", [Faults.in_encoding, Faults.in_deciding])
async def test_wherever_a_defect_occurs_all_steps_of_the_run_end_or_it_never_began(
    server: Server, client: RawClient, controlled: ControlledActions, faults: Faults, where: Where, times: int
) -> None:
    """One run for every place where a defect can occur. A second defect occurs while the run is being ended."""
    controlled.release_all()
    countdown = Countdown()
    where(faults, countdown, ALWAYS)
    ended = 0
    for place in count():
        countdown.start(place, times)
        try:
            events = await client.run(RICH, run_id=f"run{place}")
        except AioRpcError:
            assert (await refusal(client.get(f"run{place}"))).reason == "RUN_NOT_FOUND"
            continue
        check_sequences(events)
        assert set(states(events)) == {step.id for step in RICH.steps}
        if countdown.left == times:
            break
        assert state_of(end_of(events).state) == "failed"
        assert "internal" in failure_reasons(end_of(events))
        ended += 1
    assert ended > 10
    await eventually(lambda: server.engine.attempts_in_flight == 0)


async def test_a_broken_run_can_be_joined_rerun_and_deleted_like_any_other(
    client: RawClient, controlled: ControlledActions, faults: Faults
) -> None:
    faults.in_encoding(ends("bad"))
    controlled.release("bad")
    await client.run(CHAIN, run_id="live")
    assert state_of((await client.start(CHAIN, run_id="live")).state) == "failed"
    rerun = pb.StartRunRequest(rerun=pb.Rerun(run_id="live", from_failed=True), run_id="again")
    await client.stub.StartRun(rerun)
    again = await client.events("again")
    assert {step_id: bool(result.reused_from) for step_id, result in finished(again).items()} == {
        "first": True,
        "bad": False,
        "next": False,
    }
    assert state_of(end_of(again).state) == "succeeded"
    await client.delete("live")
    assert (await refusal(client.get("live"))).reason == "RUN_NOT_FOUND"


# Spans and the log.


@pytest.mark.parametrize("times", [1, ALWAYS])
async def test_a_broken_run_has_one_span_with_an_error(
    serve: Serve, connect: Connect, controlled: ControlledActions, faults: Faults, times: int
) -> None:
    exporter = InMemorySpanExporter()
    client = connect(await serve(telemetry=Telemetry(SimpleSpanProcessor(exporter))))
    faults.in_encoding(ends("bad"), times)
    controlled.release("bad")
    await client.run(CHAIN, run_id="live")
    spans = [span for span in exporter.get_finished_spans() if span.name == "stepwave.run"]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR]
    steps = [span for span in exporter.get_finished_spans() if span.name == "stepwave.step"]
    assert {(span.attributes or {})["stepwave.step_id"] for span in steps} == {"bad", "first"}
    assert len(steps) == 2


async def test_the_log_has_the_defect_once_with_its_traceback_and_a_command_to_see_the_run(
    client: RawClient, controlled: ControlledActions, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.in_encoding(ends("bad"))
    controlled.release("bad")
    await client.run(CHAIN, run_id="live")
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.getMessage() == (
        'a defect of the server broke run live; it ends as failed: see "stepwave result live"'
    )
    assert record.__dict__["run_id"] == "live"
    assert "an injected defect" in caplog.text
