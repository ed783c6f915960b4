"""Restarts of a server during a run: the client gets every numbered event, once and in order."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.message import Message

from integration.client.fake import GUARD, Context, Fake, batch, finished, run_finished, started
from integration.durable.server_process import ServerProcess
from stepwave import (
    AnyEvent,
    AsyncClient,
    Client,
    StepFinished,
    StepRetrying,
    StepStarted,
    Workflow,
)
from stepwave._client.session import Session
from stepwave._transport.aio import AsyncTransport
from stepwave._transport.link import Link, LinkSettings
from stepwave.v1 import event_pb2
from stepwave.v1 import orchestrator_pb2 as pb

MIDDLE = 8


def all_events() -> list[event_pb2.RunEvent]:
    """Return the `MIDDLE + 1` events of a run."""
    return [*(started(number) for number in range(1, MIDDLE)), finished(MIDDLE), run_finished(MIDDLE + 1)]


class Durable:
    """The streams of one run on a server with a durable journal, over all its restarts.

    Each new stream has one more event than the one before, and then stays open.
    """

    def __init__(self) -> None:
        self.streams = 0

    async def __call__(self, request: Message, context: Context) -> AsyncIterator[Message]:
        """Stream the events after the requested number, as far as the run has come."""
        self.streams += 1
        after = request.after_sequence if isinstance(request, pb.WatchRunRequest) else 0
        for event in all_events()[after : max(self.streams, after + 1)]:
            yield batch(event)
        if self.streams <= MIDDLE:
            await asyncio.Event().wait()


@pytest.fixture
def durable(fake: Fake) -> Durable:
    fake.execute = fake.watch = behaviour = Durable()
    return behaviour


async def test_after_a_restart_at_every_event_each_comes_once_and_in_order(
    fake: Fake, client: AsyncClient, durable: Durable
) -> None:
    numbers = []
    async with asyncio.timeout(GUARD), client.run("w", run_id="r") as run:
        async for event in run:
            numbers.append(event.sequence)
            if event.sequence <= MIDDLE:
                await fake.stop()
                await fake.start()
    assert numbers == list(range(1, MIDDLE + 2))
    assert run.result.steps["a"].output == 1


async def test_a_run_that_is_only_awaited_survives_a_restart_too(
    fake: Fake, client: AsyncClient, durable: Durable
) -> None:
    durable.streams = MIDDLE - 1  # all but the last event are there
    waiting = asyncio.ensure_future(client.run("w", run_id="r"))
    async with asyncio.timeout(GUARD):
        await fake.opened.wait()
        await fake.stop()
        durable.streams = MIDDLE
        await fake.start()
        assert (await waiting).succeeded


async def test_a_start_without_an_answer_is_sent_again_unchanged(fake: Fake, client: AsyncClient) -> None:
    waiting = asyncio.ensure_future(client.run("w", {"n": 1}))
    async with asyncio.timeout(GUARD):
        await fake.opened.wait()  # the server has the request, and does not answer
        await fake.stop()
        fake.execute = only_the_end
        await fake.start()
        await waiting
    assert fake.names == ["ExecuteWorkflow", "ExecuteWorkflow"]
    assert fake.requests[0] == fake.requests[1]


async def only_the_end(request: Message, context: Context) -> AsyncIterator[Message]:
    yield batch(run_finished(1))


class CountingTransport(AsyncTransport):
    """A transport that counts pauses, and starts the server after `tries` of them."""

    def __init__(self, fake: Fake, tries: int) -> None:
        super().__init__(fake.address)
        self.pauses: list[float] = []
        self._fake = fake
        self._tries = tries

    async def sleep(self, seconds: float) -> None:
        """Record the pause instead of sleeping, until the server is back."""
        self.pauses.append(seconds)
        if len(self.pauses) == self._tries:
            await self._fake.start()
        await super().sleep(0 if len(self.pauses) < self._tries else seconds)


async def test_a_server_that_is_down_is_retried_ever_less_often(fake: Fake, durable: Durable) -> None:
    durable.streams = MIDDLE - 1
    transport = CountingTransport(fake, tries=5)
    settings = LinkSettings(namespace="", timeout=GUARD, connect_timeout=GUARD, reconnect_window=30.0)
    session = Session(Link(transport, settings, draw=lambda: 1.0))
    try:
        async with asyncio.timeout(GUARD), session.run("w", run_id="r") as run:
            async for _ in run:
                if not transport.pauses:
                    await fake.stop()
        assert transport.pauses[:5] == [0.1, 0.2, 0.4, 0.8, 1.6]
        assert run.result.succeeded
    finally:
        await session.close()


# A real server and its journal on disk.


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    process = ServerProcess(tmp_path)
    await process.start()
    yield process
    process.kill()
    await process.wait_exit()


def chain() -> Workflow:
    """Return a workflow of three steps, one after the other."""
    flow, last = Workflow("chain"), list[str]()
    for step_id in ("a", "b", "c"):
        flow.step(step_id, "waits", {"seconds": 0.5}, depends_on=last)
        last = [step_id]
    return flow


def check(events: list[AnyEvent]) -> None:
    """Check that a run is complete and succeeded, though its server was killed in every first attempt."""
    numbers = [event.sequence for event in events if event.sequence]
    assert numbers == list(range(1, len(numbers) + 1))
    assert [event.step_id for event in events if isinstance(event, StepRetrying)] == ["a", "b", "c"]
    ends = [event.result for event in events if isinstance(event, StepFinished)]
    assert [(end.step_id, end.attempts, end.output) for end in ends] == [("a", 2, "a"), ("b", 2, "b"), ("c", 2, "c")]


async def test_a_run_continues_after_its_server_was_killed(process: ServerProcess) -> None:
    events = []
    async with AsyncClient(process.address) as client, client.run(chain()) as run:
        async for event in run:
            events.append(event)
            if isinstance(event, StepStarted) and event.attempt == 1:
                await process.restart()
        assert await client.result(run.run_id) == run.result
    check(events)


async def test_a_sync_client_continues_after_its_server_was_killed(process: ServerProcess) -> None:
    loop = asyncio.get_running_loop()

    def follow() -> list[AnyEvent]:
        events = []
        with Client(process.address) as client, client.stream(chain()) as run:
            for event in run:
                events.append(event)
                if isinstance(event, StepStarted) and event.attempt == 1:
                    asyncio.run_coroutine_threadsafe(process.restart(), loop).result()
        return events

    check(await asyncio.to_thread(follow))


async def test_a_run_continues_after_its_server_was_stopped(process: ServerProcess) -> None:
    events = []
    async with AsyncClient(process.address) as client, client.run(chain()) as run:
        async for event in run:
            events.append(event)
            if isinstance(event, StepStarted) and event.attempt == 1:
                assert await process.stop() == 0
                await process.start()
    check(events)


async def test_a_wait_for_a_detached_run_continues_after_its_server_was_killed(process: ServerProcess) -> None:
    # The server may be killed before the wait's stream has its first message: then only `connect_timeout` counts.
    async with AsyncClient(process.address, connect_timeout=GUARD) as client:
        run_id = (await client.start(chain())).run_id
        waiting = asyncio.ensure_future(client.wait(run_id))
        async with client.watch(run_id, kinds=["step_started"]) as events:
            await anext(events)
        await process.restart()
        assert (await waiting).succeeded
