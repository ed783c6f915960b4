"""Both clients raise only exceptions of the SDK, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable

import grpc
import pytest
from google.protobuf.message import Message

from integration.client.fake import GUARD, Context, Fake, batch, run_finished
from stepwave import AsyncClient, Client, ServerUnavailable, State, StepwaveError
from stepwave.v1 import orchestrator_pb2 as pb

CODES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


async def caught(work: Callable[[Client], object], address: str) -> BaseException:
    """Use the sync client off the server's event loop, and return the exception it raises."""

    def do() -> BaseException:
        with Client(address, connect_timeout=0.05) as client, pytest.raises(Exception) as error:  # noqa: PT011 - any
            work(client)
        return error.value

    return await asyncio.to_thread(do)


@pytest.fixture(params=CODES, ids=lambda code: code.name)
def failing(request: pytest.FixtureRequest, fake: Fake) -> Fake:
    """Make every call and stream end with one code."""
    code: grpc.StatusCode = request.param

    async def answer(request: Message, context: Context) -> Message:
        await context.abort(code, "details")
        raise AssertionError("abort raises")

    async def stream(request: Message, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        await context.abort(code, "details")
        yield batch()

    fake.answer, fake.on_cancel, fake.execute, fake.watch = answer, answer, stream, stream
    return fake


async def test_the_async_client_raises_only_the_sdks_exceptions(failing: Fake) -> None:
    async with AsyncClient(failing.address, connect_timeout=0.05) as client:
        for call in (client.get("r"), client.result("r"), client.wait("r"), client.run("w"), client.plan("w")):
            with pytest.raises(StepwaveError) as error:
                await call
            assert not isinstance(error.value, grpc.RpcError)
        with pytest.raises(StepwaveError):
            _ = [run async for run in client.runs()]


async def test_the_sync_client_raises_the_same_exceptions(failing: Fake) -> None:
    async with AsyncClient(failing.address, connect_timeout=0.05) as client:
        with pytest.raises(StepwaveError) as unary:
            await client.get("r")
        with pytest.raises(StepwaveError) as stream:
            await client.run("w")
    assert repr(await caught(lambda client: client.get("r"), failing.address)) == repr(unary.value)
    assert repr(await caught(lambda client: client.run("w"), failing.address)) == repr(stream.value)
    assert isinstance(await caught(lambda client: list(client.steps("r")), failing.address), StepwaveError)


async def test_both_clients_name_an_unreachable_server(fake: Fake) -> None:
    await fake.stop()
    for work in (lambda client: client.get("r"), lambda client: client.run("w")):
        error = await caught(work, fake.address)
        assert isinstance(error, ServerUnavailable)
        assert str(error).startswith(f"no server at {fake.address}")


async def test_a_closed_sync_client_raises_runtime_error(fake: Fake) -> None:
    client = Client(fake.address)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        client.get("r")


async def test_closing_a_synchronous_client_ends_what_another_thread_reads(fake: Fake) -> None:
    client = Client(fake.address)

    def read() -> None:
        with client.watch("r") as events:
            next(events)

    reading = asyncio.create_task(asyncio.to_thread(read))
    await fake.opened.wait()
    await asyncio.to_thread(client.close)
    with pytest.raises(RuntimeError, match="this client is closed"):
        await reading


async def test_a_call_that_its_server_does_not_end_does_not_hold_up_a_synchronous_client(fake: Fake) -> None:
    async def execute(request: Message, context: Context) -> AsyncIterator[Message]:
        yield batch(run_finished(1))
        await asyncio.Event().wait()

    fake.execute = execute
    with Client(fake.address) as client:
        result = await asyncio.wait_for(asyncio.to_thread(client.run, "w", run_id="r"), GUARD)
        assert result.state is State.SUCCEEDED
        await asyncio.wait_for(fake.freed.wait(), GUARD)
