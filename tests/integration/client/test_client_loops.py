"""A client belongs to the event loop of its first call, and says so on another one, at once."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from stepwave import AsyncClient, Client, Workflow
from stepwave.testing import serve

FLOW = Workflow("flow")
FLOW.step("a", "core.echo", 1)

LONG = Workflow("long")
LONG.step("a", "core.sleep", {"seconds": 600})

Use = Callable[[AsyncClient], Awaitable[object]]


async def _runs(client: AsyncClient) -> object:
    return [run async for run in client.runs()]


async def _watch(client: AsyncClient) -> object:
    async with client.watch("r") as events:
        return [event async for event in events]


async def _run_events(client: AsyncClient) -> object:
    async with client.run(FLOW) as run:
        return [event async for event in run]


USES: dict[str, Use] = {
    "run": lambda client: client.run(FLOW),
    "run's events": _run_events,
    "start": lambda client: client.start(FLOW),
    "get": lambda client: client.get("r"),
    "wait": lambda client: client.wait("r"),
    "result": lambda client: client.result("r"),
    "runs": _runs,
    "watch": _watch,
    "actions": lambda client: client.actions(),
    "plan": lambda client: client.plan(FLOW),
    "cancel": lambda client: client.cancel("r"),
    "report": lambda client: client.report("r"),
    "parallel": lambda client: client.parallel(["core.echo"], 1),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(entry_points=False) as address:
        yield address


def _used(address: str) -> AsyncClient:
    """Return a client that was used on a loop that is closed by now."""

    async def use() -> AsyncClient:
        client = AsyncClient(address)
        await client.run(FLOW, run_id="r")
        return client

    return asyncio.run(use())


@pytest.mark.parametrize("name", USES)
def test_every_use_on_another_loop_says_what_is_wrong(address: str, name: str) -> None:
    client = _used(address)

    async def use() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(RuntimeError, match=r"belongs to another event loop.*make a client inside each"):
                await USES[name](client)

    asyncio.run(use())


def test_a_client_may_be_made_before_there_is_a_loop(address: str) -> None:
    client = AsyncClient(address)

    async def use() -> object:
        async with client:
            return (await client.run(FLOW)).outputs["a"]

    assert asyncio.run(use()) == 1


def test_a_client_of_another_loop_can_be_closed(address: str) -> None:
    client = _used(address)

    async def close() -> None:
        async with asyncio.timeout(5):
            await client.close()

    asyncio.run(close())


def test_a_client_of_a_loop_that_runs_on_another_thread_says_so_too(address: str) -> None:
    used, end = threading.Event(), threading.Event()
    clients: list[AsyncClient] = []

    async def use() -> None:
        async with AsyncClient(address) as client:
            clients.append(client)
            await client.actions()
            used.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    assert used.wait(30)

    async def misuse() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await clients[0].actions()

    try:
        asyncio.run(misuse())
    finally:
        end.set()
        thread.join()


def test_a_run_that_is_carried_to_another_loop_says_so(address: str) -> None:
    async def begin() -> object:
        client = AsyncClient(address)
        run = client.run(LONG)
        await run.__aenter__()
        await anext(aiter(run))
        return run

    run = asyncio.run(begin())

    async def go_on() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            async for _ in run:  # type: ignore[attr-defined]  # it is a run
                pass

    asyncio.run(go_on())


def test_threads_may_share_the_synchronous_client(address: str) -> None:
    answers: list[object] = []
    with Client(address) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.run(FLOW).outputs["a"])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [1] * 8
