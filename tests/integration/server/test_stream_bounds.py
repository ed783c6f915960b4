"""Limits of streams: for one watcher, in one message, and in all."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from integration.server.build import end_of, finished, flow, reason_of, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from stepwave import Context, action
from stepwave.v1 import workflow_pb2
from stepwave.v1.event_pb2 import RunEvent

pytestmark = pytest.mark.one_server("it keeps chunks in its memory")

ONE = flow(step("s", "streams"))


def _chunks(events: list[RunEvent]) -> list[object]:
    return [value_of(event.step_chunk.payload) for event in events if event.HasField("step_chunk")]


async def test_the_recent_chunks_of_a_long_stream_are_kept_up_to_a_limit(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def streams(context: Context) -> None:
        for number in range(40):
            context.emit(f"{number:03}" + "x" * 10_000)
        await controlled.wait_released(context.step_id)

    client = connect(await serve(streams))
    await client.start(ONE, run_id="live")
    await controlled.wait_started("s")
    late = client.watch("live")
    await late.until("step_chunk")
    controlled.release("s")
    numbers = [int(str(chunk)[:3]) for chunk in _chunks(await late.rest())]
    assert numbers[-1] == 39
    assert 0 < len(numbers) < 10
    assert numbers == list(range(numbers[0], 40))


async def test_no_burst_of_chunks_makes_a_message_too_long(serve: Serve, connect: Connect) -> None:
    """The client accepts no message over 3 MiB."""

    @action
    async def streams(context: Context) -> str:
        for _ in range(12):
            context.emit("x" * 900_000)
        return "y" * 900_000

    events = await connect(await serve(streams)).run(ONE)
    assert len(str(value_of(finished(events)["s"].output))) == 900_000


async def test_chunks_and_a_large_end_together_make_no_message_too_long(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    """A megabyte of chunks, one of outputs, one of failures, and many skipped steps, all in one turn of the loop."""

    @action
    async def streams(context: Context) -> None:
        context.emit("x" * 1_040_000)
        raise ValueError

    controlled.release_all()
    bad = [step(f"bad{i}", "fails", given={"message": "🙂" * 3_000}) for i in range(70)]
    early = ["big", *(spec.id for spec in bad)]
    last = step("last", "streams", after=early, join=workflow_pb2.JOIN_ALL_DONE)
    skipped = [step(f"a-step-that-is-skipped-in-the-end-{i}", after=["last"]) for i in range(1_200)]
    wide = flow(
        step("big", "large_output", given={"size": 1_040_000}),
        *bad,
        last,
        *skipped,
        failure_policy=workflow_pb2.FAILURE_POLICY_CONTINUE,
        outputs=["big"],
    )
    result = end_of(await connect(await serve(streams)).run(wide))
    assert result.ByteSize() > 2_000_000
    assert (result.counts.failed, result.counts.skipped) == (71, 1_200)


async def test_a_slow_watcher_misses_chunks_rather_than_use_memory(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    """There are more chunks than the transport and the watcher's queue hold together, and the client does not read."""

    @action
    async def streams(context: Context) -> None:
        await controlled.wait_released(context.step_id)
        for _ in range(60):
            context.emit("x" * 500_000)
            await asyncio.sleep(0)

    client = connect(await serve(streams))
    slow = client.execute(flow(step("s", "streams")), run_id="live", window=60)
    await slow.until("step_started", "s")
    controlled.release("s")
    others = await client.events("live")
    events = await slow.rest()
    assert [event for event in events if event.sequence] == [event for event in others if event.sequence]
    assert len(_chunks(events)) < 60


async def test_chunks_that_exceed_the_payload_limit_together_fail_the_step(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        for _ in range(5):
            yield "x" * 300_000

    failure = finished(await connect(await serve(streams)).run(ONE))["s"].failure
    assert reason_of(failure) == "resource_exhausted"
