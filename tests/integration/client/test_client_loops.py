"""A client belongs to the event loop of its first call, and raises on any other."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from stepwave import AsyncClient, Client, RunHandle, Workflow
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


async def _steps(client: AsyncClient) -> object:
    return [step async for step in client.steps("r")]


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
    "rerun": lambda client: client.rerun("r"),
    "steps": _steps,
    "delete": lambda client: client.delete("r"),
    "export": lambda client: client.export("r"),
    "explain": lambda client: client.explain("r"),
    "workflows": lambda client: client.workflows(),
    "server_info": lambda client: client.server_info(),
    "entering it": lambda client: client.__aenter__(),
    "report": lambda client: client.report("r"),
    "parallel": lambda client: client.parallel(["core.echo"], 1),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serve(entry_points=False) as address:
        yield address


def _used(address: str) -> AsyncClient:
    """Return a client that was used on a loop that is closed now."""

    async def use() -> AsyncClient:
        client = AsyncClient(address)
        await client.run(FLOW, run_id="r")
        return client

    return asyncio.run(use())


@pytest.mark.parametrize("name", USES)
def test_every_use_on_another_loop_raises_runtime_error(address: str, name: str) -> None:
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


def test_use_on_the_loop_of_another_thread_raises_runtime_error(address: str) -> None:
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


async def _iterate(run: RunHandle) -> object:
    return [event async for event in run]


async def _await(run: RunHandle) -> object:
    return await run


HANDLED: dict[str, Callable[[RunHandle], Awaitable[object]]] = {
    "iterate": _iterate,
    "await": _await,
    "cancel": lambda run: run.cancel(),
    "leave": lambda run: run.__aexit__(None, None, None),
}


@pytest.mark.parametrize("name", HANDLED)
def test_a_run_on_another_loop_raises_runtime_error(address: str, name: str) -> None:
    began, end = threading.Event(), threading.Event()
    runs: list[RunHandle] = []

    async def begin() -> None:
        async with AsyncClient(address) as client, client.run(LONG) as run:
            await anext(run)
            runs.append(run)
            began.set()
            await asyncio.to_thread(end.wait)

    thread = threading.Thread(target=lambda: asyncio.run(begin()))
    thread.start()
    assert began.wait(30)

    async def go_on() -> None:
        async with asyncio.timeout(5):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await HANDLED[name](runs[0])

    try:
        asyncio.run(go_on())
    finally:
        end.set()
        thread.join()


def test_a_client_belongs_to_the_loop_that_entered_it(address: str) -> None:
    async def enter() -> AsyncClient:
        return await AsyncClient(address).__aenter__()

    client = asyncio.run(enter())

    async def use() -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop"):
            await client.actions()

    asyncio.run(use())


def test_closing_a_client_from_another_loop_ends_its_calls(address: str) -> None:
    began = threading.Event()
    client = AsyncClient(address)
    ends: list[str] = []

    async def use() -> None:
        async with client.watch("long") as events:
            await anext(events)
            began.set()
            with pytest.raises(RuntimeError, match="this client is closed") as caught:
                [_ async for _ in events]
        ends.append(str(caught.value))

    async def start() -> None:
        async with AsyncClient(address) as other:
            await other.start(LONG, run_id="long")

    asyncio.run(start())
    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    assert began.wait(30)
    asyncio.run(client.close())
    thread.join(30)
    assert ends == ["this client is closed"]


def test_a_local_client_on_another_loop_raises_runtime_error_at_once() -> None:
    local = AsyncClient.local(entry_points=False)
    with asyncio.Runner() as runner:
        client = runner.run(local.__aenter__())

        async def misuse() -> None:
            async with asyncio.timeout(5):
                with pytest.raises(RuntimeError, match="this client belongs to another event loop"):
                    await client.run(FLOW)
                with pytest.raises(RuntimeError, match=r"AsyncClient\.local belongs to another event loop"):
                    await local.__aexit__(None, None, None)

        thread = threading.Thread(target=lambda: asyncio.run(misuse()))
        thread.start()
        thread.join()
        assert runner.run(client.server_info()).version
        runner.run(local.__aexit__(None, None, None))


FORKED = """
import asyncio, os, sys
from stepwave import AsyncClient
client = AsyncClient(sys.argv[1])
loop = asyncio.new_event_loop()
loop.run_until_complete(client.actions())
if os.fork() == 0:
    try:
        loop.run_until_complete(client.actions())
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(len(loop.run_until_complete(client.actions())) > 0)
"""


def test_a_client_used_before_a_fork_raises_in_the_child_and_works_in_the_parent(address: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, address], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [
        "this client was used before this process was forked: make a client in the child",
        "True",
    ]


def test_threads_may_share_the_synchronous_client(address: str) -> None:
    answers: list[object] = []
    with Client(address) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.run(FLOW).outputs["a"])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [1] * 8
