"""Streaming actions: their chunks, and the outputs that these make up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from integration.server.build import end_of, finished, flow, kind_of, reason_of, state_of, step, value_of
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import GUARD
from stepwave import Answer, Blob, Context, action
from stepwave.v1 import event_pb2
from stepwave.v1.event_pb2 import RunEvent

ONE = flow(step("s", "streams"))


def _chunks(events: list[RunEvent]) -> list[object]:
    return [value_of(event.step_chunk.payload) for event in events if event.HasField("step_chunk")]


def _answer(events: list[RunEvent], step_id: str = "s") -> object:
    result = finished(events)[step_id]
    assert state_of(result.state) == "succeeded", result.failure.message
    return value_of(result.output)


async def test_an_async_generators_chunks_are_shown_in_order(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        for word in ("to", "be", "or"):
            yield word

    events = await connect(await serve(streams)).run(ONE)
    assert _chunks(events) == ["to", "be", "or"]
    assert [event.step_chunk.index for event in events if event.HasField("step_chunk")] == [0, 1, 2]


async def test_a_sync_generators_chunks_are_shown_in_order(serve: Serve, connect: Connect) -> None:
    @action
    def streams() -> Iterator[str]:
        yield from ("to", "be", threading.current_thread().name)

    assert _chunks(await connect(await serve(streams)).run(ONE)) == ["to", "be", "stepwave-action"]


async def test_chunks_come_between_their_steps_start_and_end(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[int]:
        for number in range(10):
            yield number
            await asyncio.sleep(0)

    events = await connect(await serve(streams)).run(
        flow(step("s", "streams"), step("t", "streams"), step("u", after=["s"]))
    )
    for step_id in ("s", "t"):
        about = [event for event in events if f'step_id: "{step_id}"' in str(event)]
        kinds = [kind_of(event) for event in about if not event.HasField("run_started")]
        assert kinds == ["step_started", *["step_chunk"] * 10, "step_finished"]


async def test_a_chunk_is_seen_while_its_action_runs(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def streams(context: Context) -> AsyncIterator[str]:
        yield "first"
        await controlled.wait_released(context.step_id)
        yield "last"

    async with connect(await serve(streams)).execute(ONE) as run:
        assert value_of((await run.until("step_chunk")).step_chunk.payload) == "first"
        controlled.release("s")
        assert _answer(await run.rest()) == "firstlast"


async def test_chunks_that_are_strings_are_joined(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        yield "wor"
        yield "ds"

    assert _answer(await connect(await serve(streams)).run(ONE)) == "words"


async def test_other_chunks_become_a_list(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[object]:
        yield "a"
        yield {"b": 1}

    assert _answer(await connect(await serve(streams)).run(ONE)) == ["a", {"b": 1}]


async def test_a_stream_without_chunks_answers_with_an_empty_list(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[int]:
        for number in list[int]():
            yield number

    assert _answer(await connect(await serve(streams)).run(ONE)) == []


async def test_a_stream_of_strings_without_chunks_answers_with_an_empty_string(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        for word in list[str]():
            yield word

    assert _answer(await connect(await serve(streams)).run(ONE)) == ""


@pytest.mark.parametrize("value", [None, {"words": 2}, "streams"])
async def test_an_explicit_answer_is_the_output_and_not_a_chunk(serve: Serve, connect: Connect, value: object) -> None:
    @action
    async def streams() -> AsyncIterator[object]:
        yield "wor"
        yield "ds"
        yield Answer(value)  # type: ignore[arg-type]  # parametrized

    events = await connect(await serve(streams)).run(ONE)
    assert _chunks(events) == ["wor", "ds"]
    assert _answer(events) == value


async def test_an_explicit_answer_of_a_sync_generator_is_the_output(serve: Serve, connect: Connect) -> None:
    @action
    def streams() -> Iterator[object]:
        yield "draft"
        yield Answer(7)

    assert _answer(await connect(await serve(streams)).run(ONE)) == 7


async def test_a_chunk_after_the_answer_fails_the_step(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[object]:
        yield Answer(1)
        yield 2

    failure = finished(await connect(await serve(streams)).run(ONE))["s"].failure
    assert (reason_of(failure), failure.message) == ("action_error", "it went on after its answer")


async def test_chunks_may_be_blobs(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[object]:
        yield Blob(b"\x00\xff", "image/png")
        yield Answer(Blob(b"\x01"))

    events = await connect(await serve(streams)).run(ONE)
    chunk = next(event.step_chunk for event in events if event.HasField("step_chunk"))
    assert (chunk.payload.blob.content_type, chunk.payload.blob.data) == ("image/png", b"\x00\xff")
    assert finished(events)["s"].output.blob.data == b"\x01"


@pytest.mark.one_server("progress just before the end of an action is not sent: tests/conformance/test_progress.py")
async def test_any_action_can_emit_chunks_and_progress(serve: Serve, connect: Connect) -> None:
    @action
    async def streams(context: Context) -> str:
        context.emit({"draft": 1})
        context.progress(0.5, "half way")
        context.emit({"draft": 2})
        return "done"

    events = await connect(await serve(streams)).run(ONE)
    chunks = [event.step_chunk for event in events if event.HasField("step_chunk")]
    assert [value_of(chunk.payload) for chunk in chunks] == [{"draft": 1}, {"draft": 2}]
    assert [chunk.index for chunk in chunks] == [0, 1]
    progress = next(event.step_progress for event in events if event.HasField("step_progress"))
    assert (progress.step_id, progress.attempt, progress.fraction, progress.message) == ("s", 1, 0.5, "half way")
    assert _answer(events) == "done"


@pytest.mark.one_server("progress just before the end of an action is not sent: tests/conformance/test_progress.py")
async def test_progress_without_a_known_fraction_has_none(serve: Serve, connect: Connect) -> None:
    @action
    async def streams(context: Context) -> None:
        context.progress(message="still there")

    events = await connect(await serve(streams)).run(ONE)
    progress = next(event.step_progress for event in events if event.HasField("step_progress"))
    assert not progress.HasField("fraction")


async def test_an_action_on_a_thread_can_emit(serve: Serve, connect: Connect) -> None:
    @action
    def streams(context: Context) -> None:
        for number in range(50):
            context.emit(number)

    assert _chunks(await connect(await serve(streams)).run(ONE)) == list(range(50))


async def test_emitting_a_value_that_json_cannot_hold_raises_in_the_action(serve: Serve, connect: Connect) -> None:
    @action
    async def streams(context: Context) -> str:
        try:
            context.emit(float("nan"))
        except ValueError as error:
            return str(error)
        return "accepted"

    assert "JSON cannot hold" in str(_answer(await connect(await serve(streams)).run(ONE)))


async def test_transient_events_have_no_number_and_are_not_replayed(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        yield "gone"

    client = connect(await serve(streams))
    live = await client.run(ONE, run_id="past")
    assert [event.sequence for event in live if event.HasField("step_chunk")] == [0]
    assert await client.events("past") == [event for event in live if event.sequence]


@pytest.mark.one_server("its chunks come in the first message: tests/conformance/test_chunks.py")
async def test_a_late_watcher_gets_the_chunks_so_far(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def streams(context: Context) -> AsyncIterator[str]:
        yield "early"
        yield "bird"
        context.progress(0.9, "nearly")
        await controlled.wait_released(context.step_id)
        yield "late"

    client = connect(await serve(streams))
    await client.start(ONE, run_id="live")
    await controlled.wait_started("s")
    for after in (0, 3):
        async with client.watch("live", after=after) as late:
            progress = await late.until("step_progress")
            assert progress.step_progress.message == "nearly"
            assert _chunks(late.seen) == ["early", "bird"]
    controlled.release("s")
    await client.events("live")


async def test_transient_events_of_a_step_are_forgotten_when_it_has_ended(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def streams(context: Context) -> AsyncIterator[str]:
        yield "early"
        context.progress(1.0)

    client = connect(await serve(streams))
    await client.start(flow(step("s", "streams"), step("t", "controlled", after=["s"])), run_id="live")
    await controlled.wait_started("t")
    late = client.watch("live")
    await late.until("step_started", "t")
    controlled.release("t")
    assert all(event.sequence for event in await late.rest())


async def test_chunks_are_filtered_like_other_kinds(serve: Serve, connect: Connect) -> None:
    @action
    async def streams(context: Context) -> AsyncIterator[str]:
        yield "a"
        context.progress(0.5)
        yield "b"

    client = connect(await serve(streams))
    events = await client.execute(ONE, kinds=[event_pb2.EVENT_KIND_STEP_CHUNK]).rest()
    assert [kind_of(event) for event in events] == ["step_chunk", "step_chunk", "run_finished"]


async def test_a_stream_that_raises_fails_its_step_without_an_output(serve: Serve, connect: Connect) -> None:
    @action
    async def streams() -> AsyncIterator[str]:
        yield "half"
        raise ValueError("lost the thread")

    events = await connect(await serve(streams)).run(ONE)
    assert _chunks(events) == ["half"]
    assert finished(events)["s"].failure.message == "ValueError: lost the thread"
    assert not finished(events)["s"].HasField("output")


async def test_a_cancelled_stream_is_closed(serve: Serve, connect: Connect, controlled: ControlledActions) -> None:
    closed = asyncio.Event()

    @action
    async def streams(context: Context) -> AsyncIterator[str]:
        try:
            yield "first"
            await controlled.wait_released(context.step_id)
        finally:
            closed.set()

    client = connect(await serve(streams))
    await client.start(ONE, run_id="live")
    await controlled.wait_started("s")
    await client.cancel("live")
    assert state_of(end_of(await client.events("live")).state) == "cancelled"
    assert closed.is_set()


async def test_an_abandoned_sync_stream_ends_with_its_next_chunk(serve: Serve, connect: Connect) -> None:
    begun, released, closed = threading.Event(), threading.Event(), threading.Event()
    yielded: list[str] = []

    @action
    def streams() -> Iterator[str]:
        try:
            begun.set()
            released.wait(GUARD)
            while True:
                yielded.append("and so on")
                yield yielded[-1]
        finally:
            closed.set()

    client = connect(await serve(streams))
    await client.start(ONE, run_id="live")
    assert await asyncio.to_thread(begun.wait, GUARD)
    await client.cancel("live")
    events = await client.events("live")
    assert finished(events)["s"].abandoned
    released.set()
    assert await asyncio.to_thread(closed.wait, GUARD)
    assert yielded == ["and so on"]


async def test_reports_of_an_abandoned_attempt_are_ignored(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    lines: list[Context] = []

    @action
    async def streams(context: Context) -> None:
        lines.append(context)
        await controlled.wait_released(context.step_id)

    client = connect(await serve(streams))
    await client.start(flow(step("s", "streams"), step("t", "controlled")), run_id="live")
    await controlled.wait_started("s", "t")
    async with client.watch("live") as watch:
        controlled.release("s")
        await watch.until("step_finished", "s")
        lines[0].emit("late")
        lines[0].progress(1.0)
        controlled.release("t")
        assert all(event.sequence for event in await watch.rest())
