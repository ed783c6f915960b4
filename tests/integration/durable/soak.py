"""The crash test for as long as it is let: `make soak`. One journal all the while, and new runs in every round."""

import asyncio
import os
import sys
import time
from random import Random

import pytest

from integration.durable.process import Victim
from integration.durable.storm import Storm, draw_blows

MINUTES = float(os.environ.get("STEPWAVE_SOAK_MINUTES", "10"))
KEEP = 1_000
"""Ended runs that the journal keeps: more than a round has, less than a soak."""


@pytest.mark.timeout(0)
async def test_rounds_of_runs_lose_nothing_to_kills(victim: Victim, seed: str) -> None:
    arguments = ("--set", f"keep_runs={KEEP}")
    await victim.start(*arguments)
    end = time.monotonic() + 60 * MINUTES
    number = 0
    while time.monotonic() < end:
        number += 1
        storm = Storm(victim, f"{seed}/{number}", runs=200, name=f"round{number}_", arguments=arguments)
        async with asyncio.timeout(600):
            await storm.rage(storm.strike(draw_blows(Random(f"{seed}/{number}"), 10, most_events=700)))
            states = await storm.check()
        assert sum(states.values()) == 200
        sys.stderr.write(f"round {number}: {storm.tally.count:,} events, {dict(states)}\n")
