"""A run that meets a defect of the server: it ends as failed, for all to see, and nothing else suffers."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from itertools import count
from typing import TypeAlias

import grpc
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
    reason_of,
    retry,
    sequences,
    state_of,
    states,
    step,
)
from integration.server.controlled_actions import ControlledActions
from integration.server.faults import ALWAYS, Countdown, Faults, ends
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import RawClient, refusal
from integration.server.slow_journal import SlowJournal
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.workflow_pb2 import FAILURE_POLICY_CONTINUE, JOIN_ANY
from stepwave_server.app import Server
from stepwave_server.core.messages import (
    AttemptInterrupted,
    AttemptSucceeded,
    RunFinished,
    RunStarted,
    StopRequested,
)
from stepwave_server.core.model import State
from stepwave_server.telemetry import Telemetry

CHAIN = flow(step("first"), step("bad", "controlled", after=["first"]), step("next", after=["bad"]))
WIDE = flow(*(step(step_id, "controlled") for step_id in ("bad", "b", "c")), step("next", after=["b"]))


Where: TypeAlias = Callable[[Faults, Countdown, int], None]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    return Faults(monkeypatch)


def _reasons(result: run_pb2.Result) -> list[str]:
    return [reason_of(failure) for failure in result.failures]


def _has_failed(result: run_pb2.Result) -> bool:
    return state_of(result.state) == "failed" and _reasons(result) == ["internal"]


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
async def test_a_run_that_meets_a_defect_ends_failed_and_its_watchers_see_that(
    server: Server, client: RawClient, controlled: ControlledActions, faults: Faults, place: Callable[[Faults], None]
) -> None:
    place(faults)
    controlled.release("bad")
    events = await client.run(CHAIN, run_id="live")
    assert faults.count == 1
    check_sequences(events)
    assert states(events)["first"] == "succeeded"
    assert set(states(events)) == {"first", "bad", "next"}
    assert _has_failed(end_of(events))
    assert await client.events("live") == events
    assert server.engine.attempts_in_flight == 0


async def test_a_defect_where_the_first_events_are_carried_out_ends_a_run_failed(
    client: RawClient, controlled: ControlledActions, faults: Faults
) -> None:
    faults.in_starting("bad")
    events = await client.run(WIDE, run_id="live")
    assert states(events) == {"bad": "cancelled", "b": "cancelled", "c": "cancelled", "next": "skipped"}
    assert _has_failed(end_of(events))
    assert controlled.invoked == []


async def test_a_run_that_broke_is_listed_as_failed_with_all_that_is_kept_of_it(
    client: RawClient, controlled: ControlledActions, faults: Faults
) -> None:
    _on_end_of_step(faults)
    controlled.release("bad")
    events = await client.run(CHAIN, run_id="live")
    (listed,) = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
    assert (state_of(listed.state), listed.last_sequence, listed.stopping) == ("failed", events[-1].sequence, False)
    assert listed == await client.get("live")
    assert _has_failed(await client.result("live"))
    response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
    assert {result.step_id: result for result in response.step_results} == finished(events)


async def test_what_ran_is_interrupted_and_gives_its_places_to_other_runs(
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


async def test_what_an_attempt_says_while_it_is_interrupted_is_shown_no_more(
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


async def test_a_run_that_was_being_cancelled_when_it_broke_ends_cancelled(
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
async def test_wherever_a_defect_strikes_a_run_ends_with_every_step_in_it_or_never_began(
    server: Server, client: RawClient, controlled: ControlledActions, faults: Faults, where: Where, times: int
) -> None:
    """One run for every place, until there is none left; a second strike meets what would have ended the run."""
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
        assert "internal" in _reasons(end_of(events))
        ended += 1
    assert ended > 10
    await eventually(lambda: server.engine.attempts_in_flight == 0)


# Defects that repeat.


@pytest.mark.parametrize("step_id", ["bad", "c"])
async def test_a_defect_that_repeats_while_the_run_is_being_ended_ends_it_all_the_same(
    client: RawClient, controlled: ControlledActions, faults: Faults, step_id: str
) -> None:
    faults.in_encoding(ends(step_id), ALWAYS)
    watching = asyncio.create_task(client.run(WIDE, run_id="live"))
    await controlled.wait_started("bad", "b", "c")
    controlled.release(step_id)
    events = await watching
    check_sequences(events)
    others = {"bad", "b", "c"} - {step_id}
    assert states(events) == dict.fromkeys(others, "cancelled") | {"next": "skipped"}
    assert _has_failed(end_of(events))
    counts = end_of(events).counts
    assert (counts.cancelled, counts.skipped, counts.running, counts.pending) == (3, 1, 0, 0)
    assert await client.result("live") == end_of(events)


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_the_steps_of_a_run_without_an_event_of_its_own_are_paged_without_it(
    client: RawClient, controlled: ControlledActions, faults: Faults, size: int
) -> None:
    faults.in_encoding(ends("b"), ALWAYS)
    controlled.release("b")
    events = await client.run(WIDE, run_id="live")
    token = ""
    found: list[run_pb2.StepResult] = []
    while True:
        request = pb.ListStepResultsRequest(run_id="live", page_size=size, page_token=token)
        page = await client.stub.ListStepResults(request)
        found += page.step_results
        token = page.next_page_token
        if not token:
            break
    assert [result.step_id for result in found] == ["bad", "c", "next"]
    assert {result.step_id: result for result in found} == finished(events)


@pytest.mark.parametrize("unable", [StopRequested, AttemptInterrupted])
async def test_a_run_that_the_core_cannot_end_gets_an_end_for_every_step(
    client: RawClient, controlled: ControlledActions, faults: Faults, unable: type
) -> None:
    faults.in_encoding(ends("bad"))
    faults.in_deciding(lambda given: isinstance(given, unable), ALWAYS)
    controlled.release("bad")
    events = await client.run(CHAIN, run_id="live")
    check_sequences(events)
    assert states(events) == {"first": "succeeded", "bad": "cancelled", "next": "skipped"}
    assert _has_failed(end_of(events))
    started, ended = (kinds_of(events).count(kind) for kind in ("wave_started", "wave_finished"))
    assert started == ended == 2


async def test_a_run_that_cannot_be_ended_at_all_is_refused_and_others_go_on(
    client: RawClient, controlled: ControlledActions, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunFinished) and event.state is not State.CANCELLED, ALWAYS)
    controlled.release("bad")
    refused = await refusal(client.run(CHAIN, run_id="live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "RUN_BROKEN")
    assert "keeps run live from being ended" in caplog.text
    await client.start(WIDE, run_id="other")
    await client.cancel("other")
    assert state_of(end_of(await client.events("other")).state) == "cancelled"


# Before its first event.


async def test_a_run_that_breaks_before_its_first_event_is_refused_and_leaves_its_id_free(
    client: RawClient, controlled: ControlledActions, faults: Faults, caplog: pytest.LogCaptureFixture
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunStarted))
    refused = await refusal(client.start(CHAIN, run_id="live"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "RUN_BROKEN")
    assert "broke run live before its first event" in caplog.text
    assert (await refusal(client.get("live"))).reason == "RUN_NOT_FOUND"
    controlled.release("bad")
    assert state_of(end_of(await client.run(CHAIN, run_id="live")).state) == "succeeded"


@pytest.mark.parametrize("serve", ["sqlite"], indirect=True)
async def test_a_run_that_breaks_before_its_first_event_leaves_nothing_on_the_disk(
    server: Server, client: RawClient, faults: Faults
) -> None:
    faults.in_encoding(lambda event: isinstance(event, RunStarted))
    await refusal(client.start(CHAIN, run_id="live"))
    await client.run(flow(step("a")), run_id="after")
    place = server.settings.journal.removeprefix("sqlite:")
    with closing(sqlite3.connect(place)) as file:
        assert file.execute("SELECT run_id FROM runs").fetchall() == [("after",)]


# Those who ask meanwhile.


async def test_who_asks_for_a_run_that_has_just_broken_is_told_how_it_stands_then(
    serve: Serve, connect: Connect, controlled: ControlledActions, faults: Faults
) -> None:
    """The answer to what was being committed comes first, then its end: nothing that was never committed is told."""
    journal = SlowJournal()
    server = await serve(journal=journal)
    client = connect(server)
    faults.in_encoding(ends("bad"))
    starting = asyncio.create_task(client.start(WIDE, run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await controlled.wait_started("bad", "b", "c")
    controlled.release("b")
    await journal.wait_pending()
    controlled.release("bad")
    await eventually(lambda: faults.count == 1)
    asking = [
        asyncio.create_task(client.get("live")),
        asyncio.create_task(_listed(client)),
        asyncio.create_task(_explained(client)),
        asyncio.create_task(_stepped(client)),
        asyncio.create_task(client.start(WIDE, run_id="live")),
    ]
    watching = asyncio.create_task(client.events("live"))
    await eventually(lambda: server.engine.watchers == 1)
    journal.commit_promptly()
    answers = await asyncio.gather(*asking)
    events = await watching
    committed = sequences(journal.committed)
    check_sequences(events)
    assert committed == sequences(events)
    assert states(events)["b"] == "succeeded"
    assert _has_failed(end_of(events))
    for run in answers:
        assert run.counts.succeeded == 1
        assert run.last_sequence <= events[-1].sequence


async def _listed(client: RawClient) -> run_pb2.Run:
    (run,) = (await client.stub.ListRuns(pb.ListRunsRequest())).runs
    return run


async def _explained(client: RawClient) -> run_pb2.Run:
    return (await client.stub.ExplainRun(pb.ExplainRunRequest(run_id="live"))).run


async def _stepped(client: RawClient) -> run_pb2.Run:
    """Return a run by its steps alone."""
    response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
    succeeded = sum(state_of(result.state) == "succeeded" for result in response.step_results)
    return run_pb2.Run(counts=run_pb2.StateCounts(succeeded=succeeded))


async def test_a_run_that_broke_is_joined_deleted_and_run_again_like_any_other(
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


async def test_a_server_that_drains_ends_a_run_that_broke_first(serve: Serve, connect: Connect, faults: Faults) -> None:
    """What it has asked the journal for is still to be committed when the drain begins."""
    journal = SlowJournal()
    server = await serve(journal=journal)
    client = connect(server)
    faults.in_encoding(ends("bad"))
    starting = asyncio.create_task(client.start(flow(step("bad"), step("b", "controlled")), run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await eventually(lambda: faults.count == 1)
    draining = asyncio.create_task(server.drain())
    await eventually(lambda: server.engine.draining)
    journal.commit_promptly()
    await draining
    assert _has_failed(end_of(journal.committed))


# Spans and the log.


@pytest.mark.parametrize("times", [1, ALWAYS])
async def test_a_run_that_broke_has_one_span_and_that_is_in_error(
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


async def test_the_log_has_the_defect_once_with_its_traceback_and_says_how_to_see_the_run(
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
