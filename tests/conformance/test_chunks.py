"""Chunks and logs of runs on Temporal: from hosts over Redis to watchers on any server."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from conformance.replicas import SECONDS, Noted, Replicas, Script, first, one_step
from redis_server import RedisServer
from stepwave import JSON, AsyncClient, Context, Retry, StepChunk, StepFinished, StepLog, StepStarted, action
from stepwave_server.app import Server
from stepwave_server.config import Settings
from stepwave_server.engine.base import Submission
from stepwave_server.engine.temporal.codec import workflow_id_of
from stepwave_server.engine.temporal.redis.entries import Entry
from stepwave_server.engine.temporal.redis.reader import RedisReader
from stepwave_server.engine.temporal.redis.sink import RedisSink
from stepwave_server.engine.temporal.starter import Starter
from stepwave_server.engine.temporal.transients import RunStreams
from stepwave_server.temporal import ChunksUnavailable
from temporal_server import TemporalServer


def emit(*chunks: JSON) -> Callable[[Context], None]:
    """Return a call that emits chunks."""

    def call(context: Context) -> None:
        for chunk in chunks:
            context.emit(chunk)

    return call


def log(message: str) -> Callable[[Context], None]:
    """Return a call that logs."""
    return lambda context: context.logger.info(message)


def fail(_: Context) -> None:
    raise RuntimeError("not yet")


async def chunks_of(client: AsyncClient, run_id: str, count: int) -> list[tuple[int, int, object]]:
    """Return the attempt, index and value of the first chunks that a new watcher of a run sees."""
    async with client.watch(run_id) as events:
        return [(it.attempt, it.index, it.value) for it in await first(events, StepChunk, count=count)]


async def test_a_watcher_on_another_server_sees_chunks_as_they_are_emitted(
    temporal_server: TemporalServer, redis_server: RedisServer
) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        async with other.watch(run_id) as events:
            for word in ("one", "two"):
                script.tell(emit(word))
                assert [chunk.value for chunk in await first(events, StepChunk)] == [word]
        script.end()
        assert (await client.wait(run_id)).outputs == {"s": "done"}


async def test_the_last_chunks_and_logs_of_an_attempt_are_shown_before_its_end(
    temporal_server: TemporalServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come with the history, before the outcome: here, nothing else reads them, and the host writes them last."""
    ended = asyncio.Event()

    async def read(_: RedisReader) -> None:
        await asyncio.Event().wait()

    async def write_late(sink: RedisSink, entries: list[Entry]) -> None:
        await ended.wait()
        await write(sink, entries)

    async def flush_at_the_end(sink: RedisSink, run: RunStreams) -> None:
        ended.set()
        await flush(sink, run)

    write, flush = RedisSink._write_batch, RedisSink.flush
    monkeypatch.setattr(RedisReader, "_read", read)
    monkeypatch.setattr(RedisSink, "_write_batch", write_late)
    monkeypatch.setattr(RedisSink, "flush", flush_at_the_end)
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client = await replicas.client(script.action)
        async with client.run(one_step()) as run:
            await first(run, StepStarted)
            script.tell(emit(*range(300)), *map(log, "abc"))
            script.end()
            shown = [event async for event in run if isinstance(event, StepChunk | StepLog | StepFinished)]
        assert [it.value for it in shown if isinstance(it, StepChunk)] == list(range(300))
        assert [it.message for it in shown if isinstance(it, StepLog)] == [*"abc"]
        assert isinstance(shown[-1], StepFinished)


async def test_a_run_that_ends_before_temporal_answers_its_start_is_shown_whole(
    temporal_server: TemporalServer, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer_late(starter: Starter, submission: Submission) -> str:
        execution = await start(starter, submission)
        await starter._client.get_workflow_handle(workflow_id_of(submission.key)).result()
        return execution

    start = Starter.start
    monkeypatch.setattr(Starter, "start", answer_late)
    script = Script()
    script.tell(emit("a", "b"), log("c"), lambda context: context.progress(0.5, "half"))
    script.end()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client = await replicas.client(script.action)
        async with client.run(one_step()) as run:
            kinds = [event.kind async for event in run]
    shown = ["step_started", "step_chunk", "step_chunk", "step_log", "step_progress", "step_finished"]
    assert kinds == ["run_started", "wave_started", *shown, "wave_finished", "run_finished"]


async def test_a_watcher_that_joins_late_gets_the_chunks_so_far_from_any_server(
    temporal_server: TemporalServer, redis_server: RedisServer
) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        script.tell(emit("one", {"two": 2}))
        expected = [(1, 0, "one"), (1, 1, {"two": 2})]
        assert await chunks_of(client, run_id, 2) == expected
        assert await chunks_of(client, run_id, 2) == expected
        assert await chunks_of(other, run_id, 2) == expected
        script.tell(emit("three"))
        assert await chunks_of(client, run_id, 3) == [*expected, (1, 2, "three")]
        script.end()
        await client.wait(run_id)


async def test_a_new_attempt_voids_the_chunks_of_the_one_before(
    temporal_server: TemporalServer, redis_server: RedisServer
) -> None:
    script = Script()
    retry = Retry(max_attempts=2, initial_backoff=0)
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step(retry=retry))).run_id
        script.tell(emit("old"))
        assert await chunks_of(client, run_id, 1) == [(1, 0, "old")]
        script.tell(fail, emit("new"))
        await script.begun.acquire()
        await script.begun.acquire()
        assert await chunks_of(client, run_id, 1) == [(2, 0, "new")]
        assert await chunks_of(other, run_id, 1) == [(2, 0, "new")]
        script.end()
        await client.wait(run_id)


@action("talk")
async def talk() -> AsyncIterator[str]:
    """Stream an answer."""
    for word in ("one ", "two ", "three"):
        yield word


async def test_without_redis_a_streamed_answer_is_complete(temporal_server: TemporalServer) -> None:
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client = await replicas.client(talk)
        assert (await client.run(one_step("talk"))).outputs == {"s": "one two three"}


async def test_with_redis_a_streamed_answer_is_complete(
    temporal_server: TemporalServer, redis_server: RedisServer
) -> None:
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client = await replicas.client(talk)
        assert (await client.run(one_step("talk"))).outputs == {"s": "one two three"}


async def test_a_run_goes_on_without_its_redis_and_shows_chunks_when_it_is_back(
    temporal_server: TemporalServer,
) -> None:
    script = Script()
    lost = Noted("chunks and logs of attempts are lost until Redis at")
    with RedisServer() as redis, lost:
        async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis.address) as replicas:
            client = await replicas.client(script.action)
            run_id = (await client.start(one_step())).run_id
            async with client.watch(run_id) as events:
                script.tell(emit("before"))
                await first(events, StepChunk)
                redis.kill()
                script.tell(emit("lost"))
                await lost.noted.wait()
                assert (await client.run(one_step("core.echo"))).outputs == {"s": None}
                redis.start()
                script.tell(emit("after"))
                assert [chunk.value for chunk in await first(events, StepChunk)] == ["after"]
            script.end()
            assert (await client.wait(run_id)).outputs == {"s": "done"}
    assert lost.count == 1


async def test_an_attempt_does_not_wait_for_a_slow_redis(temporal_server: TemporalServer) -> None:
    script = Script()
    with RedisServer() as redis:
        async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis.address) as replicas:
            client = await replicas.client(script.action)
            redis.pause()
            script.tell(*[emit("x" * 10_000)] * 2_000)
            script.end()
            assert (await client.run(one_step())).outputs == {"s": "done"}
            redis.resume()


async def test_what_an_action_logs_is_shown_and_kept_for_any_server(
    temporal_server: TemporalServer, redis_server: RedisServer
) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        async with other.watch(run_id) as events:
            script.tell(log("one"), log("two"))
            shown = await first(events, StepLog, count=2)
        assert [(it.index, it.step_id, it.attempt, it.message) for it in shown] == [
            (1, "s", 1, "one"),
            (2, "s", 1, "two"),
        ]
        assert [it async for it in client.logs(run_id)] == shown
        script.end()
        await client.wait(run_id)
        assert [it async for it in other.logs(run_id)] == shown
        assert [it async for it in other.logs(run_id, "another")] == []


async def test_without_redis_nothing_is_logged_and_the_server_says_so(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client = await replicas.client(script.action)
        script.tell(log("one"), emit("one"))
        script.end()
        run_id = (await client.run(one_step())).run_id
        assert [it async for it in client.logs(run_id)] == []
        assert not {"chunks", "logs"} & set((await client.server_info()).capabilities)


async def test_with_redis_the_server_says_that_there_are_chunks_and_logs(
    temporal_server: TemporalServer, redis_server: RedisServer
) -> None:
    async with asyncio.timeout(SECONDS), Replicas(temporal_server, redis_server.address) as replicas:
        client = await replicas.client()
        assert {"chunks", "logs"} <= set((await client.server_info()).capabilities)


async def test_a_server_without_its_redis_does_not_start_and_names_the_address(
    temporal_server: TemporalServer,
) -> None:
    settings = Settings(
        listen="127.0.0.1:0",
        engine="temporal",
        temporal_address=temporal_server.address,
        chunks="redis://user:secret@127.0.0.1:1",
    )
    with pytest.raises(ChunksUnavailable, match=r"redis://127\.0\.0\.1:1, .* does not answer"):
        async with Server(settings):
            pass
