"""Commit before effect: with a journal that commits late, nothing happens before its commit."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import TypeVar

import grpc
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from integration.server.build import end_of, finished, flow, kind_of, kinds_of, sequences, state_of, states, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import GUARD, RawClient, refusal
from integration.server.slow_journal import SlowJournal
from stepwave import Context, action
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.telemetry import Telemetry

pytestmark = pytest.mark.one_server("the journal decides when events are committed")

T = TypeVar("T")

CHAIN = flow(step("a", "controlled"), step("b", "controlled", after=["a"]))


@pytest.fixture
async def journal() -> SlowJournal:
    return SlowJournal()


@pytest.fixture
async def client(serve: Serve, connect: Connect, journal: SlowJournal) -> AsyncIterator[RawClient]:
    client = connect(await serve(journal=journal))
    yield client
    journal.commit_promptly()


async def _start_waiting(work: Coroutine[object, object, T], others: RawClient) -> "asyncio.Task[T]":
    """Start a call, and check that it is not answered while calls that started later are."""
    task = asyncio.create_task(work)
    for _ in range(5):
        await others.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert not task.done()
    return task


async def test_start_run_returns_once_the_run_is_committed(client: RawClient, journal: SlowJournal) -> None:
    starting = await _start_waiting(client.start(CHAIN, run_id="live"), client)
    journal.commit()
    assert (await starting).last_sequence > 0


async def test_steps_are_added_once_they_are_committed(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    opening = await _start_waiting(client.open(), client)
    journal.commit()
    await opening
    adding = await _start_waiting(client.add(step("a")), client)
    assert kinds_of(await journal.wait_pending()) == ["steps_added", "wave_started", "step_started"]
    assert controlled.invoked == []
    journal.commit()
    assert (await adding).last_sequence > 1


async def test_no_action_is_invoked_before_its_start_is_committed(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    starting = await _start_waiting(client.start(CHAIN, run_id="live"), client)
    assert kinds_of(await journal.wait_pending()) == ["run_started", "wave_started", "step_started"]
    assert controlled.invoked == []
    journal.commit()
    await controlled.wait_started("a")
    await starting


async def test_no_dependent_starts_before_its_dependencys_end_is_committed(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    starting = asyncio.create_task(client.start(CHAIN, run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await controlled.wait_started("a")
    controlled.release("a")
    assert "step_finished" in kinds_of(await journal.wait_pending())
    await client.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert controlled.invoked == ["a"]
    journal.commit()
    await controlled.wait_started("b")


async def test_no_watcher_sees_an_uncommitted_event(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    run = client.execute(CHAIN, run_id="live")
    reading = await _start_waiting(run.until("step_started", "a"), client)
    assert run.seen == []
    journal.commit()
    await reading
    await controlled.wait_started("a")
    controlled.release("a")
    await journal.wait_pending()
    reading = await _start_waiting(run.until("step_finished", "a"), client)
    assert sequences(run.seen) == sequences(journal.committed)
    journal.commit_promptly()
    await reading
    controlled.release("b")
    assert state_of(end_of(await run.rest()).state) == "succeeded"


async def test_get_run_shows_committed_state_only(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    wide = flow(*(step(f"s{i}", "controlled") for i in range(3)))
    starting = asyncio.create_task(client.start(wide, run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await controlled.wait_started("s0", "s1", "s2")
    controlled.release("s0")
    await journal.wait_pending()
    getting = await _start_waiting(client.get("live"), client)
    controlled.release("s1", "s2")  # decided while the call waits, committed after it is answered
    await eventually(lambda: len(finished(journal.pending())) == 3)
    journal.commit_next()
    run = await getting
    assert run.last_sequence == journal.committed[-1].sequence
    assert run.counts.succeeded == 1


async def test_list_step_results_shows_committed_results_only(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    wide = flow(*(step(f"s{i}", "controlled") for i in range(3)))
    starting = asyncio.create_task(client.start(wide, run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await controlled.wait_started("s0", "s1", "s2")
    controlled.release("s0")
    await journal.wait_pending()
    listing = await _start_waiting(_states_of_steps(client), client)
    controlled.release("s1", "s2")
    await eventually(lambda: len(finished(journal.pending())) == 3)
    journal.commit_next()
    assert await listing == {"s0": "succeeded", "s1": "running", "s2": "running"}


async def _states_of_steps(client: RawClient) -> dict[str, str]:
    response = await client.stub.ListStepResults(pb.ListStepResultsRequest(run_id="live"))
    return {result.step_id: state_of(result.state) for result in response.step_results}


async def test_list_runs_shows_committed_state_only(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    starting = await _start_waiting(client.start(CHAIN, run_id="live"), client)
    listing = await _start_waiting(_runs(client), client)
    journal.commit()
    await starting
    assert [run.last_sequence for run in await listing] == [journal.committed[-1].sequence]


async def _runs(client: RawClient) -> list[run_pb2.Run]:
    return list((await client.stub.ListRuns(pb.ListRunsRequest())).runs)


async def test_a_cancel_interrupts_once_it_is_committed(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    starting = asyncio.create_task(client.start(CHAIN, run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    await controlled.wait_started("a")
    cancelling = await _start_waiting(client.cancel("live"), client)
    assert controlled.cancelled == []
    journal.commit()
    assert (await cancelling).stopping
    journal.commit_promptly()
    assert states(await client.events("live")) == {"a": "cancelled", "b": "skipped"}


async def test_an_attempt_cancelled_before_its_start_is_committed_still_ends(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    starting = await _start_waiting(client.start(CHAIN, run_id="live"), client)
    cancelling = await _start_waiting(client.cancel("live"), client)
    journal.commit_promptly()
    await asyncio.gather(starting, cancelling)
    assert states(await client.events("live")) == {"a": "cancelled", "b": "skipped"}


async def test_a_result_exists_once_the_end_is_committed(
    client: RawClient, journal: SlowJournal, controlled: ControlledActions
) -> None:
    starting = asyncio.create_task(client.start(flow(step("a", "controlled")), run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    controlled.release("a")
    assert kind_of((await journal.wait_pending())[-1]) == "run_finished"
    assert (await refusal(client.result("live"))).code is grpc.StatusCode.FAILED_PRECONDITION
    journal.commit()
    assert state_of((await client.result("live")).state) == "succeeded"


async def test_no_span_is_exported_before_its_end_is_committed(
    serve: Serve, connect: Connect, journal: SlowJournal, controlled: ControlledActions
) -> None:
    exporter = InMemorySpanExporter()
    client = connect(await serve(journal=journal, telemetry=Telemetry(SimpleSpanProcessor(exporter))))
    starting = asyncio.create_task(client.start(flow(step("a", "controlled")), run_id="live"))
    await journal.wait_pending()
    journal.commit()
    await starting
    controlled.release("a")
    await journal.wait_pending()
    assert exporter.get_finished_spans() == ()
    journal.commit()
    assert {span.name for span in exporter.get_finished_spans()} >= {"stepwave.run", "stepwave.step"}


async def test_a_chunk_comes_after_its_steps_committed_start(
    serve: Serve, connect: Connect, journal: SlowJournal
) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        yield "word"

    client = connect(await serve(streams, journal=journal))
    journal.commit_promptly()
    events = await client.run(flow(step("s", "streams")))
    kinds = [kind for kind in kinds_of(events) if kind.startswith("step")]
    assert kinds == ["step_started", "step_chunk", "step_finished"]


async def test_nothing_overtakes_a_commit_in_many_runs_at_once(
    serve: Serve, connect: Connect, journal: SlowJournal
) -> None:
    """Each action checks that the events that allow it to run are committed. Each commit is a turn late."""
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
    journal.commit_promptly()
    client = connect(server)
    async with asyncio.timeout(GUARD):
        runs = await asyncio.gather(*(client.run(flow(*steps), run_id=f"run{i}") for i in range(8)))
    assert [end_of(events).counts.succeeded for events in runs] == [9] * 8
    assert early == []


def _about(event: RunEvent) -> str:
    if event.HasField("step_finished"):
        return event.step_finished.result.step_id
    return event.step_started.step_id
