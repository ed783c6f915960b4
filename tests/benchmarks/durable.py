"""What a journal on disk costs beside speed: memory and disk for what is kept, and the time of a recovery."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

from stepwave import AsyncClient, Workflow

from .contenders import RawStub
from .loads import Load
from .processes import Server, started

Serve: TypeAlias = Callable[[str], tuple[str, ...]]
"""Gives the command that serves with a journal, as `--journal` names it."""

Connect: TypeAlias = Callable[[AsyncExitStack, str], Awaitable[RawStub]]
"""Opens a line to a server, that closes with the stack."""

MANY = 100_000
"""Events for which memory and disk are told."""


@asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    """Give a folder that is gone with the context."""
    path = Path(tempfile.mkdtemp(prefix="stepwave-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def tell_kept(serve: Serve, load: Load, connect: Connect, least: int) -> list[str]:
    """Run a load until at least so many events are kept, with each journal; say what memory and disk they take."""
    async with folder() as path:
        file = path / "journal.db"
        told = []
        for journal in ("memory", f"sqlite:{file}"):
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(started(*serve(journal)))
                raw = await connect(stack, server.address)
                events, memory = await _keep(server, raw, load, least)
            disk = f", {file.stat().st_size / events * MANY / 2**20:.0f} MiB of disk" if journal != "memory" else ""
            kind = journal.partition(":")[0]
            told.append(f"Journal {kind}: {memory / events * MANY:.0f} MiB of memory{disk} per {MANY:,} kept events.")
        return told


async def _keep(server: Server, raw: RawStub, load: Load, least: int) -> tuple[int, int]:
    """Run a load until so many events are kept; return how many there are, and by how many MiB the server has grown."""
    await raw.run(load)  # what a first run allocates is no event's
    idle, events = server.memory("VmRSS"), 0
    while events < least:
        events += len((await raw.record(load)).events)
    return events, server.memory("VmRSS") - idle


async def tell_recovery(serve: Serve, steps: int) -> str:
    """Kill a server in the middle of a large run; say how long the next one takes to go on with it."""
    async with folder() as path:
        command = serve(f"sqlite:{path / 'journal.db'}")
        plain = await _starts(serve("memory"))
        async with started(*command) as server, AsyncClient(server.address) as client:
            run_id = (await client.start(_held_run(steps))).run_id
            async with client.watch(run_id) as events:
                async for event in events:
                    if event.sequence > 2 * steps:
                        break
            server.kill()
        took = await _starts(command)
        return (
            f"A run of {steps:,} steps, all but one finished, is recovered in {took - plain:.2f} s, "
            f"beside the {plain:.2f} s of any start."
        )


def _held_run(steps: int) -> Workflow:
    flow = Workflow("recovered")
    for index in range(steps - 1):
        flow.step(f"s{index}", "noop")
    flow.step("held", "sleep", {"seconds": 3600})
    return flow


async def _starts(command: tuple[str, ...]) -> float:
    """Start a server, and return how many seconds it took until calls succeed."""
    begin = perf_counter()
    async with started(*command):
        return perf_counter() - begin
