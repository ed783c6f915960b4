"""The limit in process: a scheduler that counts unmet dependencies and makes one asyncio task a step."""

import asyncio
from collections.abc import Awaitable, Callable

from .loads import Dependencies, Load

Invoke = Callable[[int], Awaitable[None]]


async def run_graph(dependencies: Dependencies, invoke: Invoke) -> None:
    """Run every step once those it depends on are done (Kahn's algorithm, with counters)."""
    loop = asyncio.get_running_loop()
    unmet = [len(indexes) for indexes in dependencies]
    dependents = _dependents(dependencies)
    running: set[asyncio.Task[None]] = set()
    left, finished = len(dependencies), loop.create_future()

    def start(index: int) -> None:
        running.add(task := loop.create_task(run(index)))
        task.add_done_callback(running.discard)

    async def run(index: int) -> None:
        nonlocal left
        await invoke(index)
        for dependent in dependents[index]:
            unmet[dependent] -= 1
            if not unmet[dependent]:
                start(dependent)
        left -= 1
        if not left:
            finished.set_result(None)

    for index, count in enumerate(unmet.copy()):
        if not count:
            start(index)
    await finished


def _dependents(dependencies: Dependencies) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in dependencies]
    for index, indexes in enumerate(dependencies):
        for dependency in indexes:
            found[dependency].append(index)
    return found


def invoke_for(load: Load) -> Invoke:
    """Give what the steps of a load do."""

    async def sleep(index: int) -> None:
        await asyncio.sleep(load.seconds[index])

    async def noop(index: int) -> None:
        pass

    return sleep if load.seconds else noop
