"""Measures what a server needs: `python -m tests.benchmarks.footprint`.

Memory is the growth of the server's resident memory (`VmRSS`), divided by the number of what was added. A start lasts
from the start of the process until calls succeed.
"""

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter

from stepwave import AsyncClient, Workflow

from .durable import temporary_folder
from .processes import Server, running_server

__all__ = ["main"]

SERVE = (
    *(str(Path(sys.executable).with_name("stepwave")), "serve", "--listen", "127.0.0.1:0", "--log-level", "warning"),
    *("--actions", "tests.benchmarks.actions", "--max-runs", "100000", "--max-attempts", "100000", "--journal"),
)
AT_ONCE = 100
"""Calls of this client at once."""

HOUR = {"seconds": 3600}


class Measured:
    """A server that is measured, and its client.

    Attributes:
        client: The client.
        start_seconds: How long the server took to start.
    """

    def __init__(self, server: Server, client: AsyncClient, start_seconds: float) -> None:
        self._server = server
        self._attempts = 0
        self.client = client
        self.start_seconds = start_seconds

    @property
    def memory(self) -> int:
        """The resident memory, in MiB."""
        return self._server.memory("VmRSS")

    async def growth(self, what: str, count: int, work: Awaitable[object], attempts: int) -> str:
        """Return how the memory grows by some work, after which so many more attempts are in flight."""
        before = self.memory
        await work
        self._attempts += attempts
        while (await self.client.server_stats()).attempts_in_flight < self._attempts:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.1)
        return f"{what}: {(self.memory - before) * 1024 / count:.1f} KiB each, of {count:,}"


@asynccontextmanager
async def _measured(journal: str) -> AsyncIterator[Measured]:
    """Start a server, and kill it at the end: runs are under way."""
    began = perf_counter()
    async with running_server(*SERVE, journal) as server, AsyncClient(server.address, connect_timeout=60) as client:
        measured = Measured(server, client, perf_counter() - began)
        await client.run(_one_step("noop"))  # what the first run allocates belongs to no run
        yield measured
        server.kill()


def _one_step(action: str, given: dict[str, int] | None = None) -> Workflow:
    flow = Workflow("one")
    flow.step("only", action, given)
    return flow


def _waiting() -> Workflow:
    return _one_step("sleep", HOUR)


def _wide(steps: int, *, after_first: bool) -> Workflow:
    """Return a run of steps that all wait in their action, or all for the first step."""
    flow = Workflow("wide")
    first = [flow.step("first", "sleep", HOUR)] if after_first else []
    for index in range(steps):
        flow.step(f"s{index}", "sleep", HOUR, depends_on=first)
    return flow


async def _repeat(count: int, call: Callable[[], Awaitable[object]]) -> None:
    for begin in range(0, count, AT_ONCE):
        await asyncio.gather(*(call() for _ in range(min(AT_ONCE, count - begin))))


async def _open_streams(stack: AsyncExitStack, client: AsyncClient, count: int) -> None:
    run = await client.start(_waiting())
    for _ in range(count):
        events = await stack.enter_async_context(client.watch(run.run_id))
        await anext(events)


async def _in_memory(divisor: int) -> AsyncIterator[str]:
    """Yield figures of a server with its journal in memory."""
    async with _measured("memory") as measured, AsyncExitStack() as stack:
        client = measured.client
        yield f"start: {measured.start_seconds:.2f} s without runs"
        yield f"idle: {measured.memory} MiB"
        streams, steps, attempts, runs = (it // divisor for it in (2_000, 50_000, 10_000, 10_000))
        yield await measured.growth("a stream", streams, _open_streams(stack, client, streams), 1)
        wide = _wide(steps, after_first=True)
        yield await measured.growth("a step that waits for another", steps, client.start(wide), 1)
        wide = _wide(attempts, after_first=False)
        yield await measured.growth("an attempt in flight, in one run", attempts, client.start(wide), attempts)
        many = _repeat(runs, lambda: client.start(_waiting()))
        yield await measured.growth("a run with one attempt in flight", runs, many, runs)


async def _on_disk(divisor: int) -> AsyncIterator[str]:
    """Yield figures of servers that follow one another on one journal on disk."""
    ended, under_way = 10_000 // divisor, 1_000 // divisor
    async with temporary_folder() as folder:
        file = folder / "journal.db"
        async with _measured(f"sqlite:{file}") as first:
            yield f"idle, journal on disk: {first.memory} MiB"
            began = perf_counter()
            await _repeat(ended, lambda: first.client.run(_one_step("noop")))
            yield f"runs of one step, journal on disk, one client: {ended / (perf_counter() - began):.0f} runs/s"
        size = sum(each.stat().st_size for each in folder.iterdir()) / 1024 / ended
        async with _measured(f"sqlite:{file}") as second:
            yield f"start: {second.start_seconds:.2f} s with {ended:,} ended runs, {size:.1f} KiB of disk each"
            many = _repeat(under_way, lambda: second.client.start(_waiting()))
            yield await second.growth("a run with one attempt in flight, journal on disk", under_way, many, under_way)
        async with _measured(f"sqlite:{file}") as third:
            yield f"start: {third.start_seconds:.2f} s with as many, and {under_way:,} under way"


async def _measure(divisor: int) -> None:
    sys.stdout.write(f"{os.cpu_count()} cores, Python {platform.python_version()}\n")
    for figures in (_in_memory(divisor), _on_disk(divisor)):
        async for line in figures:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: measure, and print a line for each figure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.footprint", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a hundredth of the numbers, as a check")
    asyncio.run(_measure(100 if parser.parse_args(arguments).quick else 1))


if __name__ == "__main__":
    main()
