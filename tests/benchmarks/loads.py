"""The loads: graphs of steps that do nothing or sleep, equal for all contenders."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

Dependencies = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Load:
    """A graph of steps, and the number of its runs.

    Attributes:
        name: The name on the command line.
        title: A short description for the report.
        dependencies: For every step, the indexes of its dependencies. All are smaller than its own.
        seconds: For every step, its sleep in seconds. Empty: the steps do nothing.
        runs: The number of runs in one measurement.
        concurrency: The number of concurrent runs.
    """

    name: str
    title: str
    dependencies: Dependencies
    seconds: tuple[float, ...] = ()
    runs: int = 1
    concurrency: int = 1

    @property
    def steps(self) -> int:
        """The number of steps in one measurement."""
        return len(self.dependencies) * self.runs

    @cached_property
    def critical_path(self) -> float:
        """The longest chain of sleeps in seconds: the minimum for any scheduler."""
        ends: list[float] = []
        for own, dependencies in zip(self.seconds, self.dependencies, strict=False):
            ends.append(own + max((ends[index] for index in dependencies), default=0.0))
        return max(ends, default=0.0)

    @cached_property
    def wave_path(self) -> float:
        """The sum of the longest sleeps of all waves in seconds: the minimum for a scheduler with barriers."""
        longest: dict[int, float] = {}
        for wave, own in zip(waves(self.dependencies), self.seconds, strict=False):
            longest[wave] = max(longest.get(wave, 0.0), own)
        return sum(longest.values())


def waves(dependencies: Dependencies) -> list[int]:
    """Return every step's wave: 0 without dependencies, else 1 + the highest among its dependencies."""
    found: list[int] = []
    for indexes in dependencies:
        found.append(1 + max((found[index] for index in indexes), default=-1))
    return found


def wide(steps: int) -> Dependencies:
    """Return steps without dependencies."""
    return ((),) * steps


def chain(steps: int) -> Dependencies:
    """Return steps that each depend on the previous one."""
    return ((), *((index,) for index in range(steps - 1)))


def layered(layers: int, width: int) -> Dependencies:
    """Return layers of steps that each depend on three steps of the previous layer."""
    first: list[tuple[int, ...]] = [()] * width
    starts = range(0, (layers - 1) * width, width)
    later = (_three_of_layer(start, position, width) for start in starts for position in range(width))
    return (*first, *later)


def _three_of_layer(start: int, position: int, width: int) -> tuple[int, ...]:
    return tuple(sorted({start + (position + shift) % width for shift in (0, 1, 7)}))


def fan_in(sources: int) -> Dependencies:
    """Return steps without dependencies, and one step that depends on all of them."""
    return (*wide(sources), tuple(range(sources)))


def ragged(steps: int, seed: int = 5) -> tuple[Dependencies, tuple[float, ...]]:
    """Return steps with up to three dependencies among the previous thirty.

    Their sleeps are log-normal, with a median of 20 ms, within 5 to 400 ms.
    """
    generator = random.Random(seed)
    dependencies = tuple(_up_to_three(range(max(0, index - 30), index), generator) for index in range(steps))
    seconds = tuple(min(max(0.020 * generator.lognormvariate(0, 1), 0.005), 0.400) for _ in range(steps))
    return dependencies, seconds


def _up_to_three(earlier: Sequence[int], generator: random.Random) -> tuple[int, ...]:
    return tuple(sorted(generator.sample(earlier, min(len(earlier), generator.randint(0, 3)))))


def all_loads(*, quick: bool = False) -> tuple[Load, ...]:
    """Return the loads in the order of the report. Quick loads have a tenth of the size."""
    divisor = 10 if quick else 1
    dependencies, seconds = ragged(200)
    return (
        Load(name="wide", title=f"{10_000 // divisor:,} steps wide", dependencies=wide(10_000 // divisor)),
        Load(name="long", title=f"a chain of {1_000 // divisor:,}", dependencies=chain(1_000 // divisor)),
        Load(
            name="layered",
            title=f"{100 // divisor} × 100, three dependencies each",
            dependencies=layered(100 // divisor, 100),
        ),
        Load(
            name="many",
            title=f"{1_000 // divisor:,} four-step runs, 100 at once",
            dependencies=fan_in(3),
            runs=1_000 // divisor,
            concurrency=100,
        ),
        Load(
            name="ragged",
            title="200 sleeping steps, up to three dependencies",
            dependencies=dependencies,
            seconds=seconds,
        ),
        Load(
            name="small",
            title="three sleeps of 100 ms and one of 50 ms",
            dependencies=fan_in(3),
            seconds=(0.1, 0.1, 0.1, 0.05),
            runs=5,
        ),
    )
