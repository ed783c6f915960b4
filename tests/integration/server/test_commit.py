"""Commit before effect: with a journal that commits late, nothing overtakes a commit."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

import grpc
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.server.build import end_of, finished, flow, kind_of, kinds_of, sequences, state_of, states, step
from integration.server.caller import GUARD, Caller, refusal
from integration.server.serving import Call, Serve, settles
from integration.server.slow_journal import SlowJournal
from integration.server.stage import Stage
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.telemetry import Telemetry

T = TypeVar("T")

CHAIN = flow(step("a", "gated"), step("b", "gated", after=["a"]))


@pytest.fixture
async def journal() -> SlowJournal:
    return SlowJournal()


@pytest.fixture
async def caller(serve: Serve, call: Call, journal: SlowJournal) -> AsyncIterator[Caller]:
    caller = call(await serve(journal=journal))
    yield caller
    journal.let_go()


async def _waits(work: Coroutine[object, object, T], others: Caller) -> "asyncio.Task[T]":
    """Begin a call, and see that it is not answered while others, that began later, are."""
    task = asyncio.create_task(work)
    for _ in range(5):
        await others.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert not task.done()
    return task


async def test_start_run_returns_once_the_run_is_committed(caller: Caller, journal: SlowJournal) -> None:
    starting = await _waits(caller.start(CHAIN, run_id="live"), caller)
    journal.commit()
    assert (await starting).last_sequence > 0


async def test_no_action_is_invoked_before_its_start_is_committed(
    caller: Caller, journal: SlowJournal, stage: Stage
) -> None:
    starting = await _waits(caller.start(CHAIN, run_id="live"), caller)
    assert kinds_of(await journal.asked()) == ["run_started", "wave_started", "step_started"]
    assert stage.invoked == []
    journal.commit()
    await stage.here("a")
    await starting


async def test_no_dependent_starts_before_its_dependencys_end_is_committed(
    caller: Caller, journal: SlowJournal, stage: Stage
) -> None:
    starting = asyncio.create_task(caller.start(CHAIN, run_id="live"))
    await journal.asked()
    journal.commit()
    await starting
    await stage.here("a")
    stage.let("a")
    assert "step_finished" in kinds_of(await journal.asked())
    await caller.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert stage.invoked == ["a"]
    journal.commit()
    await stage.here("b")


async def test_no_watcher_sees_what_is_not_committed(caller: Caller, journal: SlowJournal, stage: Stage) -> None:
    run = caller.execute(CHAIN, run_id="live")
    reading = await _waits(run.until("step_started", "a"), caller)
    assert run.seen == []
    journal.commit()
    await reading
    await stage.here("a")
    stage.let("a")
    await journal.asked()
    reading = await _waits(run.until("step_finished", "a"), caller)
    assert sequences(run.seen) == sequences(journal.committed)
    journal.let_go()
    await reading
    stage.let("b")
    assert state_of(end_of(await run.rest()).state) == "succeeded"


async def test_get_run_shows_what_is_committed_and_no_more(caller: Caller, journal: SlowJournal, stage: Stage) -> None:
    wide = flow(*(step(f"s{i}", "gated") for i in range(3)))
    starting = asyncio.create_task(caller.start(wide, run_id="live"))
    await journal.asked()
    journal.commit()
    await starting
    await stage.here("s0", "s1", "s2")
    stage.let("s0")
    await journal.asked()
    getting = await _waits(caller.get("live"), caller)
    stage.let("s1", "s2")  # decided while the call waits, committed after it is answered
    await settles(lambda: len(finished(journal.waiting())) == 3)
    journal.commit_next()
    run = await getting
    assert run.last_sequence == journal.committed[-1].sequence
    assert run.counts.succeeded == 1


async def test_list_step_results_shows_what_is_committed_and_no_more(
    caller: Caller, journal: SlowJournal, stage: Stage
) -> None:
    wide = flow(*(step(f"s{i}", "gated") for i in range(3)))
    starting = asyncio.create_task(caller.start(wide, run_id="live"))
    await journal.asked()
    journal.commit()
    await starting
    await stage.here("s0", "s1", "s2")
    stage.let("s0")
    await journal.asked()
    listing = await _waits(_states_of_steps(caller), caller)
    stage.let("s1", "s2")
    await settles(lambda: len(finished(journal.waiting())) == 3)
    journal.commit_next()
    assert await listing == {"s0": "succeeded", "s1": "running", "s2": "running"}


async def _states_of_steps(caller: Caller) -> dict[str, str]:
    response = await caller.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
    return {result.step_id: state_of(result.state) for result in response.step_results}


async def test_list_runs_shows_what_is_committed_and_no_more(
    caller: Caller, journal: SlowJournal, stage: Stage
) -> None:
    starting = await _waits(caller.start(CHAIN, run_id="live"), caller)
    listing = await _waits(_runs(caller), caller)
    journal.commit()
    await starting
    assert [run.last_sequence for run in await listing] == [journal.committed[-1].sequence]


async def _runs(caller: Caller) -> list[run_pb2.Run]:
    return list((await caller.stub.ListRuns(pb.ListRunsRequest())).runs)


async def test_a_cancel_interrupts_once_it_is_committed(caller: Caller, journal: SlowJournal, stage: Stage) -> None:
    starting = asyncio.create_task(caller.start(CHAIN, run_id="live"))
    await journal.asked()
    journal.commit()
    await starting
    await stage.here("a")
    cancelling = await _waits(caller.cancel("live"), caller)
    assert stage.cancelled == []
    journal.commit()
    assert (await cancelling).stopping
    journal.let_go()
    assert states(await caller.events("live")) == {"a": "cancelled", "b": "skipped"}


async def test_an_attempt_cancelled_before_its_start_is_committed_ends_all_the_same(
    caller: Caller, journal: SlowJournal, stage: Stage
) -> None:
    starting = await _waits(caller.start(CHAIN, run_id="live"), caller)
    cancelling = await _waits(caller.cancel("live"), caller)
    journal.let_go()
    await asyncio.gather(starting, cancelling)
    assert states(await caller.events("live")) == {"a": "cancelled", "b": "skipped"}


async def test_a_result_exists_once_the_end_is_committed(caller: Caller, journal: SlowJournal, stage: Stage) -> None:
    starting = asyncio.create_task(caller.start(flow(step("a", "gated")), run_id="live"))
    await journal.asked()
    journal.commit()
    await starting
    stage.let("a")
    assert kind_of((await journal.asked())[-1]) == "run_finished"
    assert (await refusal(caller.result("live"))).code is grpc.StatusCode.FAILED_PRECONDITION
    journal.commit()
    assert state_of((await caller.result("live")).state) == "succeeded"


async def test_no_span_is_exported_before_its_end_is_committed(
    serve: Serve, call: Call, journal: SlowJournal, stage: Stage
) -> None:
    exporter = InMemorySpanExporter()
    caller = call(await serve(journal=journal, telemetry=Telemetry(SimpleSpanProcessor(exporter))))
    starting = asyncio.create_task(caller.start(flow(step("a", "gated")), run_id="live"))
    await journal.asked()
    journal.commit()
    await starting
    stage.let("a")
    await journal.asked()
    assert exporter.get_finished_spans() == ()
    journal.commit()
    assert {span.name for span in exporter.get_finished_spans()} >= {"stepwave.run", "stepwave.step"}


async def test_a_chunk_comes_after_its_steps_committed_start(serve: Serve, call: Call, journal: SlowJournal) -> None:
    @action
    async def said() -> AsyncIterator[str]:
        yield "word"

    caller = call(await serve(said, journal=journal))
    journal.let_go()
    events = await caller.run(flow(step("s", "said")))
    kinds = [kind for kind in kinds_of(events) if kind.startswith("step")]
    assert kinds == ["step_started", "step_chunk", "step_finished"]


async def test_nothing_overtakes_a_commit_in_many_runs_at_once(serve: Serve, call: Call, journal: SlowJournal) -> None:
    """Every action looks whether what allows it to run is committed; each commit comes a turn of the loop late."""
    early: list[str] = []

    def know(kind: str, run_id: str, step_id: str) -> bool:
        return any(
            event.run_id == run_id and kind_of(event) == kind and step_id == _about(event)
            for event in journal.committed
        )

    @action
    async def looks(context: Context, after: list[str]) -> None:
        run_id, step_id = context.run_id, context.step_id
        allowed = know("step_started", run_id, step_id) and all(know("step_finished", run_id, dep) for dep in after)
        if not allowed:
            early.append(f"{run_id}/{step_id}")

    steps = [
        step(f"s{i}", "looks", after=after, given={"after": after})
        for i in range(9)
        for after in [[f"s{i - 3}", f"s{i - 2}"] if i > 2 else []]
    ]
    server = await serve(looks, journal=journal, max_attempts=5)
    journal.let_go()
    caller = call(server)
    async with asyncio.timeout(GUARD):
        runs = await asyncio.gather(*(caller.run(flow(*steps), run_id=f"run{i}") for i in range(8)))
    assert [end_of(events).counts.succeeded for events in runs] == [9] * 8
    assert early == []


def _about(event: RunEvent) -> str:
    if event.HasField("step_finished"):
        return event.step_finished.result.step_id
    return event.step_started.step_id
