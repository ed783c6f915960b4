"""The frames of the live view: a run's waves and steps as lines that fit a terminal, for any number of steps.

Each wave shows the counts of its steps, and neighbouring waves without a selected step share a line. The last line
counts the steps without a row.

A step that became several has one row with the counts of its children. The steps of a nested workflow have rows below
it while it runs, and those of a list never have: it may have 100,000. A row below a step that waits to be completed
says how.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from math import ceil

from rich.cells import cell_len
from rich.text import Text

from stepwave._convert.paths import name_in

from .run_view import RunView
from .selection import Row, rows_within, select_steps
from .step_view import Activity, StepView, WaveView
from .text import PAUSED_TEXT, duration_text, missing_line, one_line, plural, tally_text

__all__ = ["frame"]

_SYMBOLS = {
    Activity.PENDING: ("·", "dim"),
    Activity.READY: ("▹", "cyan"),
    Activity.WAITING: ("◌", "yellow"),
    Activity.RUNNING: ("▸", "cyan"),
    Activity.BACKING_OFF: ("↻", "yellow"),
    Activity.SUCCEEDED: ("✓", "green"),
    Activity.FAILED: ("✗", "bold red"),
    Activity.CANCELLED: ("■", "yellow"),
    Activity.SKIPPED: ("-", "dim"),
    Activity.UNKNOWN: ("?", "dim"),
}
_SHOWN_WITHIN = (Activity.RUNNING, Activity.WAITING, Activity.BACKING_OFF, Activity.FAILED, Activity.CANCELLED)
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR_WIDTH = 10
_MAX_BAR_WIDTH = 40
_DURATION_WIDTH = 7
_MIN_WIDTH_WITH_ACTIONS = 80
_MAX_FINAL_ROWS = 100  # a run with at most this many rows is shown whole when it has ended
_FINAL_SELECTION_ROWS = 40  # the rows of the selected steps of a larger run
_ID_SHARE = 40  # percent of the width, at most, for the ids of steps
_HEADER_ROWS = 2
_MIN_ROWS = 5  # a step, its wave, the waves before and after it, and the number of steps without a row


def frame(view: RunView, *, width: int, height: int, now: datetime) -> list[Text]:
    """Return the lines of a frame.

    Args:
        view: The run.
        width: The terminal's width in cells. Every line fits.
        height: The terminal's height in lines. The frame fits while the run lasts; the last frame may be higher.
        now: The time until which the durations of running steps count. While the server is gone, they stop.
    """
    clock = view.lost_time or now
    within = {} if view.result is not None else rows_within(view)
    rows = len(view.steps) + len(view.waves) + sum(map(len, within.values()))
    max_rows = max(height - _HEADER_ROWS, _MIN_ROWS)
    if view.result is not None:
        max_rows = max(max_rows, rows if rows <= _MAX_FINAL_ROWS else _FINAL_SELECTION_ROWS)
    steps = list(view.steps.values()) if rows <= max_rows else select_steps(view, within, max_rows - 1)
    lines = [*_header(view, width, now), *_body(view, steps, within, width, clock)]
    if left_out := len(view.steps) - len(steps):
        lines.append(Text(f"… {left_out:,} more", style="dim"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _header(view: RunView, width: int, now: datetime) -> Iterator[Text]:
    """Yield two lines: the run's id, state and time, then its progress."""
    state, style = _run_state(view, now)
    elapsed = "" if _lost(view) else duration_text(_elapsed(view, now))
    title = Text.assemble((view.run_id, "bold"), _origin(view), "  ", (state, style))
    title.truncate(max(width - cell_len(elapsed) - 2, 1), overflow="ellipsis", pad=True)
    yield title.append(f"  {elapsed}")
    total = view.total
    bar_width = min(max(width // 5, _BAR_WIDTH), _MAX_BAR_WIDTH)  # not by the length of the counts, which change
    counts = Text(f"  {view.ended:>{len(f'{total:,}')},}/{plural(total, 'step')}  ")
    counts.append_text(_counts(view, width - counts.cell_len - bar_width))
    yield _bar(view.ended / total if total else 0.0, bar_width, style).append_text(counts)


def _origin(view: RunView) -> Text:
    """Return the workflow, if the run's id does not name it, and the run that this run repeats."""
    if _lost(view):  # the space is for the connection
        return Text()
    workflow = "" if view.run_id.startswith(f"{view.workflow_name}-") else f"  {view.workflow_name}"
    rerun = f"  rerun of {view.rerun_of}" if view.rerun_of and view.run_id else ""
    return Text.assemble(workflow, (rerun, "dim"))


def _lost(view: RunView) -> bool:
    return view.lost_time is not None and view.result is None


def _counts(view: RunView, max_width: int) -> Text:
    """Return the number of steps with each activity, in words if they fit, else in symbols."""
    if not view.steps:
        return Text()
    text = _counts_text(view.counts)
    if len(text) <= max_width:
        return Text(text)
    parts = ((f"{view.counts[activity]:,}", _SYMBOLS[activity]) for activity in Activity if view.counts[activity])
    return Text("  ").join(Text.assemble((symbol, style), f" {count}") for count, (symbol, style) in parts)


def _counts_text(counts: Mapping[Activity, int]) -> str:
    return tally_text({activity: counts[activity] for activity in Activity})


def _run_state(view: RunView, now: datetime) -> tuple[str, str]:
    if view.result is not None:
        return view.result.state, _SYMBOLS[Activity(view.result.state)][1]
    if view.lost_time is not None:
        return f"server gone for {_seconds_text(now - view.lost_time)}, reconnecting", "bold yellow"
    if view.stopping is not None:
        return f"stopping: {one_line(view.stopping.message)}", "yellow"
    if view.paused:
        return PAUSED_TEXT, "yellow"
    if view.to_complete and not view.started:
        count = len(view.to_complete)
        return ("waits for an answer" if count == 1 else f"waits for {count:,} answers"), "yellow"
    if view.without_action and view.started.keys() <= view.without_action.keys():
        actions = (step.action or f"of {step.step_id}" for step in view.without_action.values())
        return missing_line(dict.fromkeys(actions)), "yellow"
    if not view.workflow_name:
        return "starting", "dim"
    return ("running, open" if view.open else "running"), "cyan"


def _elapsed(view: RunView, now: datetime) -> timedelta | None:
    if view.result is not None:
        return view.result.duration
    return now - view.start_time if view.start_time else None


def _body(
    view: RunView, steps: list[StepView], within: Mapping[str, list[Row]], width: int, now: datetime
) -> Iterator[Text]:
    """Yield lines for the waves with these steps, and a line for the waves between them."""
    columns = _Columns(width, [(0, step) for step in steps], within)
    steps_by_wave: dict[int, list[StepView]] = {}
    for step in sorted(steps, key=lambda step: step.order):
        steps_by_wave.setdefault(step.wave, []).append(step)
    between: list[WaveView] = []
    for index, wave in sorted(view.waves.items()):
        if index not in steps_by_wave:
            between.append(wave)
            continue
        yield from _summary(between)
        between.clear()
        yield _wave_line(wave, complete=len(steps_by_wave[index]) == len(wave.steps))
        for step in steps_by_wave[index]:
            yield columns.line(step, now)
            yield from (columns.row(row, now) for row in within.get(step.step_id, ()))
    yield from _summary(between)


def _summary(waves: list[WaveView]) -> Iterator[Text]:
    if not waves:
        return
    counts: Counter[Activity] = Counter()
    for wave in waves:
        counts.update(wave.counts)
    first, last = waves[0].index, waves[-1].index
    name = f"wave {first}" if first == last else f"waves {first}-{last}"
    yield Text(f"{name}  {_counts_text(counts)}", style="dim")


def _wave_line(wave: WaveView, *, complete: bool) -> Text:
    line = Text(f"wave {wave.index}")
    return line if complete else line.append(f"  {_counts_text(wave.counts)}", style="dim")


class _Columns:
    """Formats steps in columns: symbol, id, action if the terminal is wide enough, time, and details."""

    def __init__(self, width: int, steps: list[tuple[int, StepView]], within: Mapping[str, list[Row]]) -> None:
        shown = {step.step_id for _, step in steps}
        rows = [row for step_id, rows in within.items() if step_id in shown for row in rows]
        all_steps = [*steps, *((row.depth, row.step) for row in rows if row.step is not None)]
        self._width = width
        self._id_width = _column_width((_name(depth, step) for depth, step in all_steps), width * _ID_SHARE // 100)
        self._action_width = (
            _column_width((step.action for _, step in all_steps), width // 4) if width >= _MIN_WIDTH_WITH_ACTIONS else 0
        )

    def row(self, row: Row, now: datetime) -> Text:
        """Return a line for a row below a step."""
        if row.step is None:
            return Text(f"  {'  ' * row.depth}{row.note}", style="dim" if row.note.startswith("…") else "yellow")
        return self.line(row.step, now, row.depth)

    def line(self, step: StepView, now: datetime, depth: int = 0) -> Text:
        symbol, style = _symbol(step, now)
        id_width = max(self._id_width - 2 * depth, 1)
        name = step.step_id if not depth else name_in(step.step_id)
        line = Text.assemble("  ", "  " * depth, (symbol, style), " ", _id_cell(name, id_width))
        if self._action_width:
            line.append("  ").append_text(_cell(step.action, self._action_width, "dim"))
        line.append(f"  {duration_text(_step_duration(step, now)):>{_DURATION_WIDTH}}  ")
        return line.append_text(_detail(step, self._width - line.cell_len, now))


def _name(depth: int, step: StepView) -> str:
    return step.step_id if not depth else "  " * depth + name_in(step.step_id)


def _column_width(texts: Iterable[str], max_width: int) -> int:
    return min(max(map(cell_len, texts), default=0), max_width)


def _id_cell(step_id: str, width: int) -> Text:
    """Return an id that is padded, or shortened in its middle: ids often differ at their ends."""
    if cell_len(step_id) <= width:
        return _cell(step_id, width, "")
    end = max((width - 1) // 2, 0)
    start = Text(step_id)
    start.truncate(width - 1 - end, overflow="crop")
    return _cell(f"{start.plain}…{step_id[-end:]}" if end else "…", width, "")


def _cell(text: str, width: int, style: str) -> Text:
    cell = Text(text, style=style)
    cell.truncate(width, overflow="ellipsis", pad=True)
    return cell


def _symbol(step: StepView, now: datetime) -> tuple[str, str]:
    if step.activity is not Activity.RUNNING:
        return _SYMBOLS[step.activity]
    return _SPINNER[int(now.timestamp() * 10) % len(_SPINNER)], "cyan"


def _step_duration(step: StepView, now: datetime) -> timedelta | None:
    return (step.end_time or now) - step.start_time if step.start_time else None


def _detail(step: StepView, max_width: int, now: datetime) -> Text:
    """Return a step's progress, and its note or the end of its stream."""
    detail = Text()
    if step.expanded:
        detail.append_text(_progress_within(step))
    if step.fraction is not None:
        detail.append_text(_bar(step.fraction, _BAR_WIDTH, "cyan")).append(f" {step.fraction:4.0%} ")
    by_fallback = step.fallback_next and step.activity is Activity.RUNNING
    if by_fallback or (step.attempt > 1 and not step.activity.ended):
        detail.append(f"attempt {step.attempt}{', the fallback' if by_fallback else ''}  ", style="yellow")
    if step.note and step.activity in {Activity.BACKING_OFF, Activity.READY}:
        detail.append(_next_attempt(step, now), style="yellow")
    if step.note:
        detail.append(step.note, style=_SYMBOLS[step.activity][1] if step.activity.ended else "")
    stream_text = one_line(step.stream_text)
    if stream_text and not step.note:
        detail.append_text(_truncate_start(stream_text, max_width - detail.cell_len))
    return detail


def _progress_within(step: StepView) -> Text:
    """Return how many of the steps that a step became have ended, run, and have failed."""
    counts = step.inner_counts
    total, ended = counts.total(), sum(count for activity, count in counts.items() if activity.ended)
    noun = "step" if step.item_count is None else "item"
    if step.activity is Activity.SUCCEEDED:
        failed = f", {counts[Activity.FAILED]:,} failed" if counts[Activity.FAILED] else ""
        return Text(f"{plural(total, noun)}{failed}  ")
    if step.activity.ended:  # its failure says how many
        return Text()
    text = Text(f"{ended:,}/{total:,}  ")
    others = Counter({activity: counts[activity] for activity in _SHOWN_WITHIN if counts[activity]})
    if step.item_count is not None and others:
        text.append(f"{_counts_text(others)}  ", style="bold red" if Activity.FAILED in others else "")
    return text.append(step.problem, style="red")


def _next_attempt(step: StepView, now: datetime) -> str:
    """Return what follows a failed attempt, with the time until then."""
    if step.next_time is not None and step.next_time > now:
        return f"{'fallback' if step.fallback_next else 'next try'} in {_seconds_text(step.next_time - now)}: "
    return "its fallback follows: " if step.fallback_next else "tries again: "


def _seconds_text(duration: timedelta) -> str:
    """Return a duration in whole seconds, which changes once a second; from a minute on as `duration_text`."""
    seconds = ceil(duration.total_seconds())
    return f"{seconds} s" if seconds < 60 else duration_text(timedelta(seconds=seconds))


def _truncate_start(text: str, max_width: int) -> Text:
    rest = text
    while rest and cell_len(rest) > max_width - (rest is not text):  # the ellipsis needs a cell
        rest = rest[max(1, (cell_len(rest) - max_width) // 2) :]
    return Text(rest if rest is text else f"…{rest}", style="italic dim")


def _bar(fraction: float, width: int, style: str) -> Text:
    filled = min(int(fraction * width), width)
    return Text.assemble(("━" * filled, style), ("╌" * (width - filled), "dim"))
