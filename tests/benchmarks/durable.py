"""The costs of journals beside speed: memory and disk for kept events, and the time of a recovery."""

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
from .processes import Server, running_server

ServeCommand: TypeAlias = Callable[[str], tuple[str, ...]]
"""Returns the command that starts a server with a journal, given as for `--journal`."""

Connect: TypeAlias = Callable[[AsyncExitStack, str], Awaitable[RawStub]]
"""Connects to a server. The connection closes with the stack."""

EVENT_COUNT = 100_000
"""The number of kept events for which memory and disk are reported."""


@asynccontextmanager
async def temporary_folder() -> AsyncIterator[Path]:
    """Create a folder, and remove it at the end of the context."""
    path = Path(tempfile.mkdtemp(prefix="stepwave-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


async def describe_kept_events(serve: ServeCommand, load: Load, connect: Connect, minimum: int) -> list[str]:
    """Run a load with each journal until enough events are kept. Return the memory and disk that they take, as text.

    Args:
        serve: Returns the command that starts a server.
        load: The load.
        connect: Connects to the server.
        minimum: The minimum number of kept events.
    """
    async with temporary_folder() as path:
        file = path / "journal.db"
        lines = []
        for journal in ("memory", f"sqlite:{file}"):
            async with AsyncExitStack() as stack:
                server = await stack.enter_async_context(running_server(*serve(journal)))
                raw = await connect(stack, server.address)
                events, memory = await _record_events(server, raw, load, minimum)
            scale = EVENT_COUNT / events
            disk = f", {file.stat().st_size * scale / 2**20:.0f} MiB of disk" if journal != "memory" else ""
            kind = journal.partition(":")[0]
            lines.append(f"Journal {kind}: {memory * scale:.0f} MiB of memory{disk} per {EVENT_COUNT:,} kept events.")
        return lines


async def _record_events(server: Server, raw: RawStub, load: Load, minimum: int) -> tuple[int, int]:
    """Run a load until enough events are kept. Return their number, and the growth of the server's memory in MiB."""
    await raw.run(load)  # allocations of the first run do not belong to events
    idle, events = server.memory("VmRSS"), 0
    while events < minimum:
        events += len((await raw.record(load)).events)
    return events, server.memory("VmRSS") - idle


async def describe_recovery(serve: ServeCommand, steps: int) -> str:
    """Kill a server during a large run. Return the time that the next server needs to recover the run, as text."""
    async with temporary_folder() as path:
        command = serve(f"sqlite:{path / 'journal.db'}")
        plain = await _start_seconds(serve("memory"))
        async with running_server(*command) as server, AsyncClient(server.address) as client:
            run_id = (await client.start(_unfinished_run(steps))).run_id
            async with client.watch(run_id) as events:
                async for event in events:
                    if event.sequence > 2 * steps:
                        break
            server.kill()
        recovery = await _start_seconds(command)
        return (
            f"A run of {steps:,} steps, all but one finished, is recovered in {recovery - plain:.2f} s, "
            f"beside the {plain:.2f} s of any start."
        )


def _unfinished_run(steps: int) -> Workflow:
    flow = Workflow("recovered")
    for index in range(steps - 1):
        flow.step(f"s{index}", "noop")
    flow.step("waiting", "sleep", {"seconds": 3600})
    return flow


async def _start_seconds(command: tuple[str, ...]) -> float:
    """Start a server. Return the seconds until calls succeed."""
    begin = perf_counter()
    async with running_server(*command):
        return perf_counter() - begin
