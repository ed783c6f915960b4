"""What the measurements say: figures, shares of the prototype's speed, and whether they are what is wanted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from .loads import Load
from .rounds import Measurement, Sample

HEADER = ("load", "contender", "figure", "of prototype", "wanted")


@dataclass(frozen=True)
class Spread:
    """The median of some values, and their range."""

    middle: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Take the spread of at least one value."""
        found = sorted(values)
        return cls(median(found), found[0], found[-1])

    def text(self, form: str) -> str:
        """Write it as `median [lowest..highest]`, each number by a format such as `.2f`."""
        middle, lowest, highest = (format(value, form) for value in (self.middle, self.lowest, self.highest))
        return f"{middle} [{lowest}..{highest}]"


@dataclass(frozen=True)
class Figure:
    """A number that says how well a load was run."""

    take: Callable[[Load, Sample], float]
    form: str
    unit: str

    def text(self, load: Load, samples: Iterable[Sample]) -> str:
        """Write its spread over some samples."""
        return f"{Spread.of(self.take(load, each) for each in samples).text(self.form)} {self.unit}"


STEPS = Figure(lambda load, sample: load.steps / sample.seconds, ",.0f", "steps/s")
RUNS = Figure(lambda load, sample: load.runs / sample.seconds, ",.0f", "runs/s")
P99 = Figure(lambda _, sample: 1e3 * sample.latencies[int(0.99 * len(sample.latencies))], ".0f", "ms at p99")
OVER = Figure(lambda load, sample: 1e3 * (median(sample.latencies) - load.critical_path), ".1f", "ms over")
TIMES = Figure(lambda load, sample: sample.seconds / load.critical_path, ".3f", "× critical path")

FIGURES: Mapping[str, tuple[Figure, ...]] = {
    "wide": (STEPS,),
    "long": (STEPS,),
    "layered": (STEPS,),
    "many": (RUNS, P99),
    "ragged": (TIMES,),
    "small": (OVER,),
}

MOST = {"ragged": 1.03, "small": 6.0}
"""The most that a load's figure may come to."""

Goals: TypeAlias = Mapping[str, Mapping[str, float]]
"""For contenders, by the load: the least share of the yardstick's speed that is wanted."""


class Report:
    """All measurements of one go, as a table.

    Args:
        measurements: Every sample.
        yardstick: The contender against which the others are held, round by round.
        goals: Who is to come up to what.
    """

    def __init__(self, measurements: Iterable[Measurement], *, yardstick: str, goals: Goals) -> None:
        self._yardstick, self._goals = yardstick, goals
        self._loads: dict[str, Load] = {}
        self._samples: dict[tuple[str, str], dict[int, Sample]] = {}
        for each in measurements:
            self._loads[each.load.name] = each.load
            self._samples.setdefault((each.load.name, each.contender), {})[each.round] = each.sample

    def rows(self, contenders: Sequence[str], loads: Sequence[str]) -> list[tuple[str, ...]]:
        """Give the table's rows, loads and contenders in the given order."""
        pairs = [(load, contender) for load in loads for contender in contenders]
        return [self._row(*pair) for pair in pairs if pair in self._samples]

    def _row(self, name: str, contender: str) -> tuple[str, ...]:
        load, samples = self._loads[name], self._samples[name, contender].values()
        figures = ", ".join(figure.text(load, samples) for figure in FIGURES[name])
        share = self._share(name, contender)
        return (load.title, contender, figures, share.text(".2f") if share else "", self._verdict(name, contender))

    def _share(self, name: str, contender: str) -> Spread | None:
        """Give a contender's speed as a share of the yardstick's, from round to round."""
        own, best = self._samples[name, contender], self._samples.get((name, self._yardstick), {})
        if contender == self._yardstick or self._loads[name].seconds or not best:
            return None
        return Spread.of(best[number].seconds / own[number].seconds for number in own)

    def _verdict(self, name: str, contender: str) -> str:
        if contender not in self._goals:
            return ""
        if name in MOST:
            load, samples = self._loads[name], self._samples[name, contender].values()
            came_to = Spread.of(FIGURES[name][0].take(load, sample) for sample in samples).middle
            return f"≤ {MOST[name]:g}: {_met(came_to <= MOST[name])}"
        if name not in self._goals[contender]:
            return ""
        least, share = self._goals[contender][name], self._share(name, contender)
        return "" if share is None else f"≥ {least:g}: {_met(share.middle >= least)}"


def _met(met: bool) -> str:
    return "met" if met else "missed"


def plain(rows: Sequence[Sequence[str]]) -> str:
    """Write a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(HEADER, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (HEADER, *rows))
    return "\n".join(line.rstrip() for line in lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Write a table for a README."""
    rule = ["---"] * len(HEADER)
    return "\n".join(f"| {' | '.join(row)} |" for row in (HEADER, rule, *rows))
