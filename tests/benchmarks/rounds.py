"""Measurements: in each round, every contender runs every load once, in random order."""

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
        seconds: The duration of all runs of the load together.
        latencies: The duration of each run in seconds, shortest first.
    """

    seconds: float
    latencies: tuple[float, ...]


@dataclass(frozen=True)
class Measurement:
    """A sample with its load, contender and round."""

    load: Load
    contender: str
    round: int
    sample: Sample


async def measure(contender: Contender, load: Load) -> Sample:
    """Run a load with its number of runs and its concurrency."""
    latencies: list[float] = []
    runs = iter(range(load.runs))

    async def caller() -> None:
        for _ in runs:
            begin = perf_counter()
            await contender.run(load)
            latencies.append(perf_counter() - begin)

    gc.collect()  # the garbage of earlier measurements must not slow this one down
    begin = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(load.concurrency):
            group.create_task(caller())
    return Sample(perf_counter() - begin, tuple(sorted(latencies)))


async def measure_all(
    contenders: Sequence[Contender], loads: Sequence[Load], *, rounds: int, seed: int = 1
) -> AsyncIterator[Measurement]:
    """Measure every contender with every load that it supports, once a round. Yield each measurement."""
    generator = random.Random(seed)
    for number in range(rounds):
        for load in generator.sample(loads, len(loads)):
            supporting = [contender for contender in contenders if contender.supports(load)]
            for contender in generator.sample(
                supporting, len(supporting)
            ):  # in direct succession: a disturbance affects all
                yield Measurement(load, contender.name, number, await measure(contender, load))
