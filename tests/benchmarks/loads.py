"""The loads: graphs of steps that do nothing or sleep, the same for every contender."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Dependencies = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Load:
    """A graph to run, and how often.

    Attributes:
        name: What the report calls it.
        title: What it is, in a few words.
        dependencies: For every step the indexes of those it depends on, all smaller than its own.
        seconds: How long every step sleeps; empty: the steps do nothing.
        runs: How many times the graph is run in one measurement.
        concurrency: How many runs are under way at once.
    """

    name: str
    title: str
    dependencies: Dependencies
    seconds: tuple[float, ...] = ()
    runs: int = 1
    concurrency: int = 1

    @property
    def steps(self) -> int:
        """How many steps one measurement runs."""
        return len(self.dependencies) * self.runs

    @cached_property
    def critical_path(self) -> float:
        """The longest chain of sleeps in seconds: no scheduler can be faster."""
        ends: list[float] = []
        for own, dependencies in zip(self.seconds, self.dependencies, strict=False):
            ends.append(own + max((ends[index] for index in dependencies), default=0.0))
        return max(ends, default=0.0)

    @cached_property
    def wave_path(self) -> float:
        """The sum of every wave's longest sleep in seconds: what a scheduler with a barrier takes at least."""
        longest: dict[int, float] = {}
        for wave, own in zip(waves(self.dependencies), self.seconds, strict=False):
            longest[wave] = max(longest.get(wave, 0.0), own)
        return sum(longest.values())


def waves(dependencies: Dependencies) -> list[int]:
    """Give every step's wave: 0 without dependencies, else 1 + the highest among its dependencies."""
    found: list[int] = []
    for indexes in dependencies:
        found.append(1 + max((found[index] for index in indexes), default=-1))
    return found


def wide(steps: int) -> Dependencies:
    """Make steps that depend on nothing."""
    return ((),) * steps


def chain(steps: int) -> Dependencies:
    """Make steps of which each depends on the one before."""
    return ((), *((index,) for index in range(steps - 1)))


def layered(layers: int, width: int) -> Dependencies:
    """Make layers of which every step depends on three of the layer before."""
    first: list[tuple[int, ...]] = [()] * width
    later = (_three(start, place, width) for start in range(0, (layers - 1) * width, width) for place in range(width))
    return (*first, *later)


def _three(start: int, place: int, width: int) -> tuple[int, ...]:
    return tuple(sorted({start + (place + shift) % width for shift in (0, 1, 7)}))


def fan_in(sources: int) -> Dependencies:
    """Make steps that depend on nothing, and one that depends on all of them."""
    return (*wide(sources), tuple(range(sources)))


def ragged(steps: int, seed: int = 5) -> tuple[Dependencies, tuple[float, ...]]:
    """Make steps with up to three dependencies among the thirty before; they sleep log-normal times, median 20 ms."""
    draw = random.Random(seed)
    dependencies = tuple(_among(range(max(0, index - 30), index), draw) for index in range(steps))
    seconds = tuple(min(max(0.020 * draw.lognormvariate(0, 1), 0.005), 0.400) for _ in range(steps))
    return dependencies, seconds


def _among(earlier: Sequence[int], draw: random.Random) -> tuple[int, ...]:
    return tuple(sorted(draw.sample(earlier, min(len(earlier), draw.randint(0, 3)))))


def all_loads(*, quick: bool = False) -> tuple[Load, ...]:
    """Give the loads in the order of the report; the quick ones are a tenth of the size."""
    share = 10 if quick else 1
    sleepy, seconds = ragged(200)
    return (
        Load("wide", f"{10_000 // share:,} steps wide", wide(10_000 // share)),
        Load("long", f"a chain of {1_000 // share:,}", chain(1_000 // share)),
        Load("layered", f"{100 // share} × 100, three dependencies each", layered(100 // share, 100)),
        Load(
            "many", f"{1_000 // share:,} four-step runs, 100 at once", fan_in(3), runs=1_000 // share, concurrency=100
        ),
        Load("ragged", "200 sleeping steps, up to three dependencies", sleepy, seconds),
        Load("small", "three sleeps of 100 ms and one of 50 ms", fan_in(3), (0.1, 0.1, 0.1, 0.05), runs=5),
    )
