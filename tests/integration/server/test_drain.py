"""How a server stops: what it refuses, what it waits for, and what clients see."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.server.build import check_sequences, end_of, flow, kind_of, state_of, states, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD, RawClient, refusal
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.rpc.health import LIVENESS

SERVICE = "stepwave.v1.OrchestratorService"
BLOCKED = flow(step("blocked", "controlled"), step("next", after=["blocked"]))


def _draining(server: Server) -> "asyncio.Task[None]":
    return asyncio.create_task(server.drain())


async def _health(client: RawClient, service: str = "") -> str:
    stub = health_pb2_grpc.HealthStub(client.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return name


async def test_a_running_server_reports_that_it_serves(client: RawClient) -> None:
    assert await _health(client) == "SERVING"
    assert await _health(client, SERVICE) == "SERVING"


@pytest.mark.one_server("runs end before it stops; on Temporal, they go on elsewhere")
async def test_health_is_not_serving_from_the_start_of_a_drain(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(BLOCKED, run_id="live")
    await controlled.wait_started("blocked")
    seen = asyncio.create_task(client.begins_to_drain())
    drain = _draining(server)
    await seen
    assert (await _health(client), await _health(client, SERVICE)) == ("NOT_SERVING", "NOT_SERVING")
    assert not drain.done()
    controlled.release("blocked")
    await drain


@pytest.mark.one_server("runs that it drains")
async def test_a_server_that_drains_is_live(server: Server, client: RawClient, controlled: ControlledActions) -> None:
    assert await _health(client, LIVENESS) == "SERVING"
    await client.start(BLOCKED, run_id="live")
    await controlled.wait_started("blocked")
    drain = _draining(server)
    await client.begins_to_drain()
    assert await _health(client, LIVENESS) == "SERVING"
    controlled.release("blocked")
    await drain


@pytest.mark.one_server("runs that it drains")
async def test_a_draining_server_refuses_new_runs_with_the_reason(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(BLOCKED, run_id="live")
    await controlled.wait_started("blocked")
    drain = _draining(server)
    for refused in (await refusal(client.start(BLOCKED, run_id="new")), await refusal(client.run(BLOCKED))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    info = (await client.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info
    assert info.draining
    controlled.release("blocked")
    await drain


@pytest.mark.one_server("runs end before it stops; on Temporal, they go on elsewhere")
async def test_running_runs_finish_during_a_drain(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    run = client.execute(BLOCKED)
    await run.until("step_started", "blocked")
    drain = _draining(server)
    await refusal(client.start(BLOCKED))
    controlled.release("blocked")
    assert states(await run.rest()) == {"blocked": "succeeded", "next": "succeeded"}
    await drain


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_runs_that_outlast_the_drain_timeout_are_cancelled_and_their_ends_delivered(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    server = await serve(drain_timeout=0.1)
    client = connect(server)
    streams = [client.execute(BLOCKED, run_id=f"run{i}") for i in range(5)]
    for stream in streams:
        await stream.until("step_started", "blocked")
    streams.append(client.watch("run0"))
    await streams[-1].until("step_started", "blocked")
    drain = _draining(server)
    for stream in streams:
        events = await stream.rest()
        assert states(events) == {"blocked": "cancelled", "next": "skipped"}
        assert end_of(events).failures[0].message == "cancelled: the server stopped"
        check_sequences(events)
    await drain


@pytest.mark.one_server("runs end before it stops; on Temporal, they go on elsewhere")
async def test_a_stream_that_a_drain_ends_does_not_cancel_its_run(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    async with client.execute(BLOCKED, run_id="live"):
        await controlled.wait_started("blocked")
        drain = _draining(server)
        await refusal(client.start(BLOCKED))
    watch = client.watch("live")
    await watch.until("step_started", "blocked")
    controlled.release("blocked")
    assert state_of(end_of(await watch.rest()).state) == "succeeded"
    await drain


@pytest.mark.one_server("runs end before it stops; on Temporal, they go on elsewhere")
async def test_a_repeated_submission_finds_its_run_during_a_drain(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(BLOCKED, run_id="live")
    await controlled.wait_started("blocked")
    drain = _draining(server)
    await refusal(client.start(BLOCKED, run_id="new"))
    assert (await client.start(BLOCKED, run_id="live")).run_id == "live"
    controlled.release("blocked")
    await drain


@pytest.mark.one_server("a drain waits for its runs")
async def test_a_drain_ends_once_the_server_stops(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(BLOCKED, run_id="live")
    await controlled.wait_started("blocked")
    draining = asyncio.create_task(server.engine.drain(2 * GUARD))
    await server.stop()
    async with asyncio.timeout(GUARD):
        await draining


async def test_a_drain_of_an_idle_server_ends_at_once(server: Server, client: RawClient) -> None:
    await client.run(flow(step("a")))
    async with asyncio.timeout(GUARD):
        await server.drain()


@pytest.mark.one_server("runs that it drains")
async def test_a_slow_reader_still_gets_the_end_of_its_run(serve: Serve, connect: Connect) -> None:
    """When the last run has ended, more bytes are pending for the client than the transport buffers."""
    server = await serve()
    client = connect(server)
    wide = flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(40)))
    slow = client.execute(wide, run_id="wide")
    await slow.until("run_started")
    await client.events("wide")
    drain = _draining(server)
    await asyncio.sleep(0)
    assert kind_of((await slow.rest())[-1]) == "run_finished"
    await drain


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_an_action_that_ignores_cancellation_does_not_keep_the_server_from_stopping(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    server = await serve(drain_timeout=0.05, cancel_grace=0.05)
    client = connect(server)
    run = client.execute(flow(step("s", "stubborn")))
    await run.until("step_started", "s")
    drain = _draining(server)
    await controlled.wait_started("s", "s/cancelled")
    controlled.release("s")
    assert state_of(end_of(await run.rest()).state) == "cancelled"
    async with asyncio.timeout(GUARD):
        await drain


async def test_a_start_that_is_cancelled_stops_the_server(no_leftover_tasks: None) -> None:
    starting = asyncio.create_task(Server(Settings(listen="127.0.0.1:0", entry_points=False)).start())
    await asyncio.sleep(0)  # gRPC starts
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_stopping_at_once_cancels_running_steps(
    server: Server, client: RawClient, controlled: ControlledActions
) -> None:
    run = client.execute(BLOCKED)
    await run.until("step_started", "blocked")
    stop = asyncio.create_task(server.stop())
    assert state_of(end_of(await run.rest()).state) == "cancelled"
    await stop


SCRIPT = """
import asyncio, sys
from stepwave_server.app import serve
from stepwave_server.config import Settings

def ready(address):
    print(address, flush=True)

settings = Settings(listen="127.0.0.1:0", drain_timeout=float(sys.argv[1]), entry_points=False)
asyncio.run(serve(settings, ready))
"""


@asynccontextmanager
async def _process(drain_timeout: float) -> AsyncIterator[tuple[asyncio.subprocess.Process, RawClient]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT,
        str(drain_timeout),
        stdout=asyncio.subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("STEPWAVE_")},
    )
    assert process.stdout is not None
    client = RawClient((await process.stdout.readline()).decode().strip())
    try:
        yield process, client
    finally:
        await client.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_a_process_that_serves(number: signal.Signals) -> None:
    async with _process(0.1) as (process, client):
        run = client.execute(flow(step("s", "core.sleep", given={"seconds": 600})))
        await run.until("step_started", "s")
        process.send_signal(number)
        assert state_of(end_of(await run.rest()).state) == "cancelled"
        async with asyncio.timeout(GUARD):
            assert await process.wait() == 0


async def test_a_second_signal_stops_a_process_at_once() -> None:
    async with _process(600) as (process, client):
        run = client.execute(flow(step("s", "core.sleep", given={"seconds": 600})))
        await run.until("step_started", "s")
        process.send_signal(signal.SIGINT)
        await client.begins_to_drain()
        process.send_signal(signal.SIGINT)
        assert state_of(end_of(await run.rest()).state) == "cancelled"
        async with asyncio.timeout(GUARD):
            assert await process.wait() == 0
