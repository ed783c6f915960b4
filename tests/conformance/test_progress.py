"""Progress of attempts on Temporal: from a host, with its heartbeats, to watchers on any server."""

import asyncio
from collections.abc import Callable

import pytest

from conformance.replicas import SECONDS, Replicas, Script, first, one_step
from stepwave import ActionError, Context, StepFinished, StepProgress, StepStarted
from temporal_server import TemporalServer


def progress(fraction: float | None, message: str) -> Callable[[Context], None]:
    """Return a call that shows progress."""
    return lambda context: context.progress(fraction, message)


async def test_a_watcher_on_another_server_sees_progress(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        async with other.watch(run_id) as events:
            for fraction, message in ((0.25, "a quarter"), (None, "half of it")):
                script.tell(progress(fraction, message))
                (seen,) = await first(events, StepProgress)
                assert (seen.step_id, seen.attempt, seen.fraction, seen.message) == ("s", 1, fraction, message)
        script.end()
        await client.wait(run_id)


async def test_a_watcher_that_joins_late_sees_the_newest_progress(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client = await replicas.client(script.action)
        run_id = (await client.start(one_step())).run_id
        script.tell(lambda context: context.progress(0.25), lambda context: context.progress(0.5))
        for _ in range(2):
            async with client.watch(run_id) as events:
                assert [it.fraction for it in await first(events, StepProgress)] == [0.5]
        script.end()
        await client.wait(run_id)


async def test_progress_is_shown_once_as_long_as_it_stays_the_same(temporal_server: TemporalServer) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client = await replicas.client(script.action)
        run_id = (await client.start(one_step())).run_id
        seen = []
        async with client.watch(run_id) as events:
            script.tell(lambda context: context.progress(0.25))
            async for event in events:
                if isinstance(event, StepProgress):
                    seen.append(event.fraction)
                    if event.fraction == 0.25:
                        await client.explain(run_id)
                        script.tell(lambda context: context.progress(0.75))
                    else:
                        script.end()
        assert seen == [0.25, 0.75]


def fail(context: Context) -> None:
    """Fail an attempt."""
    raise ActionError("no luck")


@pytest.mark.parametrize("end", [lambda _: True, fail], ids=["answers", "fails"])
async def test_a_watcher_sees_the_progress_just_before_the_end(
    temporal_server: TemporalServer, end: Callable[[Context], object]
) -> None:
    script = Script()
    async with asyncio.timeout(SECONDS), Replicas(temporal_server) as replicas:
        client, other = await replicas.client(script.action), await replicas.client()
        run_id = (await client.start(one_step())).run_id
        async with other.watch(run_id) as events:
            await first(events, StepStarted)
            script.tell(progress(0.25, "begun"), progress(1.0, "ready"), end)
            seen = [event async for event in events if isinstance(event, StepProgress | StepFinished)]
        *_, last, finished = seen
    assert isinstance(last, StepProgress)
    assert (last.step_id, last.attempt, last.fraction, last.message) == ("s", 1, 1.0, "ready")
    assert isinstance(finished, StepFinished)
