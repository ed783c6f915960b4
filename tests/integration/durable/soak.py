"""The crash test for a set time: `make soak`. All rounds use one journal, and each has new runs."""

import asyncio
import os
import sys
import time
from random import Random

import pytest

from integration.durable.crash_load import CrashLoad, draw_crashes
from integration.durable.server_process import ServerProcess

MINUTES = float(os.environ.get("STEPWAVE_SOAK_MINUTES", "10"))
KEEP = 1_000
"""The number of ended runs that the journal keeps: more than a round has, fewer than a soak."""


@pytest.mark.timeout(0)
async def test_rounds_of_runs_lose_nothing_to_kills(process: ServerProcess, seed: str) -> None:
    arguments = ("--set", f"keep_runs={KEEP}")
    await process.start(*arguments)
    end = time.monotonic() + 60 * MINUTES
    number = 0
    while time.monotonic() < end:
        number += 1
        load = CrashLoad(process, f"{seed}/{number}", runs=200, name=f"round{number}_", arguments=arguments)
        async with asyncio.timeout(600):
            await load.run(load.crash_servers(draw_crashes(Random(f"{seed}/{number}"), 10, most_events=700)))
            states = await load.check()
        assert sum(states.values()) == 200
        sys.stderr.write(f"round {number}: {load.counter.count:,} events, {dict(states)}\n")
