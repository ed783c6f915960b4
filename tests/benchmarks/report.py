"""The report on measurements: figures, shares of the prototype's speed, and whether they meet the goals."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .loads import Load
from .rounds import Measurement, Sample

HEADER = ("load", "contender", "figure", "of prototype", "wanted")


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their range."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Return the spread of the values. There must be at least one."""
        ordered = sorted(values)
        return cls(median=statistics.median(ordered), lowest=ordered[0], highest=ordered[-1])

    def text(self, spec: str) -> str:
        """Return `median [lowest..highest]`, each number in a format such as `.2f`."""
        median, lowest, highest = (format(value, spec) for value in (self.median, self.lowest, self.highest))
        return f"{median} [{lowest}..{highest}]"


@dataclass(frozen=True)
class Figure:
    """A measure of speed.

    Attributes:
        compute: Returns the value of a sample.
        spec: The format of the value.
        unit: The unit of the value.
    """

    compute: Callable[[Load, Sample], float]
    spec: str
    unit: str

    def text(self, load: Load, samples: Iterable[Sample]) -> str:
        """Return the spread over some samples as text."""
        return f"{Spread.of(self.compute(load, each) for each in samples).text(self.spec)} {self.unit}"


STEPS = Figure(lambda load, sample: load.steps / sample.seconds, ",.0f", "steps/s")
RUNS = Figure(lambda load, sample: load.runs / sample.seconds, ",.0f", "runs/s")
P99 = Figure(lambda _, sample: 1e3 * sample.latencies[int(0.99 * len(sample.latencies))], ".0f", "ms at p99")
OVER = Figure(lambda load, sample: 1e3 * (statistics.median(sample.latencies) - load.critical_path), ".1f", "ms over")
TIMES = Figure(lambda load, sample: sample.seconds / load.critical_path, ".3f", "× critical path")

FIGURES: Mapping[str, tuple[Figure, ...]] = {
    "wide": (STEPS,),
    "long": (STEPS,),
    "layered": (STEPS,),
    "many": (RUNS, P99),
    "ragged": (TIMES,),
    "small": (OVER,),
}

MAX_FIGURES = {"ragged": 1.03, "small": 6.0}
"""The goals for sleeping loads: the maximum of the load's figure."""

Goals: TypeAlias = Mapping[str, Mapping[str, float]]
"""The goals for other loads, by contender and load: the minimum share of the baseline's speed."""


class Report:
    """A table of all measurements.

    Args:
        measurements: The measurements.
        baseline: The contender to which the others are compared, round by round.
        goals: The goals. Contenders without an entry have none.
    """

    def __init__(self, measurements: Iterable[Measurement], *, baseline: str, goals: Goals) -> None:
        self._baseline, self._goals = baseline, goals
        self._loads: dict[str, Load] = {}
        self._samples: dict[tuple[str, str], dict[int, Sample]] = {}
        for each in measurements:
            self._loads[each.load.name] = each.load
            self._samples.setdefault((each.load.name, each.contender), {})[each.round] = each.sample

    def rows(self, contenders: Sequence[str], loads: Sequence[str]) -> list[tuple[str, ...]]:
        """Return the table's rows, with loads and contenders in the given order."""
        pairs = [(load, contender) for load in loads for contender in contenders]
        return [self._row(*pair) for pair in pairs if pair in self._samples]

    def _row(self, name: str, contender: str) -> tuple[str, ...]:
        load, samples = self._loads[name], self._samples[name, contender].values()
        figures = ", ".join(figure.text(load, samples) for figure in FIGURES[name])
        share = self._share(name, contender)
        return (load.title, contender, figures, share.text(".2f") if share else "", self._goal(name, contender))

    def _share(self, name: str, contender: str) -> Spread | None:
        """Return a contender's speed as a share of the baseline's, compared round by round."""
        own, baseline = self._samples[name, contender], self._samples.get((name, self._baseline), {})
        if contender == self._baseline or self._loads[name].seconds or not baseline:
            return None
        return Spread.of(baseline[number].seconds / own[number].seconds for number in own)

    def _goal(self, name: str, contender: str) -> str:
        if contender not in self._goals:
            return ""
        if name in MAX_FIGURES:
            load, samples = self._loads[name], self._samples[name, contender].values()
            figure = Spread.of(FIGURES[name][0].compute(load, sample) for sample in samples).median
            return f"≤ {MAX_FIGURES[name]:g}: {_met(figure <= MAX_FIGURES[name])}"
        if name not in self._goals[contender]:
            return ""
        minimum, share = self._goals[contender][name], self._share(name, contender)
        return "" if share is None else f"≥ {minimum:g}: {_met(share.median >= minimum)}"


def _met(met: bool) -> str:
    return "met" if met else "missed"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (HEADER, *rows))
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    separator = ["---"] * len(HEADER)
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEADER, separator, *rows))
