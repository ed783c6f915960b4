"""What actions log: streamed as transient events, and kept for `ListRunLogs`."""

import asyncio
import logging
import threading
from collections.abc import Iterable

import grpc
import pytest

from integration.server.build import end_of, flow, kinds_of, retry, sequences, state_of, step
from integration.server.controlled_actions import ControlledActions
from integration.server.faults import Faults, ends
from integration.server.fixture_types import Connect, Serve
from integration.server.raw_client import RawClient, refusal
from stepwave import Context, action
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb
from stepwave.v1.event_pb2 import RunEvent
from stepwave_server.actions.logs import capture_logs
from stepwave_server.app import Server
from stepwave_server.engine.local import LocalEngine
from stepwave_server.engine.streams.logs import MAX_RECORDS

ONE = flow(step("s", "talks"))


async def logs(client: RawClient, run_id: str, step_id: str = "", size: int = 0) -> list[RunEvent]:
    """Return the messages that are kept of a run, fetched page by page."""
    found: list[RunEvent] = []
    token = ""
    while True:
        request = pb.ListRunLogsRequest(run_id=run_id, step_id=step_id, page_size=size, page_token=token)
        page = await client.stub.ListRunLogs(request)
        assert not size or len(page.events) <= size
        found += page.events
        token = page.next_page_token
        if not token:
            return found


def messages(events: Iterable[RunEvent]) -> list[str]:
    return [event.step_log.message for event in events if event.HasField("step_log")]


@action
async def talks(context: Context, messages: int = 2) -> None:
    """Log some messages."""
    for number in range(messages):
        context.logger.info("message %d", number)


async def test_messages_are_streamed_at_once_and_kept(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(talks))
    events = await client.run(ONE, run_id="one")
    assert kinds_of(events)[2:6] == ["step_started", "step_log", "step_log", "step_finished"]
    kept = await logs(client, "one")
    assert kept == [event for event in events if event.HasField("step_log")]
    first = kept[0]
    assert (first.run_id, first.sequence) == ("one", 0)
    assert events[2].time.ToNanoseconds() <= first.time.ToNanoseconds() <= events[5].time.ToNanoseconds()
    assert first.step_log == event_pb2.StepLog(
        index=1,
        step_id="s",
        attempt=1,
        level=event_pb2.LOG_LEVEL_INFO,
        logger="stepwave.action",
        message="message 0",
    )


async def test_messages_are_streamed_while_the_action_runs(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    @action
    async def talks(context: Context) -> None:
        context.logger.warning("before")
        await controlled.wait_released(context.step_id)

    client = connect(await serve(talks))
    async with client.execute(ONE, window=60) as run:
        assert (await run.until("step_log", "s")).step_log.message == "before"
        controlled.release("s")
        assert state_of(end_of(await run.rest()).state) == "succeeded"


async def test_the_messages_of_threads_are_streamed_and_kept_in_order(serve: Serve, connect: Connect) -> None:
    @action
    def talks(context: Context) -> None:
        context.logger.info("on the thread of the action")
        bare = threading.Thread(target=context.logger.info, args=("on a thread of its own",))
        bare.start()
        bare.join()
        context.logger.info("at the end")

    client = connect(await serve(talks))
    events = await client.run(ONE, run_id="one")
    expected = ["on the thread of the action", "on a thread of its own", "at the end"]
    assert messages(events) == messages(await logs(client, "one")) == expected


async def test_a_thread_that_logs_a_lot_delays_no_other_run_and_its_newest_messages_are_kept(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    stop = threading.Event()

    @action
    def floods(context: Context) -> None:
        while not stop.is_set():
            context.logger.info("again")
        context.logger.info("the last")

    client = connect(await serve(floods))
    try:
        async with client.execute(flow(step("s", "floods")), run_id="flood", window=60) as flood:
            await flood.until("step_log")
            controlled.release_all()
            other = await client.run(flow(step("a", "controlled"), step("b", after=["a"])))
            assert state_of(end_of(other).state) == "succeeded"
            stop.set()
            events = await flood.rest()
    finally:
        stop.set()
    kept = await logs(client, "flood")
    indexes = [event.step_log.index for event in kept]
    assert indexes == list(range(indexes[0], indexes[0] + len(kept)))
    assert messages(kept)[-1] == "the last"
    assert sequences(events) == [*range(1, len(sequences(events)) + 1)]


async def test_the_number_of_dropped_messages_is_told(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(talks))
    await client.run(flow(step("s", "talks", given={"messages": MAX_RECORDS + 5})), run_id="one")
    page = await client.stub.ListRunLogs(pb.ListRunLogsRequest(run_id="one"))
    assert (page.dropped_count, len(page.events), page.events[0].step_log.index) == (5, MAX_RECORDS, 6)


async def test_messages_are_listed_in_pages_and_by_step(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(talks))
    await client.run(flow(step("a", "talks"), step("b", "talks", after=["a"], given={"messages": 3})), run_id="one")
    assert len(await logs(client, "one", size=2)) == 5
    assert [event.step_log.step_id for event in await logs(client, "one", size=1)] == [*"aabbb"]
    assert messages(await logs(client, "one", "b", size=2)) == ["message 0", "message 1", "message 2"]
    assert await logs(client, "one", "c") == []


async def test_messages_name_their_attempt(serve: Serve, connect: Connect) -> None:
    @action
    async def talks(context: Context) -> None:
        context.logger.info("try")
        if context.attempt == 1:
            raise ConnectionError

    client = connect(await serve(talks))
    events = await client.run(flow(step("s", "talks", retry=retry(2))))
    assert [event.step_log.attempt for event in events if event.HasField("step_log")] == [1, 2]


async def test_a_later_watcher_and_an_export_have_no_messages(serve: Serve, connect: Connect) -> None:
    client = connect(await serve(talks))
    await client.run(ONE, run_id="one")
    assert messages(await client.events("one")) == []
    exported = [part async for part in client.stub.ExportRun(pb.ExportRunRequest(run_id="one"))]
    assert messages(event for part in exported for event in part.events) == []


async def test_a_watcher_may_ask_for_messages_only(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    client = connect(await serve(talks))
    await client.start(flow(step("a", "controlled"), step("b", "talks", after=["a"])), run_id="one")
    await controlled.wait_started("a")
    async with client.watch("one", after=1, kinds=[event_pb2.EVENT_KIND_STEP_LOG]) as watch:
        await watch.message()
        controlled.release("a")
        assert kinds_of(await watch.rest()) == ["step_log", "step_log", "run_finished"]


async def test_a_slow_watcher_misses_messages_rather_than_use_memory(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    """There are more messages than the transport and the watcher's queue hold, and the client does not read."""

    @action
    async def floods(context: Context) -> None:
        await controlled.wait_released(context.step_id)
        for _ in range(4_000):
            context.logger.info("x" * 8_000)
            await asyncio.sleep(0)

    client = connect(await serve(floods))
    slow = client.execute(flow(step("s", "floods")), run_id="one", window=60)
    await slow.until("step_started", "s")
    controlled.release("s")
    others = await client.events("one")
    events = await slow.rest()
    assert sequences(events) == sequences(others)
    assert len(messages(events)) < 4_000


def _kept_bytes(server: Server) -> int:
    assert isinstance(server.engine, LocalEngine)
    return server.engine._logs.size


@pytest.mark.one_server("it keeps messages in its memory")
async def test_the_messages_of_a_deleted_run_are_deleted(serve: Serve, connect: Connect) -> None:
    server = await serve(talks)
    client = connect(server)
    await client.run(ONE, run_id="one")
    assert _kept_bytes(server)
    await client.delete("one")
    assert _kept_bytes(server) == 0
    assert (await refusal(logs(client, "one"))).code is grpc.StatusCode.NOT_FOUND
    await client.run(flow(step("s")), run_id="one")
    assert await logs(client, "one") == []


@pytest.mark.one_server("it deletes ended runs by its own settings")
async def test_the_messages_of_an_evicted_run_are_deleted(serve: Serve, connect: Connect) -> None:
    server = await serve(talks, keep_runs=1)
    client = connect(server)
    for run_id in ("one", "two", "three"):
        await client.run(ONE, run_id=run_id)
    assert (await refusal(logs(client, "one"))).code is grpc.StatusCode.NOT_FOUND
    assert len(await logs(client, "three")) == 2
    await client.run(flow(step("s")), run_id="four")
    await client.run(flow(step("s")), run_id="five")
    assert _kept_bytes(server) == 0


async def test_a_run_that_has_logged_nothing_has_an_empty_list(client: RawClient) -> None:
    await client.run(flow(step("a")), run_id="one")
    assert await client.stub.ListRunLogs(pb.ListRunLogsRequest(run_id="one")) == pb.ListRunLogsResponse()


@pytest.mark.one_server("the defects are put into its engine and its journal")
async def test_the_messages_of_a_run_that_a_defect_has_broken_are_kept(
    serve: Serve, connect: Connect, faults: Faults
) -> None:
    client = connect(await serve(talks))
    faults.in_encoding(ends("bad"))
    events = await client.run(flow(step("s", "talks"), step("bad", after=["s"])), run_id="one")
    assert (faults.count, state_of(end_of(events).state)) == (1, "failed")
    assert messages(await logs(client, "one")) == ["message 0", "message 1"]


@pytest.mark.one_server("two servers with different settings")
async def test_a_server_without_tracebacks_keeps_none(serve: Serve, connect: Connect) -> None:
    @action
    async def talks(context: Context) -> None:
        context.logger.error("failed", exc_info=LookupError("no such thing"))

    assert messages(await connect(await serve(talks, tracebacks=False)).run(ONE)) == ["failed"]
    (message,) = messages(await connect(await serve(talks)).run(ONE))
    assert message == "failed\nLookupError: no such thing"


async def test_a_server_in_a_users_process_leaves_the_other_loggers_alone(serve: Serve, connect: Connect) -> None:
    found: list[list[logging.Handler]] = []

    @action
    async def talks(context: Context) -> None:
        found.append(list(logging.getLogger().handlers))
        logging.getLogger("tools").error("by another logger")
        context.logger.error("by the context")

    before = list(logging.getLogger().handlers)
    events = await connect(await serve(talks)).run(ONE)
    assert (messages(events), found) == (["by the context"], [before])


async def test_a_server_in_a_process_of_its_own_keeps_what_other_loggers_log(serve: Serve, connect: Connect) -> None:
    @action
    def talks() -> None:
        logging.getLogger("tools.search").error("by another logger")

    with capture_logs():
        events = await connect(await serve(talks)).run(flow(step("a", "talks"), step("b", "talks")))
    found = [event.step_log for event in events if event.HasField("step_log")]
    assert [(log.logger, log.message) for log in found] == [("tools.search", "by another logger")] * 2
    assert {log.step_id for log in found} == {"a", "b"}


async def test_what_is_logged_after_the_end_of_the_attempt_is_not_kept(
    serve: Serve, connect: Connect, controlled: ControlledActions
) -> None:
    late: list[asyncio.Task[None]] = []
    ended = asyncio.Event()

    @action
    async def talks(context: Context) -> None:
        async def log_late() -> None:
            await ended.wait()
            context.logger.info("late")

        late.append(asyncio.create_task(log_late()))
        context.logger.info("in time")

    client = connect(await serve(talks))
    async with client.execute(flow(step("s", "talks"), step("other", "controlled")), run_id="one", window=60) as run:
        await run.until("step_finished", "s")
        ended.set()
        await late[0]
        controlled.release("other")
        assert messages(await run.rest()) == ["in time"]
    assert messages(await logs(client, "one")) == ["in time"]


@pytest.mark.parametrize("token", ["x", "WyJ4Il0="])
async def test_an_invalid_page_token_is_refused(client: RawClient, token: str) -> None:
    refused = await refusal(client.stub.ListRunLogs(pb.ListRunLogsRequest(run_id="one", page_token=token)))
    assert (refused.code, refused.fields) == (grpc.StatusCode.INVALID_ARGUMENT, ["page_token"])
