"""The chart of a report: a line for each step, with its time from left to right."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from rich.cells import cell_len
from rich.text import Text

from stepwave._model.report import PhaseKind, RunReport, StepReport
from stepwave._model.results import State

from .text import duration_text, one_line, plural

__all__ = ["is_visible", "shown_steps", "waterfall"]

_GLYPHS = {
    PhaseKind.WORK: ("█", "green"),
    PhaseKind.WAITING: ("░", "yellow"),
    PhaseKind.BACKOFF: ("┄", "magenta"),
    PhaseKind.BARRIER: ("▒", "blue"),
    PhaseKind.PLANNING: ("·", "dim"),
}
_STATE_STYLES = {State.FAILED: "red", State.CANCELLED: "yellow", State.RUNNING: "cyan"}
_MAX_STEPS = 40
_MAX_PATH_STEPS = 24  # of a run with more steps
_MAX_OTHER_STEPS = 12
_TIME_WIDTH = 7
_NOTE_WIDTH = 9
_MIN_BAR_WIDTH = 8
_MIN_VISIBLE = timedelta(microseconds=500)  # less is shown as 0 ms


def waterfall(report: RunReport, *, width: int) -> Iterator[Text]:
    """Yield the lines of the chart. Every line fits the width.

    A line has the step's id, with a dot if it is on the critical path, a bar of its time in the run, its duration, and
    its slack, or its state if it did not succeed. Of more than 40 steps the longest are shown: 24 of the critical path
    and 12 others.
    """
    steps = shown_steps(report)
    id_width = _id_width((step.step_id for step in steps), width * 3 // 10)
    bar_width = max(width - 2 - id_width - 2 - 2 - _TIME_WIDTH - 2 - _NOTE_WIDTH, _MIN_BAR_WIDTH)
    yield _truncate(_heading(report, id_width, bar_width), width)
    for step in steps:
        yield _truncate(_line(report, step, id_width, bar_width), width)
    if hidden := _hidden_steps(report, steps):
        yield _truncate(Text(hidden, style="dim"), width)
    yield _truncate(_legend(report, steps), width)


def is_visible(time: timedelta) -> bool:
    """Return whether a duration is at least a millisecond when it is rounded."""
    return time >= _MIN_VISIBLE


def shown_steps(report: RunReport) -> list[StepReport]:
    """Return the steps to show, in the order of their start: all, or the longest of more than 40."""
    steps = list(report.steps.values())
    if len(steps) > _MAX_STEPS:
        path = _longest((report.steps[step_id] for step_id in report.path), _MAX_PATH_STEPS)
        steps = [*path, *_longest((step for step in steps if not step.on_path), _MAX_OTHER_STEPS)]
    return sorted(steps, key=lambda step: (step.begin, step.wave))


def _longest(steps: Iterable[StepReport], count: int) -> list[StepReport]:
    return sorted(steps, key=lambda step: step.end - step.begin, reverse=True)[:count]


def _heading(report: RunReport, id_width: int, bar_width: int) -> Text:
    makespan = duration_text(report.makespan)
    scale = f"0{makespan:>{max(bar_width - 1, 0)}}"
    return Text(f"  {'STEP':<{id_width}}  {scale}  {'TIME':>{_TIME_WIDTH}}  SLACK", style="dim")


def _line(report: RunReport, step: StepReport, id_width: int, bar_width: int) -> Text:
    name = Text(one_line(step.step_id), style="bold" if step.on_path else "")
    name.truncate(id_width, overflow="ellipsis", pad=True)
    duration = duration_text(step.end - step.begin) if step.phases else ""
    line = Text.assemble(("● " if step.on_path else "  ", "bold"), name, "  ", _bar(report, step, bar_width))
    return line.append(f"  {duration:>{_TIME_WIDTH}}  ").append_text(_note(step))


def _note(step: StepReport) -> Text:
    if step.reused_from:
        return Text("reused", style="dim")
    if step.state is not State.SUCCEEDED:
        return Text(step.state, style=_STATE_STYLES.get(step.state, "dim"))
    return Text(duration_text(step.slack) if is_visible(step.slack) else "")


def _bar(report: RunReport, step: StepReport, width: int) -> Text:
    """Return the bar of a step's phases, to the nearest cell. Work has at least one cell."""
    cells: list[PhaseKind | None] = [None] * width
    for phase in sorted(step.phases, key=lambda phase: phase.kind is PhaseKind.WORK):
        first, last = (_cell(time, report.makespan, width) for time in (phase.start, phase.end))
        if phase.kind is PhaseKind.WORK:
            first = min(first, width - 1)
            last = max(last, first + 1)
        cells[first:last] = [phase.kind] * (last - first)
    bar = Text()
    for kind in cells:
        bar.append(*(_GLYPHS[kind] if kind else (" ", "")))
    return bar


def _cell(time: timedelta, makespan: timedelta, width: int) -> int:
    return min(round(time / makespan * width), width) if makespan else 0


def _hidden_steps(report: RunReport, shown: Sequence[StepReport]) -> str:
    hidden_on_path = len(report.path) - sum(step.on_path for step in shown)
    hidden = len(report.steps) - len(shown)
    on_path = f", {hidden_on_path:,} of them on the path" if hidden_on_path else ""
    return f"  {plural(hidden, 'shorter step')} left out{on_path}" if hidden else ""


def _legend(report: RunReport, shown: Sequence[StepReport]) -> Text:
    kinds = {phase.kind for step in shown for phase in step.phases}
    legend = Text("  ● critical path" if report.path else "  no critical path: nothing took time")
    for kind, (glyph, style) in _GLYPHS.items():
        if kind in kinds:
            legend.append("  ").append(glyph, style=style).append(f" {kind}")
    return legend


def _id_width(ids: Iterable[str], max_width: int) -> int:
    return max(min(max(map(cell_len, ids), default=0), max_width), len("STEP"))


def _truncate(line: Text, width: int) -> Text:
    line.rstrip()
    line.truncate(width, overflow="ellipsis")
    return line
