"""Mutated requests against a live server: clean codes, no defects, and well-behaved callers are served on."""

import logging
import os
import random
from collections.abc import AsyncIterator
from itertools import islice

import grpc
import pytest
from grpc.aio import AioRpcError

from integration.hostile.mutations import METHODS, ODD_TEXTS, mutations, samples
from integration.hostile.texts import EXPRESSIONS, POINTERS, texts
from stepwave import AsyncClient, Workflow
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.app import Server
from stepwave_server.config import Settings
from waiting import until

COUNT = int(os.environ.get("STEPWAVE_FUZZ", "40"))
"""Mutations of each call. `make fuzz` sets more."""

CLEAN = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The codes with which a caller's own mistakes end. `INTERNAL` and `UNKNOWN` are defects of the server."""

WITHIN = 2.0
"""Seconds for each call: a mutation may be a valid watch of a run that waits."""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    settings = Settings(listen="127.0.0.1:0", entry_points=False, idle_timeout=1, step_timeout=1)
    async with Server(settings) as started:
        yield started


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(os.environ.get("STEPWAVE_SEED", request.node.name))


async def code_of(channel: grpc.aio.Channel, method: str, data: bytes) -> grpc.StatusCode:
    """Send bytes as the request of a call, read a few responses, and return how it ended."""
    descriptor = pb.DESCRIPTOR.services_by_name["OrchestratorService"].methods_by_name[method]
    path = f"/stepwave.v1.OrchestratorService/{method}"
    try:
        if descriptor.server_streaming:
            stream: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(path)
            async for _ in stream(data, timeout=WITHIN):
                pass
        else:
            unary: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
            await unary(data, timeout=WITHIN)
    except AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def check_served(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Check that the server has met no defect, and serves a well-behaved caller."""
    assert not [record for record in caplog.records if record.exc_info or "defect" in record.getMessage()]
    flow = Workflow("echo")
    flow.step("echo", "core.echo")
    async with AsyncClient(server.address) as client:
        assert (await client.run(flow, {"a": 1})).outputs == {"echo": {"a": 1}}


@pytest.mark.parametrize("method", METHODS)
async def test_mutated_requests_end_with_clean_codes(
    server: Server, draw: random.Random, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        started = samples("StartRun", "known").SerializeToString()
        assert await code_of(channel, "StartRun", started) is grpc.StatusCode.OK
        data = samples(method, "known").SerializeToString()
        with caplog.at_level(logging.WARNING):
            for sent in islice(mutations(data, draw), COUNT):
                assert await code_of(channel, method, sent) in CLEAN, (method, sent)
    await check_served(server, caplog)


async def test_odd_texts_in_every_string_end_with_clean_codes(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        for method in METHODS:
            request = samples(method, "known")
            names = [field.name for field in request.DESCRIPTOR.fields if field.type == field.TYPE_STRING]
            for name in names:
                for text in ODD_TEXTS:
                    changed = type(request)()
                    changed.CopyFrom(request)
                    if request.DESCRIPTOR.fields_by_name[name].is_repeated:
                        continue
                    setattr(changed, name, text)
                    code = await code_of(channel, method, changed.SerializeToString())
                    assert code in CLEAN, (method, name, text)
    await check_served(server, caplog)


async def test_mutated_pointers_and_expressions_end_with_clean_codes(
    server: Server, draw: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        for pointer, expression in islice(zip(texts(POINTERS, draw), texts(EXPRESSIONS, draw), strict=True), COUNT):
            request = samples("ExecuteWorkflow", "")
            assert isinstance(request, pb.ExecuteWorkflowRequest)
            [first, second, third] = request.workflow.steps[1].bindings
            if draw.random() < 0.5:
                first.step.path, third.input = pointer, pointer
            else:
                second.expression = expression
            assert await code_of(channel, "ExecuteWorkflow", request.SerializeToString()) in CLEAN, request
    await check_served(server, caplog)


async def test_large_and_deep_messages_are_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    request = pb.StartRunRequest(workflow=samples("StartRun", "x").workflow)  # type: ignore[attr-defined]  # by name
    request.input.json = deep
    async with grpc.aio.insecure_channel(server.address, options=[("grpc.max_send_message_length", -1)]) as channel:
        assert await code_of(channel, "StartRun", request.SerializeToString()) is grpc.StatusCode.INVALID_ARGUMENT
        for size in (4 << 20, 100 << 20):
            code = await code_of(channel, "StartRun", b"\x0a" + b"\xff" * size)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    await check_served(server, caplog)


async def test_reset_streams_leave_nothing_behind(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    flow = Workflow("waits")
    flow.step("wait", "core.wait")
    async with AsyncClient(server.address) as client:
        run = await client.start(flow)
        async with grpc.aio.insecure_channel(server.address) as channel:
            data = pb.WatchRunRequest(run_id=run.run_id).SerializeToString()
            watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(
                "/stepwave.v1.OrchestratorService/WatchRun"
            )
            for _ in range(500):
                watch(data).cancel()

        async def left() -> bool:
            return not server.engine.watchers

        await until(left)
        await client.complete_step(run.run_id, "wait")
    await check_served(server, caplog)
