"""A report as a picture in text: a line for each step, from left to right as the run's time went."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.text import Text

from stepwave._model.report import PhaseKind, RunReport, StepReport
from stepwave._model.results import State

from .text import duration_text, one_line, plural

__all__ = ["seen", "shown_steps", "waterfall"]

_GLYPHS = {
    PhaseKind.WORK: ("█", "green"),
    PhaseKind.WAITING: ("░", "yellow"),
    PhaseKind.BACKOFF: ("┄", "magenta"),
    PhaseKind.BARRIER: ("▒", "blue"),
    PhaseKind.PLANNING: ("·", "dim"),
}
_STATES = {State.FAILED: "red", State.CANCELLED: "yellow", State.RUNNING: "cyan"}
_ALL = 40
_PATH = 24
_OTHERS = 12
_TIME = 7
_NOTE = 9
_LEAST = 8
_INSTANT = timedelta(microseconds=500)


def waterfall(report: RunReport, *, width: int) -> Iterator[Text]:
    """Draw where a run's time went; every line fits the width.

    A line has the step's id (after a dot if it is on the critical path), its time along the run's, how long that was,
    and by how much it could have ended later, or its state if it did not succeed. Of more than 40 steps the longest are
    shown, 24 of the path and 12 others.
    """
    steps = shown_steps(report)
    names = _fitting((step.step_id for step in steps), width * 3 // 10)
    cells = max(width - 2 - names - 2 - 2 - _TIME - 2 - _NOTE, _LEAST)
    yield _cut(_heading(report, names, cells), width)
    for step in steps:
        yield _cut(_line(report, step, names, cells), width)
    if left := _left_out(report, steps):
        yield _cut(Text(left, style="dim"), width)
    yield _cut(_legend(report, steps), width)


def seen(time: timedelta) -> bool:
    """Say whether a span of time is long enough to be told: less is no millisecond."""
    return time >= _INSTANT


def shown_steps(report: RunReport) -> list[StepReport]:
    """Return the steps to show, in the order in which their times begin: all, or the longest of very many."""
    steps = list(report.steps.values())
    if len(steps) > _ALL:
        path = _longest((report.steps[step_id] for step_id in report.path), _PATH)
        steps = [*path, *_longest((step for step in steps if not step.on_path), _OTHERS)]
    return sorted(steps, key=lambda step: (step.begin, step.wave))


def _longest(steps: Iterable[StepReport], most: int) -> list[StepReport]:
    return sorted(steps, key=lambda step: step.end - step.begin, reverse=True)[:most]


def _heading(report: RunReport, names: int, cells: int) -> Text:
    last = duration_text(report.makespan)
    scale = f"0{last:>{max(cells - 1, 0)}}"
    return Text(f"  {'STEP':<{names}}  {scale}  {'TIME':>{_TIME}}  SLACK", style="dim")


def _line(report: RunReport, step: StepReport, names: int, cells: int) -> Text:
    name = Text(one_line(step.step_id), style="bold" if step.on_path else "")
    name.truncate(names, overflow="ellipsis", pad=True)
    spent = duration_text(step.end - step.begin) if step.phases else ""
    line = Text.assemble(("● " if step.on_path else "  ", "bold"), name, "  ", _bar(report, step, cells))
    return line.append(f"  {spent:>{_TIME}}  ").append_text(_note(step))


def _note(step: StepReport) -> Text:
    if step.reused_from:
        return Text("reused", style="dim")
    if step.state is not State.SUCCEEDED:
        return Text(step.state, style=_STATES.get(step.state, "dim"))
    return Text(duration_text(step.slack) if seen(step.slack) else "")


def _bar(report: RunReport, step: StepReport, cells: int) -> Text:
    """Draw a step's phases: to the nearest cell, but work is seen however short it was."""
    painted: list[PhaseKind | None] = [None] * cells
    for phase in sorted(step.phases, key=lambda phase: phase.kind is PhaseKind.WORK):
        first, last = (_cell(time, report.makespan, cells) for time in (phase.start, phase.end))
        if phase.kind is PhaseKind.WORK:
            first = min(first, cells - 1)
            last = max(last, first + 1)
        painted[first:last] = [phase.kind] * (last - first)
    bar = Text()
    for kind in painted:
        bar.append(*(_GLYPHS[kind] if kind else (" ", "")))
    return bar


def _cell(time: timedelta, makespan: timedelta, cells: int) -> int:
    return min(round(time / makespan * cells), cells) if makespan else 0


def _left_out(report: RunReport, shown: Sequence[StepReport]) -> str:
    path = len(report.path) - sum(step.on_path for step in shown)
    left = len(report.steps) - len(shown)
    of_path = f", {path:,} of them on the path" if path else ""
    return f"  {plural(left, 'shorter step')} left out{of_path}" if left else ""


def _legend(report: RunReport, shown: Sequence[StepReport]) -> Text:
    used = {phase.kind for step in shown for phase in step.phases}
    legend = Text("  ● critical path" if report.path else "  no critical path: nothing took time")
    for kind, (glyph, style) in _GLYPHS.items():
        if kind in used:
            legend.append("  ").append(glyph, style=style).append(f" {kind}")
    return legend


def _fitting(texts: Iterable[str], most: int) -> int:
    return max(min(max(map(cell_len, texts), default=0), most), len("STEP"))


def _cut(line: Text, width: int) -> Text:
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line
