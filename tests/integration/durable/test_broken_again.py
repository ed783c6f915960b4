"""A run that met a defect, over restarts: no server runs it again, whatever became of the one that noted it."""

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

from integration.durable.lives import Life, Lives
from integration.durable.process import Meeting, Victim
from integration.server.build import end_of, finished, flow, reason_of, sequences, state_of, states, step
from integration.server.caller import GUARD, Caller, refusal
from integration.server.faults import ALWAYS, Defect, Faults, ends
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import EVENT_KIND_RUN_FINISHED
from stepwave_server.core.decide import Decision, resume
from stepwave_server.core.inputs import Evaluator
from stepwave_server.core.messages import RunFinished
from stepwave_server.core.state import RunState
from stepwave_server.engine.runs import run
from stepwave_server.engine.runs.defects import Defects
from stepwave_server.telemetry import Telemetry

CHAIN = flow(step("first"), step("bad", "gated", after=["first"]), step("next", after=["bad"]))
MEETS = flow(step("first", "waits"), step("bad", "meets", after=["first"]), step("next", "waits", after=["bad"]))


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def _has_failed(result: run_pb2.Result) -> bool:
    return state_of(result.state) == "failed" and [reason_of(failure) for failure in result.failures] == ["internal"]


async def _leave(lives: Lives, *run_ids: str) -> None:
    """Leave runs to the next server whose second step is running."""
    async with lives.next() as first:
        for run_id in run_ids:
            async with first.caller.execute(CHAIN, run_id=run_id, window=60) as watch:
                await watch.until("step_started", "bad")


async def _leave_broken(lives: Lives, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a run to the next server that met a defect, and was not brought to its end."""

    async def wait(_defects: Defects, _run: run.LocalRun) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as patches:
        faults = Faults(patches)
        faults.in_encoding(ends("bad"))
        patches.setattr(Defects, "_end", wait)
        async with lives.next() as first:
            await first.caller.start(CHAIN, run_id="live")
            await first.stage.here("bad")
            first.stage.let("bad")
            async with asyncio.timeout(GUARD):
                await faults.strike.wait()


async def test_a_run_that_broke_is_listed_after_a_restart_and_its_actions_are_called_no_more(
    lives: Lives, faults: Faults
) -> None:
    faults.in_encoding(ends("bad"))
    async with lives.next() as first:
        first.stage.let("bad")
        before = await first.caller.run(CHAIN, run_id="live")
    async with lives.next() as second:
        assert await second.caller.events("live") == before
        (listed,) = (await second.caller.stub.ListRuns(pb.ListRunsRequest())).runs
        assert state_of(listed.state) == "failed"
        assert _has_failed(await second.caller.result("live"))
        response = await second.caller.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
        assert {result.step_id: result for result in response.step_results} == finished(before)
        assert second.stage.invoked == []


@pytest.mark.parametrize("how", ["resume", "pause", "fail"])
async def test_a_run_that_broke_and_was_not_ended_is_ended_by_the_next_server_however_it_recovers(
    lives: Lives, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    await _leave_broken(lives, monkeypatch)
    caplog.clear()
    async with lives.next(recover=how) as second:
        events = await second.caller.events("live")
        assert second.stage.invoked == []
    assert states(events) == {"first": "succeeded", "bad": "cancelled", "next": "skipped"}
    assert sequences(events) == list(range(1, len(events) + 1))
    assert _has_failed(end_of(events))
    told = 'run live met a defect of an earlier server; it ends as failed: see "stepwave result live"'
    assert [record.getMessage() for record in caplog.records].count(told) == 1
    caplog.clear()
    async with lives.next() as third:
        assert await third.caller.events("live") == events
    assert "live" not in caplog.text


async def test_a_run_whose_server_was_killed_when_it_had_noted_a_defect_is_ended_and_calls_nothing(
    victim: Victim, meeting: Meeting
) -> None:
    await victim.start("--defect", "bad", "--die-broken")
    caller = Caller(victim.address)
    try:
        await caller.start(MEETS, run_id="live")
        await meeting.here("live", "bad")
        meeting.let("live", "bad")
        await victim.death()
        await victim.start()
        events = await caller.events("live")
    finally:
        await caller.close()
    assert states(events) == {"first": "succeeded", "bad": "cancelled", "next": "skipped"}
    assert _has_failed(end_of(events))
    assert [victim.marks.attempts("live", step_id) for step_id in ("first", "bad", "next")] == [[1], [1], []]


async def test_a_run_that_no_server_can_end_is_tried_again_by_each_and_runs_nothing(
    lives: Lives, faults: Faults
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunFinished), ALWAYS)
    async with lives.next() as first:
        first.stage.let("bad")
        assert (await refusal(first.caller.run(CHAIN, run_id="live"))).reason == "RUN_BROKEN"
        assert (await refusal(first.caller.get("live"))).reason == "RUN_BROKEN"
        assert (await refusal(first.caller.start(CHAIN, run_id="live"))).reason == "RUN_BROKEN"
    async with lives.next() as second:
        assert (await refusal(second.caller.events("live"))).reason == "RUN_BROKEN"
        assert second.stage.invoked == []
    faults.heal()
    async with lives.next() as third:
        events = await third.caller.events("live")
        assert third.stage.invoked == []
    assert sequences(events) == list(range(1, len(events) + 1))
    assert _has_failed(end_of(events))


# Defects that recovery itself meets.


async def test_a_run_that_cannot_be_taken_up_breaks_and_keeps_neither_the_server_nor_other_runs(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _leave(lives, "bad", "good")

    def resume_or_not(state: RunState, evaluator: Evaluator) -> Decision:
        if state.options.seed == "default/bad":
            raise Defect("nobody foresaw it")
        return resume(state, evaluator)

    monkeypatch.setattr(run, "resume", resume_or_not)
    async with lives.next() as second:
        second.stage.let("bad")
        assert _has_failed(end_of(await second.caller.events("bad")))
        assert state_of(end_of(await second.caller.events("good")).state) == "succeeded"
    async with lives.next() as third:
        assert third.stage.invoked == []


def _change(path: Path, statement: str, *arguments: object) -> None:
    with closing(sqlite3.connect(path)) as file, file:
        assert file.execute(statement, arguments).rowcount > 0


def _other_workflow(path: Path) -> None:
    other = flow(step("else"), name="other").SerializeToString()
    _change(path, "UPDATE definitions SET workflow = ?", other)


def _no_workflow(path: Path) -> None:
    _change(path, "UPDATE definitions SET workflow = ?", b"\xff\xff\xff")


def _no_event(path: Path) -> None:
    """Overwrite the text of the newest events, which keep their lengths, with what is none."""
    with closing(sqlite3.connect(path)) as file:
        ((place, data),) = file.execute("SELECT max(place), data FROM chunks").fetchall()
    assert b"bad" in data
    _change(path, "UPDATE chunks SET data = ? WHERE place = ?", data.replace(b"bad", b"\xff\xff\xff"), place)


@pytest.mark.parametrize("spoil", [_other_workflow, _no_workflow, _no_event])
async def test_a_run_whose_events_do_not_fit_it_is_failed_once_and_keeps_the_server_from_nothing(
    lives: Lives, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    await _leave(lives, "live")
    spoil(lives.path)
    async with lives.next() as second:
        result = await _ended(second, "live")
        assert _has_failed(result)
        assert second.stage.invoked == []
        (listed,) = (await second.caller.stub.ListRuns(pb.ListRunsRequest())).runs
        assert (listed.run_id, state_of(listed.state)) == ("live", "failed")
        await second.caller.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
        assert state_of(end_of(await second.caller.run(flow(step("a")), run_id="new")).state) == "succeeded"
    assert 'it ends as failed: see "stepwave result live"' in caplog.text
    caplog.clear()
    async with lives.next() as third:
        assert await third.caller.result("live") == result
    assert "live" not in caplog.text


async def _ended(life: Life, run_id: str) -> run_pb2.Result:
    watch = life.caller.watch(run_id, kinds=[EVENT_KIND_RUN_FINISHED])
    return (await watch.until("run_finished")).run_finished.result


async def test_a_run_of_a_later_version_stays_as_it_is(lives: Lives) -> None:
    await _leave(lives, "live")
    with closing(sqlite3.connect(lives.path)) as file, file:
        ((options,),) = file.execute("SELECT options FROM definitions").fetchall()
        later = json.dumps({**json.loads(options), "version": 99})
        file.execute("UPDATE definitions SET options = ?", (later,))
    async with lives.next() as second:
        refused = await refusal(second.caller.get("live"))
        assert refused.reason == "RUN_BROKEN"
        assert "version 99 of the scheduler began it" in refused.message
        assert state_of(end_of(await second.caller.run(flow(step("a")), run_id="new")).state) == "succeeded"
    _change(lives.path, "UPDATE definitions SET options = ?", options)
    async with lives.next() as third:
        third.stage.let("bad")
        assert state_of(end_of(await third.caller.events("live")).state) == "succeeded"


async def test_a_run_that_broke_in_one_server_and_ended_in_the_next_has_one_span(
    lives: Lives, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _leave_broken(lives, monkeypatch)
    exporter = InMemorySpanExporter()
    async with lives.next(telemetry=Telemetry(SimpleSpanProcessor(exporter))) as second:
        await second.caller.events("live")
    spans = [span for span in exporter.get_finished_spans() if span.name == "stepwave.run"]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR]
