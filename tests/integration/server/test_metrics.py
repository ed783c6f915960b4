"""The metrics of a real server, as Prometheus reads them."""

import asyncio
from pathlib import Path

import grpc
import pytest

from integration.server.build import flow, items, retry, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient
from integration.server.scraping import Scrape, scrape
from stepwave import action
from stepwave_server.actions.failures import ActionFailed
from stepwave_server.app import Server
from stepwave_server.assembly import open_metrics
from stepwave_server.config import Settings
from stepwave_server.core.model import Reason
from stepwave_server.rpc.listening import ListenError
from stepwave_server.telemetry import TelemetryUnavailable

ANYWHERE = "127.0.0.1:0"
ADAPTIVE = "limits:\n- {actions: refused, adaptive: {initial: 8}}\n- {actions: controlled, concurrency: 2}\n"
HOUR = 3_600_000_000_000


@pytest.fixture
async def server(serve: Serve) -> Server:
    return await serve(metrics_listen=ANYWHERE)


@pytest.fixture
async def client(server: Server, connect: Connect) -> RawClient:
    return connect(server)


async def _read(server: Server) -> Scrape:
    return await scrape(server.metrics_address)


async def test_a_run_is_counted_and_timed_by_its_state(server: Server, client: RawClient) -> None:
    await client.run(flow(step("a"), step("b", after=["a"])))
    await client.run(flow(step("a", "core.fail")))
    found = await _read(server)
    assert found.value("run_started_total", namespace="default") == 2
    assert found.values("run_ended_total", "state") == {"succeeded": 1, "failed": 1}
    assert found.value("run_duration_seconds_count", state="succeeded") == 1


async def test_steps_are_counted_by_action_and_state(server: Server, client: RawClient) -> None:
    await client.run(flow(step("a"), step("b", "core.fail", after=["a"]), step("c", after=["b"])))
    found = await _read(server)
    assert found.value("step_ended_total", action="noop", state="succeeded") == 1
    assert found.value("step_ended_total", action="noop", state="skipped") == 1
    assert found.value("step_ended_total", action="core.fail", state="failed") == 1
    assert found.value("step_duration_seconds_count", action="noop") == 1


async def test_attempts_are_counted_by_action_and_outcome(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    controlled.release_all()
    first = step("a", "fails_first", retry=retry(3, 0.001), given={"times": 2})
    await client.run(flow(first, step("b", "fails", after=["a"], retry=retry(1))))
    found = await _read(server)
    assert found.value("attempt_ended_total", action="fails_first", outcome="unavailable") == 2
    assert found.value("attempt_ended_total", action="fails_first", outcome="succeeded") == 1
    assert found.value("attempt_ended_total", action="fails", outcome="action_error") == 1
    assert found.value("attempt_duration_seconds_count", action="fails_first") == 3
    assert found.value("attempt_wait_seconds_count", action="fails_first") == 3


async def test_a_step_with_a_list_is_counted_and_its_children_are_timed(server: Server, client: RawClient) -> None:
    await client.run(flow(step("all", over=items(1, 2, 3))))
    found = await _read(server)
    assert found.value("step_ended_total", action="noop") == 4
    assert found.value("step_duration_seconds_count", action="noop") == 3
    assert found.value("attempt_ended_total", action="noop") == 3


async def test_attempts_in_flight_are_shown_by_action(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(flow(step("a", "controlled"), step("b", "controlled"), step("c"))) as stream:
        await stream.until("step_finished", "c")
        await controlled.wait_started("a", "b")
        found = await _read(server)
        controlled.release_all()
        await stream.rest()
    assert found.value("attempt_in_flight", action="controlled") == 2
    assert found.value("run_in_flight") == 1
    assert found.value("stream_open") == 1


async def test_a_refused_call_is_counted_by_its_reason(server: Server, client: RawClient) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await client.get("nowhere")
    found = await _read(server)
    assert found.value("call_refused_total", rpc_method="GetRun", reason="RUN_NOT_FOUND") == 1
    assert found.value("call_ended_total", rpc_method="GetRun", rpc_response_status_code="NOT_FOUND") == 1
    assert found.value("call_duration_seconds_count", rpc_method="GetRun") == 1


async def test_a_call_whose_caller_leaves_is_counted_as_cancelled(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled")), run_id="mine")
    async with client.watch("mine") as stream:
        await stream.until("step_started")
    async with asyncio.timeout(GUARD):
        while not (cancelled := (await _read(server)).value("call_ended_total", rpc_method="WatchRun")):
            pass
    assert cancelled == (await _read(server)).value("call_ended_total", rpc_response_status_code="CANCELLED")
    controlled.release_all()


@pytest.mark.one_server("it admits attempts in memory")
async def test_ready_attempts_without_a_place_are_queued(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    server = await serve(metrics_listen=ANYWHERE, max_attempts=1)
    async with connect(server).execute(flow(*[step(f"s{i}", "controlled") for i in range(3)])) as stream:
        await controlled.wait_started("s0")
        found = await _read(server)
        controlled.release_all()
        await stream.rest()
    assert found.value("attempt_queued", action="controlled") == 2
    assert found.value("attempt_in_flight", action="controlled") == 1


@pytest.mark.one_server("it has limits")
async def test_an_adaptive_limit_shows_its_bound_and_its_pause(
    serve: Serve, connect: Connect, controlled: ControlledActions, tmp_path: Path
) -> None:
    @action
    async def refused() -> None:
        raise ActionFailed(Reason.RATE_LIMITED, "full", retry_after=HOUR)

    limits = tmp_path / "limits.yaml"
    limits.write_text(ADAPTIVE)
    server = await serve(refused, metrics_listen=ANYWHERE, limits=limits)
    before = await _read(server)
    await connect(server).run(flow(step("a", "refused", retry=retry(1))))
    found = await _read(server)
    assert before.values("limit_concurrency", "limit") == {"refused": 8, "controlled": 2}
    assert before.values("limit_paused", "limit") == {"refused": 0}
    assert found.value("limit_concurrency", limit="refused") < 8
    assert found.value("limit_paused", limit="refused") == 1


@pytest.mark.one_server("without Temporal there is nothing to start")
async def test_without_an_exporter_nothing_is_recorded(serve: Serve, connect: Connect) -> None:
    server = await serve()
    await connect(server).run(flow(step("a")))
    assert server.metrics_address == ""
    assert server._measures is None


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "nowhere", "unix:/tmp/metrics", "127.0.0.1:99999"])
async def test_metrics_are_served_on_loopback_only(serve: Serve, listen: str) -> None:
    with pytest.raises(ListenError, match="metrics"):
        await serve(metrics_listen=listen)


@pytest.mark.one_server("without Temporal there is nothing to start")
async def test_insecure_allows_metrics_beyond_loopback(serve: Serve) -> None:
    server = await serve(metrics_listen="0.0.0.0:0", insecure=True)
    port = server.metrics_address.rpartition(":")[2]
    assert (await scrape(f"127.0.0.1:{port}")).value("run_in_flight") == 0


def test_an_endpoint_that_the_environment_asks_for_is_on_loopback_and_for_a_process_that_only_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    assert open_metrics(Settings(), own_process=True) is not None
    assert open_metrics(Settings(), own_process=False) is None
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0")
    with pytest.raises(ListenError, match="metrics"):
        open_metrics(Settings(), own_process=True)


@pytest.mark.one_server("without Temporal there is nothing to start")
async def test_a_port_in_use_is_named(server: Server, serve: Serve) -> None:
    with pytest.raises(TelemetryUnavailable, match=server.metrics_address):
        await serve(metrics_listen=server.metrics_address)


@pytest.mark.one_server("without Temporal there is nothing to start")
async def test_the_endpoint_ends_with_the_server(serve: Serve) -> None:
    server = await serve(metrics_listen=ANYWHERE)
    await server.stop()
    with pytest.raises(OSError, match="refused"):
        await _read(server)


async def test_many_scrapes_at_once_agree(server: Server, client: RawClient) -> None:
    await client.run(flow(step("a")))
    for found in await asyncio.gather(*(_read(server) for _ in range(8))):
        assert found.value("run_started_total") == 1
