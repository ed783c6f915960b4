"""The live view's pictures: a run's waves and steps as lines that fit a terminal, however many steps there are.

What fits is shown whole. Otherwise a window is: failed steps, those that wait for their action, running ones, those
between two attempts, and those that ended last. The others are summed up by wave, and neighbouring waves without any
step to show become one line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice

from rich.cells import cell_len
from rich.text import Text

from .run_view import Activity, RunView, StepView, WaveView
from .text import duration_text, missing_line, one_line, plural, tally_text

__all__ = ["frame"]

_SYMBOLS = {
    Activity.PENDING: ("·", "dim"),
    Activity.READY: ("▹", "cyan"),
    Activity.RUNNING: ("▸", "cyan"),
    Activity.BACKING_OFF: ("↻", "yellow"),
    Activity.SUCCEEDED: ("✓", "green"),
    Activity.FAILED: ("✗", "bold red"),
    Activity.CANCELLED: ("■", "yellow"),
    Activity.SKIPPED: ("-", "dim"),
    Activity.UNKNOWN: ("?", "dim"),
}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_BAR = 10
_DURATION = 7
_WIDE = 80
_FINAL_ROWS = 100
_FINAL_WINDOW = 40


def frame(view: RunView, *, width: int, height: int, now: datetime) -> list[Text]:
    """Draw a run as it stands.

    Args:
        view: The run.
        width: The cells of a line; every line fits.
        height: The lines of the terminal; the picture fits, unless the run has ended: then it may scroll.
        now: What running steps' times are counted up to.
    """
    rows = len(view.steps) + len(view.waves)
    room = max(height - 3, 4)
    if view.result is not None:
        room = max(room, rows if rows <= _FINAL_ROWS else _FINAL_WINDOW)
    steps = view.steps.values() if rows <= room else _pick(view, room)
    lines = [*_head(view, width, now), *_body(view, list(steps), width, now)]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _head(view: RunView, width: int, now: datetime) -> Iterator[Text]:
    """Draw the whole's name, state and time; then its progress."""
    state, style = _whole_state(view)
    elapsed = duration_text(_elapsed(view, now))
    workflow = "" if view.run_id.startswith(f"{view.workflow_name}-") else f"  {view.workflow_name}"
    again = f"  rerun of {view.rerun_of}" if view.rerun_of and view.run_id else ""
    title = Text.assemble((view.run_id, "bold"), workflow, (again, "dim"), "  ", (state, style))
    title.truncate(max(width - cell_len(elapsed) - 2, 1), overflow="ellipsis", pad=True)
    yield title.append(f"  {elapsed}")
    total = len(view.steps)
    counts = Text(f"  {view.ended:,}/{plural(total, 'step')}  ")
    counts.append_text(_counts(view, width - counts.cell_len - _BAR))
    cells = min(max(width - counts.cell_len, _BAR), 40)
    yield _bar(view.ended / total if total else 0.0, cells, style).append_text(counts)


def _counts(view: RunView, room: int) -> Text:
    """Count the steps by what they do, in words if there is room, else in symbols."""
    if not view.steps:
        return Text()
    words = _tally(view.counts)
    if len(words) <= room:
        return Text(words)
    parts = ((f"{view.counts[activity]:,}", _SYMBOLS[activity]) for activity in Activity if view.counts[activity])
    return Text("  ").join(Text.assemble((symbol, style), f" {count}") for count, (symbol, style) in parts)


def _tally(counts: Mapping[Activity, int]) -> str:
    return tally_text({activity: counts[activity] for activity in Activity})


def _whole_state(view: RunView) -> tuple[str, str]:
    if view.result is not None:
        return view.result.state, _SYMBOLS[Activity(view.result.state)][1]
    if view.stopping is not None:
        return f"stopping: {one_line(view.stopping.message)}", "yellow"
    if view.paused:
        return "paused: its server leaves it alone", "yellow"
    if view.missing and view.begun.keys() <= view.missing.keys():
        actions = (step.action or f"of {step.step_id}" for step in view.missing.values())
        return missing_line(dict.fromkeys(actions)), "yellow"
    return ("running", "cyan") if view.workflow_name else ("starting", "dim")


def _elapsed(view: RunView, now: datetime) -> timedelta | None:
    if view.result is not None:
        return view.result.duration
    return now - view.start_time if view.start_time else None


def _pick(view: RunView, room: int) -> list[StepView]:
    """Choose the steps to show when there is no room for all, the most telling first."""
    picked: dict[str, StepView] = {}
    waves: set[int] = set()
    used = 1
    for step in _by_interest(view, room):
        used += 1 if step.wave in waves else 3  # the wave's own line, and one for the waves between it and the last
        if used > room:
            break
        picked[step.step_id] = step
        waves.add(step.wave)
    return list(picked.values())


def _by_interest(view: RunView, room: int) -> Iterator[StepView]:
    yield from islice(view.failed, max(room // 3, 1))
    yield from view.missing.values()
    begun = [step for step in view.begun.values() if not step.missing]
    yield from (step for step in begun if step.activity is Activity.RUNNING)
    yield from (step for step in begun if step.activity is not Activity.RUNNING)
    if view.result is None:
        yield from reversed(view.recent)


def _body(view: RunView, steps: list[StepView], width: int, now: datetime) -> Iterator[Text]:
    """Draw the waves of these steps, and a line for the waves between them."""
    columns = _Columns(width, steps)
    homes: dict[int, list[StepView]] = {}
    for step in sorted(steps, key=lambda step: step.order):
        homes.setdefault(step.wave, []).append(step)
    between: list[WaveView] = []
    for index, wave in sorted(view.waves.items()):
        if index not in homes:
            between.append(wave)
            continue
        yield from _summary(between)
        between.clear()
        yield _wave_line(wave, complete=len(homes[index]) == len(wave.steps))
        yield from (columns.line(step, now) for step in homes[index])
    yield from _summary(between)


def _summary(waves: list[WaveView]) -> Iterator[Text]:
    if not waves:
        return
    counts: Counter[Activity] = Counter()
    for wave in waves:
        counts.update(wave.counts)
    first, last = waves[0].index, waves[-1].index
    name = f"wave {first}" if first == last else f"waves {first}-{last}"
    yield Text(f"{name}  {_tally(counts)}", style="dim")


def _wave_line(wave: WaveView, *, complete: bool) -> Text:
    line = Text(f"wave {wave.index}")
    return line if complete else line.append(f"  {_tally(wave.counts)}", style="dim")


class _Columns:
    """Lays steps out in columns: symbol, id, action where there is room, time, and what there is to say."""

    def __init__(self, width: int, steps: list[StepView]) -> None:
        self._width = width
        self._id = _fitting((step.step_id for step in steps), width * 3 // 10)
        self._action = _fitting((step.action for step in steps), width // 4) if width >= _WIDE else 0

    def line(self, step: StepView, now: datetime) -> Text:
        symbol, style = _symbol(step, now)
        line = Text.assemble("  ", (symbol, style), " ", _cell(step.step_id, self._id, ""))
        if self._action:
            line.append("  ").append_text(_cell(step.action, self._action, "dim"))
        line.append(f"  {duration_text(_step_time(step, now)):>{_DURATION}}  ")
        return line.append_text(_detail(step, self._width - line.cell_len))


def _fitting(texts: Iterable[str], most: int) -> int:
    return min(max(map(cell_len, texts), default=0), most)


def _cell(text: str, width: int, style: str) -> Text:
    cell = Text(text, style=style)
    cell.truncate(width, overflow="ellipsis", pad=True)
    return cell


def _symbol(step: StepView, now: datetime) -> tuple[str, str]:
    if step.missing:
        return "◌", "yellow"
    if step.activity is not Activity.RUNNING:
        return _SYMBOLS[step.activity]
    return _SPINNER[int(now.timestamp() * 10) % len(_SPINNER)], "cyan"


def _step_time(step: StepView, now: datetime) -> timedelta | None:
    return (step.end_time or now) - step.start_time if step.start_time else None


def _detail(step: StepView, room: int) -> Text:
    """Draw progress and the last words of a step; the end of a stream is what counts, so its beginning is cut."""
    detail = Text()
    if step.fraction is not None:
        detail.append_text(_bar(step.fraction, _BAR, "cyan")).append(f" {step.fraction:4.0%} ")
    if step.attempt > 1 and not step.activity.ended:
        detail.append(f"attempt {step.attempt}  ", style="yellow")
    if step.note:
        detail.append(step.note, style=_SYMBOLS[step.activity][1] if step.activity.ended else "")
    tail = one_line(step.tail)
    if tail and not step.note:
        detail.append_text(_end_of(tail, room - detail.cell_len))
    return detail


def _end_of(text: str, room: int) -> Text:
    cut = text
    while cut and cell_len(cut) > room - (cut is not text):
        cut = cut[max(1, (cell_len(cut) - room) // 2) :]
    return Text(cut if cut is text else f"…{cut}", style="italic dim")


def _bar(fraction: float, cells: int, style: str) -> Text:
    full = min(int(fraction * cells), cells)
    return Text.assemble(("━" * full, style), ("╌" * (cells - full), "dim"))
