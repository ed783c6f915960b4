"""The chart of a report, and the table of its critical path, as lines of text: plain, and with the role of each part.

The chart has a line for each step, with its time from left to right. Ids of steps are ASCII and every glyph takes one
cell, so a line has as many cells as characters.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from itertools import groupby
from typing import NamedTuple, TypeAlias

from stepwave._values.text import duration_text, one_line, plural

from .results import State
from .step_report import PhaseKind, StepReport, TimeParts

__all__ = ["Line", "Role", "Span", "chart_lines", "is_visible", "kind_text", "path_table"]

_GLYPHS = {
    PhaseKind.WORK: "█",
    PhaseKind.WAITING: "░",
    PhaseKind.BACKOFF: "┄",
    PhaseKind.BARRIER: "▒",
    PhaseKind.PLANNING: "·",
    PhaseKind.EXTERNAL: "▞",
    PhaseKind.NESTED: "─",
}
_TEXTS = {PhaseKind.EXTERNAL: "waiting for someone", PhaseKind.NESTED: "steps within"}
_HEADINGS = {PhaseKind.EXTERNAL: "SOMEONE"}
_MAX_STEPS = 40
_MAX_PATH_STEPS = 24  # of a run with more steps
_MAX_OTHER_STEPS = 12
_TIME_WIDTH = 7
_NOTE_WIDTH = 9
_MIN_BAR_WIDTH = 8
_COLUMN_WIDTH = 9  # of a time in the table: seven for a duration, and two before it
_MIN_NAME_WIDTH = 8  # in the table
_MIN_VISIBLE = timedelta(microseconds=500)  # less is shown as 0 ms


class Role(StrEnum):
    """The roles of parts of a line, beside the kinds of phases and the states of steps."""

    NONE = ""
    TITLE = "title"
    PATH = "path"
    NOTE = "note"


class Span(NamedTuple):
    """A part of a line, and its role, which a terminal may show as a colour."""

    text: str
    role: Role | PhaseKind | State = Role.NONE


Line: TypeAlias = tuple[Span, ...]


def chart_lines(
    steps: Mapping[str, StepReport], path: Sequence[str], makespan: timedelta, *, width: int
) -> Iterator[Line]:
    """Yield the lines of the chart. Every line fits the width.

    A line has the step's id, with a dot if it is on the critical path, a bar of its time in the run, its duration, and
    its slack, or its state if it did not succeed. Of more than 40 steps the longest are shown: 24 of the critical path
    and 12 others. The children of a list are shown if they are on the critical path; the list has their number.
    """
    shown = _shown_steps(steps, path)
    id_width = _id_width(map(_name, shown), width * 3 // 10)
    bar_width = max(width - 2 - id_width - 2 - 2 - _TIME_WIDTH - 2 - _NOTE_WIDTH, _MIN_BAR_WIDTH)
    lines = [_heading(makespan, id_width, bar_width)]
    lines += [_line(step, makespan, id_width, bar_width) for step in shown]
    folded = sum(_is_folded(step) for step in steps.values())
    if hidden := len(steps) - len(shown) - folded:
        hidden_on_path = len(path) - sum(step.on_path for step in shown)
        on_path = f", {hidden_on_path:,} of them on the path" if hidden_on_path else ""
        lines.append((Span(f"  {plural(hidden, 'shorter step')} left out{on_path}", Role.NOTE),))
    if folded:
        lines.append((Span(f"  {plural(folded, 'step')} within lists left out", Role.NOTE),))
    lines.append(_legend(path, shown))
    yield from (_truncate_line(line, width) for line in lines)


def path_table(
    steps: Mapping[str, StepReport], path: Sequence[str], path_parts: TimeParts, *, width: int
) -> Iterator[Line]:
    """Yield the lines of a table of how each step of the critical path spent its time."""
    kinds = [kind for kind in PhaseKind if kind is PhaseKind.WORK or is_visible(getattr(path_parts, kind))]
    path = [step_id for step_id in path if not _is_only_around(steps[step_id])]
    max_width = max(width - _COLUMN_WIDTH * (len(kinds) + 1), _MIN_NAME_WIDTH)
    shown = [step for step in _shown_steps(steps, path) if step.on_path and not _is_only_around(step)]
    rows = [["PATH", "TIME", *(_HEADINGS.get(kind, kind.upper()) for kind in kinds)]]
    rows += [_row(_truncate(one_line(step.step_id), max_width), step.parts, kinds) for step in shown]
    if len(shown) < len(path):
        rows.append([f"{len(path) - len(shown):,} more", *_hidden_times(steps, path, shown, kinds)])
    rows.append(_row("total", path_parts, kinds))
    name_width, *widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *times in rows:
        cells = (f"{time:>{column}}" for time, column in zip(times, widths, strict=True))
        yield (Span("  ".join([f"{name:<{name_width}}", *cells]).rstrip()),)


def is_visible(time: timedelta) -> bool:
    """Return whether a duration is at least a millisecond when it is rounded."""
    return time >= _MIN_VISIBLE


def kind_text(kind: PhaseKind) -> str:
    """Return what a kind of time is called in a text."""
    return _TEXTS.get(kind, kind)


def _is_folded(step: StepReport) -> bool:
    """Return whether a step is within a list, and not on the critical path."""
    return step.in_list and not step.on_path


def _is_only_around(step: StepReport) -> bool:
    """Return whether a step became several at once, so that these have all of its time."""
    return is_visible(step.parts.nested) and not is_visible(step.parts.own)


def _name(step: StepReport) -> str:
    """Return a step's id, for a list with the number of its items."""
    name = one_line(step.step_id)
    return name if step.item_count is None else f"{name} ×{step.item_count:,}"


def _shown_steps(steps: Mapping[str, StepReport], path: Sequence[str]) -> list[StepReport]:
    """Return the steps to show, in the order of their start: all, or the longest of more than 40.

    Those within a step come after it.
    """
    shown = [step for step in steps.values() if not _is_folded(step)]
    if len(shown) > _MAX_STEPS:
        others = _longest((step for step in shown if not step.on_path), _MAX_OTHER_STEPS)
        shown = [*_longest((steps[step_id] for step_id in path), _MAX_PATH_STEPS), *others]
    places = {step.outermost: place for place, step in enumerate(shown)}

    def order(step: StepReport) -> tuple[timedelta, int, int, timedelta]:
        around = steps[step.outermost]
        return around.begin, around.wave, places[step.outermost], step.begin

    return sorted(shown, key=order)


def _longest(steps: Iterable[StepReport], count: int) -> list[StepReport]:
    return sorted(steps, key=lambda step: step.end - step.begin, reverse=True)[:count]


def _heading(makespan: timedelta, id_width: int, bar_width: int) -> Line:
    scale = f"0{duration_text(makespan):>{max(bar_width - 1, 0)}}"
    return (Span(f"  {'STEP':<{id_width}}  {scale}  {'TIME':>{_TIME_WIDTH}}  SLACK", Role.NOTE),)


def _line(step: StepReport, makespan: timedelta, id_width: int, bar_width: int) -> Line:
    role = Role.PATH if step.on_path else Role.NONE
    name = f"{'● ' if step.on_path else '  '}{_truncate(_name(step), id_width):<{id_width}}  "
    duration = duration_text(step.end - step.begin) if step.phases else ""
    return (Span(name, role), *_bar(step, makespan, bar_width), Span(f"  {duration:>{_TIME_WIDTH}}  "), _note(step))


def _note(step: StepReport) -> Span:
    if step.reused_from:
        return Span("reused", Role.NOTE)
    if step.state is not State.SUCCEEDED:
        return Span(step.state, step.state)
    return Span(duration_text(step.slack) if is_visible(step.slack) else "")


def _bar(step: StepReport, makespan: timedelta, width: int) -> Iterator[Span]:
    """Yield the bar of a step's phases, to the nearest cell. Work has at least one cell."""
    cells: list[PhaseKind | None] = [None] * width
    for phase in sorted(
        step.phases, key=lambda phase: (phase.kind is not PhaseKind.NESTED, phase.kind is PhaseKind.WORK)
    ):
        first, last = (_cell(time, makespan, width) for time in (phase.start, phase.end))
        if phase.kind is PhaseKind.WORK:
            first = min(first, width - 1)
            last = max(last, first + 1)
        cells[first:last] = [phase.kind] * (last - first)
    for kind, group in groupby(cells):
        length = len(list(group))
        yield Span(" " * length) if kind is None else Span(_GLYPHS[kind] * length, kind)


def _cell(time: timedelta, makespan: timedelta, width: int) -> int:
    return min(round(time / makespan * width), width) if makespan else 0


def _legend(path: Sequence[str], shown: Sequence[StepReport]) -> Line:
    kinds = {phase.kind for step in shown for phase in step.phases}
    spans = [Span("  ● critical path" if path else "  no critical path: nothing took time")]
    for kind, glyph in _GLYPHS.items():
        if kind in kinds:
            spans += [Span("  "), Span(glyph, kind), Span(f" {kind_text(kind)}")]
    return tuple(spans)


def _row(name: str, parts: TimeParts, kinds: Sequence[PhaseKind]) -> list[str]:
    times = (getattr(parts, kind) for kind in kinds)
    return [name, duration_text(parts.own), *(duration_text(time) if is_visible(time) else "" for time in times)]


def _hidden_times(
    steps: Mapping[str, StepReport], path: Sequence[str], shown: Sequence[StepReport], kinds: Sequence[PhaseKind]
) -> Iterator[str]:
    """Yield the time of the steps of the critical path that are not shown: in total, then by kind."""
    shown_ids = {step.step_id for step in shown}
    hidden = [steps[step_id].parts for step_id in path if step_id not in shown_ids]
    yield duration_text(sum((parts.own for parts in hidden), timedelta()))
    for kind in kinds:
        yield duration_text(sum((getattr(parts, kind) for parts in hidden), timedelta()))


def _id_width(ids: Iterable[str], max_width: int) -> int:
    return max(min(max(map(len, ids), default=0), max_width), len("STEP"))


def _truncate(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _truncate_line(line: Line, width: int) -> Line:
    """Truncate a line to a width, without counting the spaces at its end."""
    if len("".join(span.text for span in line).rstrip()) <= width:
        return line
    spans, left = [], width - 1
    for span in line:
        spans.append(Span(span.text[:left], span.role))
        left -= len(spans[-1].text)
    return (*spans, Span("…"))
