"""Runs that met a defect, after restarts: no server runs their steps again, however the first server ended."""

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from integration.durable.restarts import Restarts, RunningServer
from integration.durable.server_process import ServerProcess, StepControl
from integration.server.build import check_sequences, end_of, finished, flow, state_of, states, step
from integration.server.faults import ALWAYS, CHAIN, Defect, Faults, ends, failed_internally
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import EVENT_KIND_RUN_FINISHED
from stepwave_server.core.decide import Decision
from stepwave_server.core.inputs import Evaluator
from stepwave_server.core.messages import RunFinished
from stepwave_server.core.resume import resume
from stepwave_server.core.state import RunState
from stepwave_server.engine.runs import run
from stepwave_server.engine.runs.defects import Defects
from stepwave_server.telemetry import Telemetry

CONTROLLED = flow(
    step("first", "waits"), step("bad", "controlled", after=["first"]), step("next", "waits", after=["bad"])
)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


async def _leave_running(restarts: Restarts, *run_ids: str) -> None:
    """Leave runs whose second step is running to the next server."""
    async with restarts.start() as first:
        for run_id in run_ids:
            async with first.client.execute(CHAIN, run_id=run_id, window=60) as watch:
                await watch.until("step_started", "bad")


async def _leave_broken(restarts: Restarts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a run that met a defect and was not ended to the next server."""

    async def wait(_defects: Defects, _run: run.LocalRun) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patches:
        faults = Faults(patches)
        faults.in_encoding(ends("bad"))
        patches.setattr(Defects, "_end", wait)
        async with restarts.start() as first:
            await first.client.start(CHAIN, run_id="live")
            await first.controlled.wait_started("bad")
            first.controlled.release("bad")
            async with asyncio.timeout(GUARD):
                await faults.raised.wait()


async def test_a_broken_run_is_listed_after_a_restart_and_calls_no_more_actions(
    restarts: Restarts, faults: Faults
) -> None:
    faults.in_encoding(ends("bad"))
    async with restarts.start() as first:
        first.controlled.release("bad")
        before = await first.client.run(CHAIN, run_id="live")
    async with restarts.start() as second:
        assert await second.client.events("live") == before
        (listed,) = (await second.client.stub.ListRuns(pb.ListRunsRequest())).runs
        assert state_of(listed.state) == "failed"
        assert failed_internally(await second.client.result("live"))
        response = await second.client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
        assert {result.step_id: result for result in response.step_results} == finished(before)
        assert second.controlled.invoked == []


@pytest.mark.parametrize("how", ["resume", "pause", "fail"])
async def test_a_broken_run_that_was_not_ended_is_ended_by_the_next_server_in_every_recovery_mode(
    restarts: Restarts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    await _leave_broken(restarts, monkeypatch)
    caplog.clear()
    async with restarts.start(recover=how) as second:
        events = await second.client.events("live")
        assert second.controlled.invoked == []
    assert states(events) == {"first": "succeeded", "bad": "cancelled", "next": "skipped"}
    check_sequences(events)
    assert failed_internally(end_of(events))
    logged = 'run live met a defect of an earlier server; it ends as failed: see "stepwave result live"'
    assert [record.getMessage() for record in caplog.records].count(logged) == 1
    caplog.clear()
    async with restarts.start() as third:
        assert await third.client.events("live") == events
    assert "live" not in caplog.text


async def test_a_run_whose_server_was_killed_after_it_recorded_a_defect_is_ended_and_calls_no_actions(
    process: ServerProcess, control: StepControl
) -> None:
    await process.start("--defect", "bad", "--die-after-defect")
    client = RawClient(process.address)
    try:
        await client.start(CONTROLLED, run_id="live")
        await control.wait_started("live", "bad")
        control.release("live", "bad")
        await process.wait_exit()
        await process.start()
        events = await client.events("live")
    finally:
        await client.close()
    assert states(events) == {"first": "succeeded", "bad": "cancelled", "next": "skipped"}
    assert failed_internally(end_of(events))
    assert [process.side_effects.attempts("live", step_id) for step_id in ("first", "bad", "next")] == [[1], [1], []]


async def test_a_run_that_cannot_be_ended_is_tried_again_by_each_server_and_calls_no_actions(
    restarts: Restarts, faults: Faults
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunFinished), ALWAYS)
    async with restarts.start() as first:
        first.controlled.release("bad")
        assert (await refusal(first.client.run(CHAIN, run_id="live"))).reason == "RUN_BROKEN"
        assert (await refusal(first.client.get("live"))).reason == "RUN_BROKEN"
        assert (await refusal(first.client.start(CHAIN, run_id="live"))).reason == "RUN_BROKEN"
    async with restarts.start() as second:
        assert (await refusal(second.client.events("live"))).reason == "RUN_BROKEN"
        assert second.controlled.invoked == []
    faults.stop()
    async with restarts.start() as third:
        events = await third.client.events("live")
        assert third.controlled.invoked == []
    check_sequences(events)
    assert failed_internally(end_of(events))


# Defects that recovery itself meets.


async def test_a_run_that_cannot_be_resumed_breaks_and_stops_neither_the_server_nor_other_runs(
    restarts: Restarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _leave_running(restarts, "bad", "good")

    def resume_or_not(state: RunState, evaluator: Evaluator) -> Decision:
        if state.options.seed == "default/bad":
            raise Defect("an injected defect")
        return resume(state, evaluator)

    monkeypatch.setattr(run, "resume", resume_or_not)
    async with restarts.start() as second:
        second.controlled.release("bad")
        assert failed_internally(end_of(await second.client.events("bad")))
        assert state_of(end_of(await second.client.events("good")).state) == "succeeded"
    async with restarts.start() as third:
        assert third.controlled.invoked == []


def _change(path: Path, statement: str, *arguments: object) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(statement, arguments).rowcount > 0


def _other_workflow(path: Path) -> None:
    other = flow(step("else"), name="other").SerializeToString()
    _change(path, "UPDATE definitions SET workflow = ?", other)


def _no_workflow(path: Path) -> None:
    _change(path, "UPDATE definitions SET workflow = ?", b"\xff\xff\xff")


def _no_event(path: Path) -> None:
    """Overwrite the text of the newest events with invalid text of the same length."""
    with closing(sqlite3.connect(path)) as file:
        ((place, data),) = file.execute("SELECT max(place), data FROM chunks").fetchall()
    assert b"bad" in data
    _change(path, "UPDATE chunks SET data = ? WHERE place = ?", data.replace(b"bad", b"\xff\xff\xff"), place)


@pytest.mark.parametrize("spoil", [_other_workflow, _no_workflow, _no_event])
async def test_a_run_with_inconsistent_events_fails_once_and_does_not_stop_the_server(
    restarts: Restarts, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    await _leave_running(restarts, "live")
    spoil(restarts.path)
    async with restarts.start() as second:
        result = await _ended(second, "live")
        assert failed_internally(result)
        assert second.controlled.invoked == []
        (listed,) = (await second.client.stub.ListRuns(pb.ListRunsRequest())).runs
        assert (listed.run_id, state_of(listed.state)) == ("live", "failed")
        await second.client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
        assert state_of(end_of(await second.client.run(flow(step("a")), run_id="new")).state) == "succeeded"
    assert 'it ends as failed: see "stepwave result live"' in caplog.text
    caplog.clear()
    async with restarts.start() as third:
        assert await third.client.result("live") == result
    assert "live" not in caplog.text


async def _ended(running: RunningServer, run_id: str) -> run_pb2.Result:
    watch = running.client.watch(run_id, kinds=[EVENT_KIND_RUN_FINISHED])
    return (await watch.until("run_finished")).run_finished.result


async def test_a_run_of_a_later_version_is_left_unchanged(restarts: Restarts) -> None:
    await _leave_running(restarts, "live")
    with closing(sqlite3.connect(restarts.path)) as file, file:
        ((options,),) = file.execute("SELECT options FROM definitions").fetchall()
        later = json.dumps({**json.loads(options), "version": 99})
        file.execute("UPDATE definitions SET options = ?", (later,))
    async with restarts.start() as second:
        refused = await refusal(second.client.get("live"))
        assert refused.reason == "RUN_BROKEN"
        assert "version 99 of the scheduler began it" in refused.message
        assert state_of(end_of(await second.client.run(flow(step("a")), run_id="new")).state) == "succeeded"
    _change(restarts.path, "UPDATE definitions SET options = ?", options)
    async with restarts.start() as third:
        third.controlled.release("bad")
        assert state_of(end_of(await third.client.events("live")).state) == "succeeded"


async def test_a_run_that_broke_in_one_server_and_ended_in_the_next_has_one_span(
    restarts: Restarts, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _leave_broken(restarts, monkeypatch)
    exporter = InMemorySpanExporter()
    async with restarts.start(telemetry=Telemetry(SimpleSpanProcessor(exporter))) as second:
        await second.client.events("live")
    spans = [span for span in exporter.get_finished_spans() if span.name == "stepwave.run"]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR]
