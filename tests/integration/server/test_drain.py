"""How a server stops: what it refuses, what it waits for, and what callers see of it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from integration.server.build import end_of, flow, kind_of, sequences, state_of, states, step
from integration.server.caller import GUARD, Caller, refusal
from integration.server.serving import Call, Serve
from integration.server.stage import Stage
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server

SERVICE = "stepwave.v1.OrchestratorService"
HELD = flow(step("held", "gated"), step("next", after=["held"]))


def _draining(server: Server) -> "asyncio.Task[None]":
    return asyncio.create_task(server.drain())


async def _health(caller: Caller, service: str = "") -> str:
    stub = health_pb2_grpc.HealthStub(caller.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return name


async def _begins_to_drain(caller: Caller) -> None:
    """Wait until health says so."""
    watch = health_pb2_grpc.HealthStub(caller.channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
    async with asyncio.timeout(GUARD):
        while (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING:
            pass
    watch.cancel()


async def test_a_server_that_serves_says_so(caller: Caller) -> None:
    assert await _health(caller) == "SERVING"
    assert await _health(caller, SERVICE) == "SERVING"


async def test_health_is_not_serving_from_the_start_of_a_drain(server: Server, caller: Caller, stage: Stage) -> None:
    await caller.start(HELD, run_id="live")
    await stage.here("held")
    seen = asyncio.create_task(_begins_to_drain(caller))
    drain = _draining(server)
    await seen
    assert (await _health(caller), await _health(caller, SERVICE)) == ("NOT_SERVING", "NOT_SERVING")
    assert not drain.done()
    stage.let("held")
    await drain


async def test_a_draining_server_refuses_new_runs_and_says_that_it_drains(
    server: Server, caller: Caller, stage: Stage
) -> None:
    await caller.start(HELD, run_id="live")
    await stage.here("held")
    drain = _draining(server)
    for refused in (await refusal(caller.start(HELD, run_id="new")), await refusal(caller.run(HELD))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
    info = (await caller.stub.GetServerInfo(pb.GetServerInfoRequest())).server_info
    assert info.draining
    stage.let("held")
    await drain


async def test_a_drain_lets_running_runs_finish(server: Server, caller: Caller, stage: Stage) -> None:
    run = caller.execute(HELD)
    await run.until("step_started", "held")
    drain = _draining(server)
    await refusal(caller.start(HELD))
    stage.let("held")
    assert states(await run.rest()) == {"held": "succeeded", "next": "succeeded"}
    await drain


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_runs_that_outlast_the_drain_timeout_are_cancelled_and_their_ends_delivered(
    serve: Serve, call: Call, stage: Stage
) -> None:
    server = await serve(drain_timeout=0.1)
    caller = call(server)
    streams = [caller.execute(HELD, run_id=f"run{i}") for i in range(5)]
    for stream in streams:
        await stream.until("step_started", "held")
    streams.append(caller.watch("run0"))
    await streams[-1].until("step_started", "held")
    drain = _draining(server)
    for stream in streams:
        events = await stream.rest()
        assert states(events) == {"held": "cancelled", "next": "skipped"}
        assert end_of(events).failures[0].message == "cancelled: the server stopped"
        assert sequences(events) == list(range(1, len(events) + 1))
    await drain


async def test_a_draining_server_does_not_count_as_a_lost_caller(server: Server, caller: Caller, stage: Stage) -> None:
    async with caller.execute(HELD, run_id="live"):
        await stage.here("held")
        drain = _draining(server)
        await refusal(caller.start(HELD))
    watch = caller.watch("live")
    await watch.until("step_started", "held")
    stage.let("held")
    assert state_of(end_of(await watch.rest()).state) == "succeeded"
    await drain


async def test_the_same_submission_still_finds_its_run_while_draining(
    server: Server, caller: Caller, stage: Stage
) -> None:
    await caller.start(HELD, run_id="live")
    await stage.here("held")
    drain = _draining(server)
    await refusal(caller.start(HELD, run_id="new"))
    assert (await caller.start(HELD, run_id="live")).run_id == "live"
    stage.let("held")
    await drain


async def test_a_drain_of_an_idle_server_ends_at_once(server: Server, caller: Caller) -> None:
    await caller.run(flow(step("a")))
    async with asyncio.timeout(GUARD):
        await server.drain()


async def test_a_slow_reader_still_gets_the_end_of_its_run(serve: Serve, call: Call) -> None:
    """More waits for it than the transport takes in when the last run has ended."""
    server = await serve()
    caller = call(server)
    wide = flow(*(step(f"s{i}", "bulk", given={"size": 400_000}) for i in range(40)))
    slow = caller.execute(wide, run_id="wide")
    await slow.until("run_started")
    await caller.events("wide")
    drain = _draining(server)
    await asyncio.sleep(0)
    assert kind_of((await slow.rest())[-1]) == "run_finished"
    await drain


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_a_stubborn_action_does_not_stop_the_server_from_stopping(serve: Serve, call: Call, stage: Stage) -> None:
    server = await serve(drain_timeout=0.05, cancel_grace=0.05)
    caller = call(server)
    run = caller.execute(flow(step("s", "stubborn")))
    await run.until("step_started", "s")
    drain = _draining(server)
    await stage.here("s", "s/cancelled")
    stage.let("s")
    assert state_of(end_of(await run.rest()).state) == "cancelled"
    async with asyncio.timeout(GUARD):
        await drain


@pytest.mark.parametrize("serve", ["memory"], indirect=True)
async def test_stopping_at_once_cancels_what_runs(server: Server, caller: Caller, stage: Stage) -> None:
    run = caller.execute(HELD)
    await run.until("step_started", "held")
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
asyncio.run(serve(settings, [], ready))
"""


@asynccontextmanager
async def _process(drain_timeout: float) -> AsyncIterator[tuple[asyncio.subprocess.Process, Caller]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SCRIPT,
        str(drain_timeout),
        stdout=asyncio.subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("STEPWAVE_")},
    )
    assert process.stdout is not None
    caller = Caller((await process.stdout.readline()).decode().strip())
    try:
        yield process, caller
    finally:
        await caller.close()
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_a_process_that_serves(number: signal.Signals) -> None:
    async with _process(0.1) as (process, caller):
        run = caller.execute(flow(step("s", "core.sleep", given={"seconds": 600})))
        await run.until("step_started", "s")
        process.send_signal(number)
        assert state_of(end_of(await run.rest()).state) == "cancelled"
        async with asyncio.timeout(GUARD):
            assert await process.wait() == 0


async def test_a_second_signal_stops_a_process_at_once() -> None:
    async with _process(600) as (process, caller):
        run = caller.execute(flow(step("s", "core.sleep", given={"seconds": 600})))
        await run.until("step_started", "s")
        process.send_signal(signal.SIGINT)
        await _begins_to_drain(caller)
        process.send_signal(signal.SIGINT)
        assert state_of(end_of(await run.rest()).state) == "cancelled"
        async with asyncio.timeout(GUARD):
            assert await process.wait() == 0
