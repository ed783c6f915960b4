"""Clients that stop reading and disconnect: no errors for any call, and nothing is left behind."""

import asyncio
import logging
from collections.abc import AsyncIterator
from operator import methodcaller
from typing import Protocol

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from integration.server.build import end_of, flow, step
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import GUARD, MAX_BYTES, refusal
from integration.server.stalled_client import StalledClient
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.run_pb2 import STATE_CANCELLED, STATE_SUCCEEDED
from stepwave_server import app
from stepwave_server.app import Server
from stepwave_server.engine.attempts import lag
from stepwave_server.rpc import handlers

pytestmark = pytest.mark.parametrize("serve", ["memory"], indirect=True)

SERVICE = "/stepwave.v1.OrchestratorService"
HEALTH = "/grpc.health.v1.Health"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LIVE = flow(*(step(f"s{i}", "controlled") for i in range(20)))

CALLS = {
    "watch": (f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id="live")),
    "watch of a run that has ended": (f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id="past")),
    "attached watch": (f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id="live", attach=True)),
    "execute": (f"{SERVICE}/ExecuteWorkflow", pb.ExecuteWorkflowRequest(workflow=LIVE)),
    "export": (f"{SERVICE}/ExportRun", pb.ExportRunRequest(run_id="past")),
    "get": (f"{SERVICE}/GetRun", pb.GetRunRequest(run_id="past")),
    "steps": (f"{SERVICE}/ListStepResults", pb.ListStepResultsRequest(run_id="past")),
    "logs": (f"{SERVICE}/ListRunLogs", pb.ListRunLogsRequest(run_id="past")),
    "start": (f"{SERVICE}/StartRun", pb.StartRunRequest(workflow=flow(step("a")))),
    "refused": (f"{SERVICE}/GetRun", pb.GetRunRequest(run_id="none")),
    "unknown": (f"{SERVICE}/Unheard", pb.GetRunRequest()),
    "health": (f"{HEALTH}/Check", health_pb2.HealthCheckRequest()),
    "health watch": (f"{HEALTH}/Watch", health_pb2.HealthCheckRequest()),
    "reflection": (REFLECTION, reflection_pb2.ServerReflectionRequest(list_services="*")),
}

DISCONNECTS = {way: methodcaller(way) for way in ("reset", "close", "cancel")}


class OpenStalledClients(Protocol):
    """Opens connections of clients that never read a response. They close when the test ends."""

    async def __call__(self, address: str, number: int) -> list[StalledClient]: ...


@pytest.fixture
async def open_stalled_clients(no_leftover_tasks: None) -> AsyncIterator[OpenStalledClients]:
    opened: list[StalledClient] = []

    async def open_several(address: str, number: int) -> list[StalledClient]:
        clients = [await StalledClient.connect(address) for _ in range(number)]
        opened.extend(clients)
        return clients

    yield open_several
    for stalled in opened:
        await stalled.wait_closed()


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    suspects = (record for record in caplog.records if record.name != lag.logger.name)  # these warn of a busy machine
    return [record.getMessage() for record in suspects if record.levelno >= logging.WARNING]


async def _check_nothing_left(server: Server, tasks: int) -> None:
    bounds = server._grpc.bounds
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    assert (server.engine.watchers, bounds.open_streams, bounds.open_calls) == (0, 0, 0)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("way", DISCONNECTS)
async def test_a_client_that_disconnects_causes_no_error(
    serve: Serve,
    open_stalled_clients: OpenStalledClients,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    name: str,
    way: str,
) -> None:
    server = await serve()
    client = connect(server)
    await client.start(LIVE, run_id="live")
    await client.run(flow(step("a")), run_id="past")
    path, request = CALLS[name]
    tasks = len(asyncio.all_tasks())
    callers = await open_stalled_clients(server.address, 5)
    for stalled in callers * 3:
        stalled.call(path, request.SerializeToString())
    for stalled in callers:
        await stalled.wait_answered()
        DISCONNECTS[way](stalled)
    await _check_nothing_left(server, tasks)
    assert _errors(caplog) == []


async def test_a_thousand_watchers_that_stop_reading_and_vanish_cause_no_error_and_leave_nothing(
    serve: Serve, open_stalled_clients: OpenStalledClients, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    await connect(server).start(LIVE, run_id="live")
    tasks = len(asyncio.all_tasks())
    watchers = await open_stalled_clients(server.address, 200)
    for stalled in watchers * 5:
        stalled.call(*_watch("live"))
    for stalled in watchers:
        await stalled.wait_answered()
    assert server.engine.watchers == server._grpc.bounds.open_streams == 1_000
    for stalled in watchers:
        stalled.reset()
    await _check_nothing_left(server, tasks)
    assert _errors(caplog) == []


async def test_a_deadline_that_passes_while_a_client_does_not_read_causes_no_error(
    serve: Serve, open_stalled_clients: OpenStalledClients, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    await connect(server).start(LIVE, run_id="live")
    tasks = len(asyncio.all_tasks())
    watchers = await open_stalled_clients(server.address, 5)
    for stalled in watchers * 3:
        stalled.call(*_watch("live"), timeout="100m")
    for stalled in watchers:
        await stalled.wait_answered()
    await _check_nothing_left(server, tasks)
    assert _errors(caplog) == []


def _watch(run_id: str) -> tuple[str, bytes]:
    return f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id=run_id).SerializeToString()


async def test_a_run_is_cancelled_when_its_only_attached_client_stops_reading_and_vanishes(
    serve: Serve, open_stalled_clients: OpenStalledClients, connect: Connect
) -> None:
    server = await serve()
    [stalled] = await open_stalled_clients(server.address, 1)
    request = pb.ExecuteWorkflowRequest(workflow=LIVE, run_id="blocked")
    stalled.call(f"{SERVICE}/ExecuteWorkflow", request.SerializeToString())
    await stalled.wait_answered()
    stalled.reset()
    assert end_of(await connect(server).events("blocked")).state == STATE_CANCELLED


async def test_log_records_of_other_servers_in_the_process_are_kept(
    serve: Serve, open_stalled_clients: OpenStalledClients, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(request: bytes, context: object) -> bytes:
        return b"an answer"

    await serve()
    other = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]]
    methods = {"Method": grpc.unary_unary_rpc_method_handler(answer)}
    other.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Other", methods),))
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    try:
        callers = await open_stalled_clients(
            f"127.0.0.1:{port}", 30
        )  # gRPC may notice a disconnect in time and report no error
        for stalled in callers:
            stalled.call("/Other/Method", b"")
        for stalled in callers:
            await stalled.wait_answered()
            stalled.reset()
        await eventually(lambda: bool(_errors(caplog)))
    finally:
        await other.stop(None)
    assert _errors(caplog)[0] == "ExecuteBatchError raised in core by servicer method [/Other/Method]"


async def test_a_response_that_is_too_large_to_send_is_reported_as_a_defect(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(await serve())
    await client.run(flow(step("a")), run_id="past")
    monkeypatch.setattr(handlers, "MAX_ANSWER_BYTES", 10)
    for refused in (await refusal(client.get("past")), await refusal(client.events("past"))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert caplog.text.count("bytes is larger than the 10 that can be sent") == 2


async def test_a_limit_of_request_size_does_not_limit_responses(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(max_message_bytes=1 << 16))
    steps = [step(f"s{i}", "large_output", given={"size": MAX_BYTES // 4}) for i in range(4)]
    assert end_of(await client.run(flow(*steps))).state == STATE_SUCCEEDED


class _HealthWatch:
    """A client that watches the health of a server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._call = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())

    async def next(self) -> str:
        async with asyncio.timeout(GUARD):
            message = await self._call.read()
        if message is grpc.aio.EOF:
            return "the end"
        name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(message.status)
        return name

    def cancel(self) -> None:
        self._call.cancel()


async def test_a_health_watcher_that_does_not_read_delays_no_other(
    serve: Serve, open_stalled_clients: OpenStalledClients, connect: Connect
) -> None:
    server = await serve()
    [stalled] = await open_stalled_clients(server.address, 1)
    stalled.call(f"{HEALTH}/Watch", health_pb2.HealthCheckRequest().SerializeToString())
    await stalled.wait_answered()
    watch = _HealthWatch(connect(server).channel)
    assert await watch.next() == "SERVING"
    async with asyncio.timeout(GUARD):
        await server._grpc.set_serving(serving=False)
    assert await watch.next() == "NOT_SERVING"
    stalled.reset()


async def test_a_health_watcher_that_leaves_ends_no_other(serve: Serve, connect: Connect) -> None:
    server = await serve()
    leaves, stays = (_HealthWatch(connect(server).channel) for _ in range(2))
    assert [await leaves.next(), await stays.next()] == ["SERVING", "SERVING"]
    tasks = len(asyncio.all_tasks())
    leaves.cancel()
    await eventually(lambda: len(asyncio.all_tasks()) < tasks)
    await server._grpc.set_serving(serving=False)
    assert await stays.next() == "NOT_SERVING"


async def test_health_watchers_do_not_delay_the_stop_of_a_server(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STREAM_GRACE", 10 * GUARD)
    server = await serve()
    watch = _HealthWatch(connect(server).channel)
    assert await watch.next() == "SERVING"
    async with asyncio.timeout(GUARD):
        await server.stop()
    assert [await watch.next(), await watch.next()] == ["NOT_SERVING", "the end"]
