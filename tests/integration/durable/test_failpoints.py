"""The server dies around a commit: before it, after it, or before it is published. Nothing is lost or repeated."""

import asyncio

import pytest

from integration.durable.crash_load import CrashLoad
from integration.durable.server_process import ServerProcess
from integration.server.raw_client import GUARD

RUNS = 20
TIMES = 3
"""The number of servers that die at the same place, one after the other."""


@pytest.mark.parametrize("count", [1, 5, 25])
@pytest.mark.parametrize("place", ["before-commit", "after-commit", "before-publication"])
async def test_nothing_is_lost_when_a_server_dies_around_a_commit(
    process: ServerProcess, seed: str, place: str, count: int
) -> None:
    await process.start("--die-at", f"{place}:{count}")
    load = CrashLoad(process, seed, RUNS, pauses=(0.0, 0.01, 0.05), modes=("attached", "detached"))
    async with asyncio.timeout(GUARD):
        await load.run(load.crash_at(f"{place}:{count}", TIMES))
        await load.check()
    assert load.under_way, "no server died"
