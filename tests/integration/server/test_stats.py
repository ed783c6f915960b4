"""What a server does now, by `GetServerInfo` on request."""

from contextlib import aclosing

import pytest

from integration.server.build import flow, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server
from stepwave_server.core.info import RunKey


async def _stats(client: RawClient) -> pb.ServerStats:
    response = await client.stub.GetServerInfo(pb.GetServerInfoRequest(stats=True))
    assert response.HasField("stats")
    return response.stats


def _actions(stats: pb.ServerStats) -> list[tuple[str, int, int]]:
    return [(it.action, it.in_flight, it.queued) for it in stats.actions]


async def test_stats_come_on_request_only(client: RawClient) -> None:
    response = await client.stub.GetServerInfo(pb.GetServerInfoRequest())
    assert not response.HasField("stats")


async def test_stats_have_the_runs_streams_and_attempts_by_action(
    client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(flow(step("a", "controlled"), step("b", "controlled"), step("c", "stubborn"))) as stream:
        for _ in range(3):
            await stream.until("step_started")  # on Temporal, hosts start attempts before the server shows the run
        await controlled.wait_started("a", "b", "c")
        stats = await _stats(client)
        controlled.release_all()
        controlled.release("c")
        await stream.rest()
    assert (stats.runs_in_flight, stats.attempts_in_flight, stats.streams_open) == (1, 3, 1)
    assert _actions(stats) == [("controlled", 2, 0), ("stubborn", 1, 0)]


async def test_an_idle_server_has_no_attempts(client: RawClient) -> None:
    stats = await _stats(client)
    assert (stats.runs_in_flight, stats.attempts_in_flight, stats.attempts_queued) == (0, 0, 0)
    assert not stats.actions
    assert stats.time.seconds > 0


@pytest.mark.one_server("it admits attempts in memory, and keeps events itself")
async def test_attempts_without_a_place_are_queued(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(max_attempts=1))
    async with client.execute(flow(*[step(f"s{number}", "controlled") for number in range(3)])) as stream:
        await controlled.wait_started("s0")
        stats = await _stats(client)
        controlled.release_all()
        await stream.rest()
    assert _actions(stats) == [("controlled", 1, 2)]


@pytest.mark.one_server("its journal is its own")
async def test_a_journal_on_disk_tells_its_commits(server: Server, client: RawClient) -> None:
    await client.run(flow(step("a"), step("b", after=["a"])))
    stats = await _stats(client)
    durable = (await client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info.journal == "sqlite"
    assert stats.HasField("commits") == durable
    if durable:
        assert stats.commits.event_count == len(await client.events(await _last(client)))
        assert 0 < stats.commits.median_duration.ToNanoseconds() <= stats.commits.max_duration.ToNanoseconds()


async def _last(client: RawClient) -> str:
    return (await client.stub.ListRuns(pb.ListRunsRequest(page_size=1))).runs[0].run_id


async def test_a_stream_that_reads_nothing_lags_behind(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled"), step("b", after=["a"])), run_id="mine")
    await controlled.wait_started("a")
    async with aclosing(server.engine.watch(RunKey("default", "mine"), 0, ())) as batches:
        await anext(batches)
        controlled.release("a")
        events = await client.events("mine")
        assert 0 < server.engine.load().stream_lag < len(events)
    assert server.engine.load().stream_lag == 0
