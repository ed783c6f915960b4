"""Callers that stop reading and go away: no errors, whatever they called, and they leave nothing behind."""

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
from integration.server.caller import GUARD, MAX_BYTES, refusal
from integration.server.deaf import Deaf
from integration.server.serving import Call, Serve, settles
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
LIVE = flow(*(step(f"s{i}", "gated") for i in range(20)))

CALLS = {
    "watch": (f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id="live")),
    "watch of a run that has ended": (f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id="past")),
    "attached watch": (f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id="live", attach=True)),
    "execute": (f"{SERVICE}/ExecuteWorkflow", pb.ExecuteWorkflowRequest(workflow=LIVE)),
    "export": (f"{SERVICE}/ExportRun", pb.ExportRunRequest(run_id="past")),
    "get": (f"{SERVICE}/GetRun", pb.GetRunRequest(run_id="past")),
    "steps": (f"{SERVICE}/ListStepResults", pb.ListStepResultsRequest(run_id="past")),
    "start": (f"{SERVICE}/StartRun", pb.StartRunRequest(workflow=flow(step("a")))),
    "refused": (f"{SERVICE}/GetRun", pb.GetRunRequest(run_id="none")),
    "unknown": (f"{SERVICE}/Unheard", pb.GetRunRequest()),
    "health": (f"{HEALTH}/Check", health_pb2.HealthCheckRequest()),
    "health watch": (f"{HEALTH}/Watch", health_pb2.HealthCheckRequest()),
    "reflection": (REFLECTION, reflection_pb2.ServerReflectionRequest(list_services="*")),
}

DEPARTURES = {way: methodcaller(way) for way in ("reset", "close", "cancel")}


class Deafs(Protocol):
    """Opens so many connections of callers that never take an answer; they close with the test."""

    async def __call__(self, address: str, number: int) -> list[Deaf]: ...


@pytest.fixture
async def deafs(quiet: None) -> AsyncIterator[Deafs]:
    opened: list[Deaf] = []

    async def open_several(address: str, number: int) -> list[Deaf]:
        fresh = [await Deaf.connect(address) for _ in range(number)]
        opened.extend(fresh)
        return fresh

    yield open_several
    for deaf in opened:
        await deaf.closed()


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    suspects = (record for record in caplog.records if record.name != lag.logger.name)  # it speaks of a busy machine
    return [record.getMessage() for record in suspects if record.levelno >= logging.WARNING]


async def _nothing_is_left(server: Server, tasks: int) -> None:
    bounds = server._grpc.bounds
    await settles(lambda: len(asyncio.all_tasks()) <= tasks)
    assert (server.engine.watchers, bounds.open_streams, bounds.open_calls) == (0, 0, 0)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("way", DEPARTURES)
async def test_a_caller_that_goes_away_is_no_error(
    serve: Serve, deafs: Deafs, call: Call, caplog: pytest.LogCaptureFixture, name: str, way: str
) -> None:
    server = await serve()
    caller = call(server)
    await caller.start(LIVE, run_id="live")
    await caller.run(flow(step("a")), run_id="past")
    path, request = CALLS[name]
    tasks = len(asyncio.all_tasks())
    callers = await deafs(server.address, 5)
    for deaf in callers * 3:
        deaf.call(path, request.SerializeToString())
    for deaf in callers:
        await deaf.answered()
        DEPARTURES[way](deaf)
    await _nothing_is_left(server, tasks)
    assert _errors(caplog) == []


async def test_a_thousand_watchers_that_stop_reading_and_vanish_are_no_error_and_leave_nothing(
    serve: Serve, deafs: Deafs, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    await call(server).start(LIVE, run_id="live")
    tasks = len(asyncio.all_tasks())
    watchers = await deafs(server.address, 200)
    for deaf in watchers * 5:
        deaf.call(*_watch("live"))
    for deaf in watchers:
        await deaf.answered()
    assert server.engine.watchers == server._grpc.bounds.open_streams == 1_000
    for deaf in watchers:
        deaf.reset()
    await _nothing_is_left(server, tasks)
    assert _errors(caplog) == []


async def test_callers_whose_deadline_passes_while_they_do_not_read_are_no_error(
    serve: Serve, deafs: Deafs, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    await call(server).start(LIVE, run_id="live")
    tasks = len(asyncio.all_tasks())
    watchers = await deafs(server.address, 5)
    for deaf in watchers * 3:
        deaf.call(*_watch("live"), timeout="100m")
    for deaf in watchers:
        await deaf.answered()
    await _nothing_is_left(server, tasks)
    assert _errors(caplog) == []


def _watch(run_id: str) -> tuple[str, bytes]:
    return f"{SERVICE}/WatchRun", pb.WatchRunRequest(run_id=run_id).SerializeToString()


async def test_a_run_whose_only_holder_stopped_reading_and_vanished_is_cancelled(
    serve: Serve, deafs: Deafs, call: Call
) -> None:
    server = await serve()
    [holder] = await deafs(server.address, 1)
    request = pb.ExecuteWorkflowRequest(workflow=LIVE, run_id="held")
    holder.call(f"{SERVICE}/ExecuteWorkflow", request.SerializeToString())
    await holder.answered()
    holder.reset()
    assert end_of(await call(server).events("held")).state == STATE_CANCELLED


async def test_other_servers_of_the_process_keep_their_log(
    serve: Serve, deafs: Deafs, caplog: pytest.LogCaptureFixture
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
        callers = await deafs(f"127.0.0.1:{port}", 30)  # gRPC may learn that a caller has gone in time to say nothing
        for deaf in callers:
            deaf.call("/Other/Method", b"")
        for deaf in callers:
            await deaf.answered()
            deaf.reset()
        await settles(lambda: bool(_errors(caplog)))
    finally:
        await other.stop(None)
    assert _errors(caplog)[0] == "ExecuteBatchError raised in core by servicer method [/Other/Method]"


async def test_an_answer_that_is_too_large_to_be_sent_is_a_defect_of_the_server(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caller = call(await serve())
    await caller.run(flow(step("a")), run_id="past")
    monkeypatch.setattr(handlers, "MAX_ANSWER_BYTES", 10)
    for refused in (await refusal(caller.get("past")), await refusal(caller.events("past"))):
        assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert caplog.text.count("bytes is larger than the 10 that can be sent") == 2


async def test_a_server_that_takes_small_messages_alone_sends_large_ones(serve: Serve, call: Call) -> None:
    caller = call(await serve(max_message_bytes=1 << 16))
    steps = [step(f"s{i}", "bulk", given={"size": MAX_BYTES // 4}) for i in range(4)]
    assert end_of(await caller.run(flow(*steps))).state == STATE_SUCCEEDED


class _HealthWatch:
    """A watch of a server's health by one who listens."""

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


async def test_a_watcher_of_health_that_does_not_read_holds_nobody_up(serve: Serve, deafs: Deafs, call: Call) -> None:
    server = await serve()
    [deaf] = await deafs(server.address, 1)
    deaf.call(f"{HEALTH}/Watch", health_pb2.HealthCheckRequest().SerializeToString())
    await deaf.answered()
    watch = _HealthWatch(call(server).channel)
    assert await watch.next() == "SERVING"
    async with asyncio.timeout(GUARD):
        await server._grpc.set_serving(serving=False)
    assert await watch.next() == "NOT_SERVING"
    deaf.reset()


async def test_a_watcher_of_health_that_leaves_takes_nobody_with_it(serve: Serve, call: Call) -> None:
    server = await serve()
    leaves, stays = (_HealthWatch(call(server).channel) for _ in range(2))
    assert [await leaves.next(), await stays.next()] == ["SERVING", "SERVING"]
    tasks = len(asyncio.all_tasks())
    leaves.cancel()
    await settles(lambda: len(asyncio.all_tasks()) < tasks)
    await server._grpc.set_serving(serving=False)
    assert await stays.next() == "NOT_SERVING"


async def test_watchers_of_health_do_not_hold_up_the_end_of_a_server(
    serve: Serve, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "STREAM_GRACE", 10 * GUARD)
    server = await serve()
    watch = _HealthWatch(call(server).channel)
    assert await watch.next() == "SERVING"
    async with asyncio.timeout(GUARD):
        await server.stop()
    assert [await watch.next(), await watch.next()] == ["NOT_SERVING", "the end"]
