"""Measuring: every contender runs every load once a round, in an order drawn anew."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from time import perf_counter

from .contenders import Contender
from .loads import Load


@dataclass(frozen=True)
class Sample:
    """One measurement.

    Attributes:
        seconds: How long all runs of the load took together.
        latencies: How long each of them took, in seconds, shortest first.
    """

    seconds: float
    latencies: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """A sample, and whose it is."""

    load: Load
    contender: str
    round: int
    sample: Sample


async def measure(contender: Contender, load: Load) -> Sample:
    """Run a load as often and as many at once as it says."""
    latencies: list[float] = []
    runs = iter(range(load.runs))

    async def caller() -> None:
        for _ in runs:
            begin = perf_counter()
            await contender.run(load)
            latencies.append(perf_counter() - begin)

    gc.collect()  # nobody pays for what the one before left behind
    begin = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(load.concurrency):
            group.create_task(caller())
    return Sample(perf_counter() - begin, tuple(sorted(latencies)))


async def measure_all(
    contenders: Sequence[Contender], loads: Sequence[Load], *, rounds: int, seed: int = 1
) -> AsyncIterator[Measurement]:
    """Measure every contender on every load it takes, once a round, and give each sample as it comes."""
    draw = random.Random(seed)
    for number in range(rounds):
        for load in draw.sample(loads, len(loads)):
            takers = [contender for contender in contenders if contender.takes(load)]
            for contender in draw.sample(takers, len(takers)):  # side by side: what disturbs one disturbs all
                yield Measurement(load, contender.name, number, await measure(contender, load))
