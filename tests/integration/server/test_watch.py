"""Watching a run: from any sequence number, at any time and pace, filtered or not."""

import asyncio
from collections.abc import Sequence
from itertools import count

import grpc
import pytest

from integration.server.build import end_of, flow, kind_of, kinds_of, seconds, sequences, step
from integration.server.controlled_actions import ControlledActions
from integration.server.fixture_types import Connect, Serve, eventually
from integration.server.raw_client import RawClient, refusal
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave_server.engine.attempts import lag
from stepwave_server.journal.sqlite.reader import Reader
from stepwave_server.wire.events.encode import Record

DIAMOND = flow(step("a"), step("b", after=["a"]), step("c", after=["a"]), step("d", after=["b", "c"]))


async def test_a_finished_run_can_be_watched_from_every_prefix(client: RawClient) -> None:
    events = await client.run(DIAMOND, run_id="past")
    for after in range(len(events) + 1):
        assert await client.watch("past", after=after).rest() == events[after:]


async def test_a_live_run_can_be_watched_from_every_prefix(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("a"), step("b", "controlled", after=["a"]), step("c", after=["b"])), run_id="live")
    await controlled.wait_started("b")
    so_far = (await client.get("live")).last_sequence
    streams = [client.watch("live", after=after) for after in range(so_far + 1)]
    for stream in streams[:-1]:  # each has seen all earlier events
        while not stream.seen or stream.seen[-1].sequence < so_far:
            await stream.message()
    controlled.release("b")
    events = await client.events("live")
    for after, stream in enumerate(streams):
        assert await stream.rest() == events[after:]


async def test_any_number_of_watchers_see_the_same(client: RawClient, controlled: ControlledActions) -> None:
    await client.start(flow(step("a", "controlled"), step("b", after=["a"])), run_id="shared")
    streams = [client.watch("shared") for _ in range(20)]
    for stream in streams:
        await stream.until("step_started", "a")
    controlled.release("a")
    first, *others = [await stream.rest() for stream in streams]
    assert sequences(first) == list(range(1, len(first) + 1))
    assert all(other == first for other in others)


async def test_a_number_beyond_a_finished_runs_end_is_out_of_range(client: RawClient) -> None:
    events = await client.run(flow(step("a")), run_id="past")
    refused = await refusal(client.watch("past", after=events[-1].sequence + 1).rest())
    assert (refused.code, refused.reason) == (grpc.StatusCode.OUT_OF_RANGE, "SEQUENCE_OUT_OF_RANGE")


async def test_a_number_that_a_live_run_has_not_reached_is_out_of_range(
    client: RawClient, controlled: ControlledActions
) -> None:
    await client.start(flow(step("a", "controlled")), run_id="live")
    await controlled.wait_started("a")
    refused = await refusal(client.watch("live", after=1_000).rest())
    assert refused.code is grpc.StatusCode.OUT_OF_RANGE
    assert "newest event" in refused.message


async def test_an_unknown_run_cannot_be_watched(client: RawClient) -> None:
    refused = await refusal(client.watch("nowhere").rest())
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_a_filter_lets_its_kinds_through_and_the_end(client: RawClient) -> None:
    await client.run(DIAMOND, run_id="past")
    events = await client.watch("past", kinds=[event_pb2.EVENT_KIND_WAVE_STARTED]).rest()
    assert kinds_of(events) == ["wave_started", "wave_started", "wave_started", "run_finished"]


async def test_execute_filters_too(client: RawClient) -> None:
    events = await client.execute(DIAMOND, kinds=[event_pb2.EVENT_KIND_STEP_FINISHED]).rest()
    assert kinds_of(events) == ["step_finished"] * 4 + ["run_finished"]


async def test_a_filtered_stream_reports_its_position(client: RawClient) -> None:
    events = await client.run(DIAMOND, run_id="past")
    stream = client.watch("past", kinds=[event_pb2.EVENT_KIND_RUN_FINISHED])
    await stream.rest()
    assert stream.position == events[-1].sequence


@pytest.mark.one_server("a run of more steps than Temporal takes")
async def test_a_filter_passes_over_long_stretches_at_once(client: RawClient) -> None:
    """More bytes than one batch has are filtered out. The watcher reads on and sends no heartbeat."""
    await client.run(flow(*(step(f"step_{i}") for i in range(5_000))), run_id="wide")
    stream = client.watch("wide", kinds=[event_pb2.EVENT_KIND_RUN_FINISHED])
    assert kinds_of(await stream.rest()) == ["run_finished"]
    assert stream.messages == 1


@pytest.mark.parametrize("kind", [0, 9, 99, 1_000])
async def test_an_unknown_kind_is_refused(client: RawClient, kind: int) -> None:
    request = pb.WatchRunRequest(run_id="past")
    request.kinds.append(event_pb2.EventKind.ValueType(kind))
    call = client.stub.WatchRun(request)
    refused = await refusal(call.read())
    assert refused.code is grpc.StatusCode.UNIMPLEMENTED
    assert refused.fields == ["kinds"]


async def test_a_silent_stream_sends_heartbeats(serve: Serve, connect: Connect, controlled: ControlledActions) -> None:
    client = connect(await serve(heartbeat=0.05))
    async with client.execute(flow(step("a", "controlled"))) as run:
        started = await run.until("step_started", "a")
        assert [await run.message(), await run.message()] == [[], []]
        assert run.position == started.sequence
        controlled.release("a")
        assert sequences(await run.rest()) == [1, 2, 3, 4, 5, 6]


async def test_a_filtered_stream_sends_heartbeats_too(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(heartbeat=0.05))
    async with client.execute(flow(step("a", "controlled")), kinds=[event_pb2.EVENT_KIND_WAVE_FINISHED]) as run:
        await controlled.wait_started("a")
        while not run.position:
            assert await run.message() == []
        assert run.position == 3


@pytest.mark.one_server("a run of many steps, for the speed of its stream")
async def test_a_slow_watcher_delays_no_other_and_loses_no_numbered_event(client: RawClient) -> None:
    """The unread events are more than the transport buffers: 16 MB."""
    wide = flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(40)))
    slow = client.execute(wide, run_id="wide", window=60)
    await slow.until("run_started")
    others = await client.events("wide")
    assert kind_of(others[-1]) == "run_finished"
    assert await slow.rest() == others


async def test_a_watcher_that_leaves_during_a_write_is_forgotten_without_a_warning(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    client = connect(server)
    wide = flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(40)))
    async with client.execute(wide, run_id="wide") as slow:
        await slow.until("run_started")
        await client.events("wide")
        assert server.engine.watchers == 1
    await eventually(lambda: server.engine.watchers == 0)
    names = [record.name for record in caplog.records if record.name.startswith("stepwave_server")]
    assert [name for name in names if name != lag.__name__] == []  # a busy machine may lag meanwhile


async def test_a_watch_after_the_end_of_a_finished_run_is_empty(client: RawClient) -> None:
    events = await client.run(flow(step("a")), run_id="past")
    assert await client.watch("past", after=events[-1].sequence).rest() == []


async def test_watchers_that_have_left_are_forgotten(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    server = await serve()
    client = connect(server)
    await client.start(flow(step("a", "controlled")), run_id="live")
    async with client.watch("live") as gone:
        await gone.until("step_started", "a")
        assert server.engine.watchers == 1
    await eventually(lambda: server.engine.watchers == 0)


@pytest.mark.one_server("it deletes ended runs by its own settings")
async def test_retention_keeps_runs_that_are_still_read(serve: Serve, connect: Connect) -> None:
    """All runs have ended before the first is read to its end, and retention keeps only one."""
    server = await serve(keep_runs=1)
    client = connect(server)
    runs = [client.execute(flow(step("a"), step("b", after=["a"]))) for _ in range(5)]
    for run in runs:
        await run.until("run_started")
    await eventually(lambda: server.engine.attempts_in_flight == 0)
    for run in runs:
        assert end_of(await run.rest()).counts.succeeded == 2


async def test_deleting_a_run_ends_the_streams_that_still_read_it(client: RawClient) -> None:
    wide = flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(40)))
    slow = client.execute(wide, run_id="wide", window=60)
    await slow.until("run_started")
    await client.events("wide")
    await client.delete("wide")
    refused = await refusal(slow.rest())
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")


async def test_the_first_event_has_the_runs_deadline(client: RawClient) -> None:
    plan, *_ = await client.run(flow(step("a"), timeout=90))
    late = plan.time.ToNanoseconds() + seconds(90).ToNanoseconds()
    assert plan.run_started.deadline.ToNanoseconds() == late


@pytest.mark.parametrize("serve", ["sqlite"], indirect=True)
@pytest.mark.parametrize("reads", [1, 2, 40])
async def test_deleting_a_run_ends_a_stream_that_reads_its_events_from_the_file(
    client: RawClient, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """The deletion comes after the watcher has asked for events, and before they are read."""
    asked, deleted = asyncio.Event(), asyncio.Event()
    numbers = count(1)
    events = Reader.events

    async def read_after_deletion(reader: Reader, run: int, after: int, last: int, max_bytes: int) -> Sequence[Record]:
        if next(numbers) == reads:
            asked.set()
            await deleted.wait()
        return await events(reader, run, after, last, max_bytes)

    await client.run(flow(*(step(f"s{i}", "large_output", given={"size": 400_000}) for i in range(40))), run_id="wide")
    monkeypatch.setattr(Reader, "events", read_after_deletion)
    refusing = asyncio.create_task(refusal(client.watch("wide").rest()))
    await asked.wait()
    await client.delete("wide")
    deleted.set()
    refused = await refusing
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "RUN_NOT_FOUND")
