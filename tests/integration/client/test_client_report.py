"""Reports on runs and explanations of runs, through both clients and a real server."""

import asyncio
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import pytest

from stepwave import AsyncClient, Client, NotFound, RunReport, State, WaitCause, Workflow, action
from stepwave._reports.critical_path import report_of
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb


@pytest.fixture
def release() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


@pytest.fixture
def stepwave_actions(release: threading.Event) -> Iterable[object]:
    @action
    def blocks() -> None:
        release.wait()

    return [blocks]


@pytest.fixture
def flow() -> Workflow:
    flow = Workflow("blocked", max_parallelism=1)
    flow.step("first", "blocks")
    flow.step("second", "core.echo", 1)
    return flow


def test_both_clients_return_the_same_report(stepwave_client: Client, release: threading.Event, flow: Workflow) -> None:
    release.set()
    run_id = stepwave_client.run(flow).run_id
    report = stepwave_client.report(run_id)
    assert report == stepwave_client.export(run_id).report()
    assert (report.state, report.path, report.bounded) == (State.SUCCEEDED, ("second",), True)


async def test_a_run_under_way_is_reported_up_to_now(
    stepwave_server: str, release: threading.Event, flow: Workflow
) -> None:
    async with AsyncClient(stepwave_server) as client:
        run_id = (await client.start(flow)).run_id
        first, second = await client.report(run_id), await client.report(run_id)
        assert (first.state, first.makespan < second.makespan) == (State.RUNNING, True)
        assert second.steps["second"].parts.waiting == second.makespan
        release.set()
        await client.wait(run_id)


async def test_a_report_does_not_block_the_loop_of_an_async_client(
    stepwave_server: str, release: threading.Event, flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.set()
    loop, asked, answered = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def report(definition: pb.RunDefinition, events: Sequence[event_pb2.RunEvent], until: datetime | None) -> RunReport:
        loop.call_soon_threadsafe(asked.set)
        assert answered.wait(10), "the loop stood still"
        return report_of(definition, events, until)

    monkeypatch.setattr("stepwave._reports.export.report_of", report)
    async with AsyncClient(stepwave_server) as client:
        run_id = (await client.run(flow)).run_id
        reporting = asyncio.ensure_future(client.report(run_id))
        await asked.wait()
        answered.set()
        assert (await reporting).run_id == run_id


def test_a_sync_client_makes_a_report_on_the_callers_thread(
    stepwave_client: Client, release: threading.Event, flow: Workflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.set()
    threads = []

    def report(definition: pb.RunDefinition, events: Sequence[event_pb2.RunEvent], until: datetime | None) -> RunReport:
        threads.append(threading.current_thread())
        return report_of(definition, events, until)

    monkeypatch.setattr("stepwave._reports.export.report_of", report)
    stepwave_client.report(stepwave_client.run(flow).run_id)
    assert threads == [threading.current_thread()]


async def test_both_clients_return_the_same_explanation(
    stepwave_server: str, release: threading.Event, flow: Workflow
) -> None:
    async with AsyncClient(stepwave_server) as client:
        run_id = (await client.start(flow)).run_id
        explained = await client.explain(run_id)
        causes = {step.step_id: step.cause for step in explained.steps}
        assert causes == {"first": None, "second": WaitCause.CONCURRENCY}
        release.set()
        await client.wait(run_id)
        assert (await client.explain(run_id)).steps == ()


def test_an_unknown_run_cannot_be_explained(stepwave_client: Client) -> None:
    with pytest.raises(NotFound):
        stepwave_client.explain("nosuch")
