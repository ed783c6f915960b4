"""Streams of the async client over real gRPC: attached, lost, resumed and left."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from integration.client.fake import GUARD, Context, Fake, batch, finished, run_finished, started
from stepwave import AsyncClient, DeadlineExceeded, ServerUnavailable, Workflow
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1 import run_pb2


def streams(*messages: pb.WatchRunResponse, then: Callable[[Context], Any] | None = None) -> Any:
    """Return a stream of messages, which ends with `then`, or closes."""

    async def streamer(request: Message, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        for message in messages:
            yield message
        if then is not None:
            await then(context)

    return streamer


async def block(_: Context) -> None:
    await asyncio.Event().wait()


async def disconnect(context: Context) -> None:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "lost")


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(GUARD):
        await event.wait()


async def test_a_lost_stream_is_resumed_after_its_last_event(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=disconnect)
    fake.watch = streams(batch(started(1), finished(2, "7")), batch(run_finished(3)))
    result = await client.run("w", run_id="r")
    assert result.steps["a"].output == 7
    assert fake.requests[1] == pb.WatchRunRequest(run_id="r", after_sequence=1, attach=True)


async def test_a_run_survives_a_restart_of_its_server(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=block)
    fake.watch = streams(batch(finished(2), run_finished(3)))
    async with client.run("w", run_id="r") as run:
        assert (await anext(run)).sequence == 1
        await fake.stop()
        await fake.start()
        assert [event.sequence async for event in run] == [2, 3]


async def test_a_stream_that_is_closed_before_the_end_is_resumed(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)))
    fake.watch = streams(batch(run_finished(2)))
    async with client.run("w", run_id="r") as run:
        assert [event.sequence async for event in run] == [1, 2]
    assert fake.names == ["ExecuteWorkflow", "WatchRun"]


async def test_a_resume_that_meets_a_limit_is_tried_again_when_the_server_says(fake: Fake, client: AsyncClient) -> None:
    resumed = streams(batch(run_finished(2)))

    async def full(_: Message, context: Context) -> AsyncIterator[pb.WatchRunResponse]:
        fake.watch = resumed
        status = status_pb2.Status(code=code_pb2.RESOURCE_EXHAUSTED)
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1000)))
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams", details)
        yield pb.WatchRunResponse()

    fake.execute = streams(batch(started(1)), then=disconnect)
    fake.watch = full
    async with client.run("w", run_id="r") as run:
        assert [event.sequence async for event in run] == [1, 2]
    assert fake.names == ["ExecuteWorkflow", "WatchRun", "WatchRun"]


async def test_leaving_a_run_early_cancels_it_and_frees_its_stream(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=block)
    async with client.run("w", run_id="r") as run:
        async for _ in run:
            break
    assert fake.cancelled.is_set()
    await wait_for(fake.freed)


async def test_leaving_a_watch_early_frees_its_stream_and_nothing_else(fake: Fake, client: AsyncClient) -> None:
    fake.watch = streams(batch(started(1)), then=block)
    async with client.watch("r") as events:
        async for _ in events:
            break
    await wait_for(fake.freed)
    assert fake.names == ["WatchRun"]


async def test_an_exception_inside_a_run_cancels_it(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=block)

    async def follow() -> None:
        async with client.run("w") as run:
            await anext(run)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await follow()
    assert fake.cancelled.is_set()


async def test_cancelling_the_task_that_awaits_a_run_cancels_the_run(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=block)
    task = asyncio.ensure_future(client.run("w"))
    await wait_for(fake.opened)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fake.cancelled.is_set()
    await wait_for(fake.freed)


async def test_cancelling_the_task_that_iterates_cancels_the_run(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=block)

    async def iterate() -> None:
        async with client.run("w") as run:
            async for _ in run:
                pass

    task = asyncio.create_task(iterate())
    await wait_for(fake.opened)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert fake.cancelled.is_set()


async def test_a_cancellation_waits_for_the_cancel_call(fake: Fake, client: AsyncClient) -> None:
    asked, go = asyncio.Event(), asyncio.Event()
    answered = []

    async def slowly(request: Message, context: Context) -> Message:
        asked.set()
        await go.wait()
        answered.append(request)
        return pb.CancelRunResponse()

    async def leave() -> None:
        async with client.run("w") as run:
            await anext(run)

    fake.execute = streams(batch(started(1)), then=block)
    fake.on_cancel = slowly
    task = asyncio.create_task(leave())
    await wait_for(asked)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert answered


async def test_a_second_cancellation_does_not_wait_for_the_server(fake: Fake, client: AsyncClient) -> None:
    asked = asyncio.Event()

    async def never(request: Message, context: Context) -> None:
        asked.set()
        await asyncio.Event().wait()

    fake.execute = streams(batch(started(1)), then=block)
    fake.on_cancel = never
    task = asyncio.ensure_future(client.run("w"))
    await wait_for(fake.opened)
    task.cancel()
    await wait_for(asked)
    task.cancel()
    async with asyncio.timeout(GUARD):
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_timeout_cancels_the_run_and_raises(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), then=block)
    with pytest.raises(DeadlineExceeded, match=r"run 'r' did not end within 0\.05 s"):
        await client.run("w", run_id="r", timeout=0.05)
    assert fake.cancelled.is_set()


async def test_a_wait_that_times_out_does_not_affect_the_run(fake: Fake, client: AsyncClient) -> None:
    with pytest.raises(DeadlineExceeded):
        await client.wait("r", timeout=0.05)
    await wait_for(fake.freed)
    assert not fake.cancelled.is_set()


async def test_a_run_that_is_neither_awaited_nor_entered_does_nothing(fake: Fake, client: AsyncClient) -> None:
    client.run(Workflow("w"))
    gc.collect()
    fake.answer = answers(pb.GetRunResponse())
    await client.get("r")
    assert fake.names == ["GetRun"]


async def test_iterating_outside_the_context_is_an_error(client: AsyncClient) -> None:
    before = "enter the context manager before iterating"
    with pytest.raises(RuntimeError, match=rf"{before}.*: `async with client\.watch\(…\) as events:`"):
        await anext(client.watch("r"))
    with pytest.raises(RuntimeError, match=rf"{before}.*: `async with client\.run\(…\) as run:`"):
        await anext(client.run("w"))


async def test_the_result_is_there_only_at_the_end(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), batch(run_finished(2)))
    async with client.run("w", run_id="r") as run:
        await anext(run)
        with pytest.raises(RuntimeError, match="run 'r' has not ended"):
            _ = run.result
        await anext(run)
        assert run.result.succeeded


async def test_a_run_can_be_awaited_from_the_middle_of_its_events(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(started(1)), batch(finished(2), run_finished(3)))
    async with client.run("w") as run:
        await anext(run)
        assert list((await run).steps) == ["a"]
    assert await run is run.result


async def test_a_closed_client_raises_runtime_error(client: AsyncClient) -> None:
    await client.close()
    await client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await client.get("r")


async def test_closing_the_client_ends_what_it_reads_with_an_error_and_not_with_a_cancellation(
    fake: Fake, client: AsyncClient
) -> None:
    async def read() -> None:
        async with client.watch("r") as events:
            await anext(events)

    task = asyncio.create_task(read())
    await wait_for(fake.opened)
    await client.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        await task


async def test_an_unreachable_server_is_named_by_its_address(fake: Fake) -> None:
    await fake.stop()
    async with AsyncClient(fake.address, connect_timeout=0.2) as client:
        for call in (client.get("r"), client.run("w")):
            with pytest.raises(ServerUnavailable, match=f"no server at {fake.address}") as caught:
                await call
            assert caught.value.address == fake.address


async def test_a_server_that_starts_late_is_found(fake: Fake, client: AsyncClient) -> None:
    await fake.stop()
    fake.answer = answers(pb.GetRunResponse(run=run_pb2.Run(run_id="r")))
    asking = asyncio.create_task(client.get("r"))
    for _ in range(3):
        await asyncio.sleep(0)  # the first attempt is under way
    await fake.start()
    assert (await asking).run_id == "r"


async def test_a_server_that_never_comes_back_is_given_up(fake: Fake) -> None:
    fake.execute = streams(batch(started(1)), then=block)
    async with AsyncClient(fake.address, reconnect_window=0.2) as client, client.run("w") as run:
        await anext(run)
        await fake.stop()
        with pytest.raises(ServerUnavailable, match="did not come back"):
            await anext(run)


async def test_a_message_of_three_mebibytes_is_read(fake: Fake, client: AsyncClient) -> None:
    text = "x" * (3 * 1024 * 1024)
    fake.execute = streams(batch(finished(1, f'"{text}"'), run_finished(2)))
    assert (await client.run("w")).steps["a"].output == text


async def test_a_callers_span_goes_along_with_calls_and_streams(fake: Fake, client: AsyncClient) -> None:
    fake.execute = streams(batch(run_finished(1)))
    fake.answer = answers(pb.GetRunResponse())
    with trace.use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=False, trace_flags=TraceFlags(1)))):
        await client.get("r")
        await client.run("w")
    expected = f"00-{1:032x}-{2:016x}-01"
    assert [metadata.get("traceparent") for metadata in fake.metadata] == [expected, expected]


def answers(message: Message) -> Any:
    async def answer(request: Message, context: Context) -> Message:
        return message

    return answer
