"""The picture of a server at work: runs, attempts by action, queues, limits, commits and streams."""

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from stepwave._model.catalog import ActionStats, ServerInfo, ServerStats

from .text import duration_text, limit_text, one_line, plural

__all__ = ["server_frame"]

_MIN_WIDTH_WITH_BARS = 80
_BAR_WIDTH = 20
_NUMBER_WIDTH = 9
_MIN_ACTIONS = 3  # that are shown although limits take the room
_HEADING = ActionStats("ACTION", 0, 0)


def server_frame(
    info: ServerInfo,
    stats: ServerStats,
    before: ServerStats | None,
    *,
    address: str,
    width: int,
    height: int | None = None,
) -> list[Text]:
    """Return the lines of the picture. Every line fits.

    Args:
        info: What the server is.
        stats: What it does now.
        before: What it did when the picture before was made, for rates; `None`: this is the first.
        address: Its address.
        width: The width in cells.
        height: The height in lines; `None`: no bound.
    """
    limits = [Text(limit_text(limit)) for limit in stats.limits]
    head = [_title(info, stats, address, width), *_totals(info, stats, width), *_commits(stats, before)]
    foot = [Text(), Text("LIMITS", style="dim"), *limits] if limits else []
    room = None if height is None else max(height - len(head) - len(foot) - 3, _MIN_ACTIONS)
    lines = [*head, Text(), *_actions(stats.actions, width, room), *foot][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _title(info: ServerInfo, stats: ServerStats, address: str, width: int) -> Text:
    """Return the server's address, kind and age."""
    kind = info.engine if info.engine == info.journal else f"{info.engine}, {info.journal}"
    state = ("  draining", "yellow") if info.draining else ""
    title = Text.assemble((one_line(address), "bold"), f"  {kind}", state)
    age = f"up {duration_text(stats.time - info.start_time)}"
    title.truncate(max(width - cell_len(age) - 2, 1), overflow="ellipsis", pad=True)
    return title.append(f"  {age}")


def _totals(info: ServerInfo, stats: ServerStats, width: int) -> Iterator[Text]:
    """Yield the numbers of the whole server, on one line or two."""
    most = info.limits.max_attempts_in_flight
    of = f" of {most:,}" if most else ""
    behind = f", the slowest {plural(stats.stream_lag, 'event')} behind" if stats.stream_lag else ""
    work = f"{plural(stats.runs_in_flight, 'run')}  {plural(stats.attempts_in_flight, 'attempt')}{of} in flight"
    queue = f"{stats.attempts_queued:,} queued"
    streams = f"{plural(stats.streams_open, 'stream')}{behind}"
    whole = f"{work}  {queue}  {streams}"
    if len(whole) <= width:
        yield Text(whole)
    else:
        yield Text(f"{work}  {queue}")
        yield Text(streams)


def _commits(stats: ServerStats, before: ServerStats | None) -> Iterator[Text]:
    """Yield the line of the journal's commits, if there are any. Rates need two pictures."""
    commits = stats.commits
    if commits is None:
        return
    times = f"median {duration_text(commits.median_duration)}, longest {duration_text(commits.max_duration)}"
    seconds = (stats.time - before.time).total_seconds() if before is not None else 0.0
    if before is None or before.commits is None or seconds <= 0:
        yield Text(f"{plural(commits.count, 'commit')}: {times}")
        return
    commit_rate = (commits.count - before.commits.count) / seconds
    event_rate = (commits.event_count - before.commits.event_count) / seconds
    yield Text(f"{commit_rate:,.0f} commits/s, {event_rate:,.0f} events/s: {times}")


def _actions(actions: Sequence[ActionStats], width: int, room: int | None) -> Iterator[Text]:
    """Yield the table of the actions that have attempts, those with the most first."""
    if not actions:
        yield Text("no attempts", style="dim")
        return
    shown = actions[:room]
    bar_width = _BAR_WIDTH + 2 if width >= _MIN_WIDTH_WITH_BARS else 0
    room_for_names = width - 2 * _NUMBER_WIDTH - bar_width
    name_width = min(max(cell_len(one_line(it.action)) for it in (*shown, _HEADING)), room_for_names)
    yield _row(_HEADING.action, "in flight", "queued", name_width).append(" " * bar_width)
    most = max(it.in_flight + it.queued for it in shown)
    for it in shown:
        row = _row(it.action, f"{it.in_flight:,}", f"{it.queued:,}", name_width)
        yield row.append_text(_bar(it, most)) if bar_width else row
    if more := len(actions) - len(shown):
        yield Text(f"… {plural(more, 'more action')}", style="dim")


def _row(name: str, in_flight: str, queued: str, name_width: int) -> Text:
    cell = Text(one_line(name))
    cell.truncate(name_width, overflow="ellipsis", pad=True)
    return cell.append(f"{in_flight:>{_NUMBER_WIDTH + 1}}{queued:>{_NUMBER_WIDTH - 1}}")


def _bar(stats: ActionStats, most: int) -> Text:
    """Return a bar of the attempts in flight and of those that wait."""
    running = round(_BAR_WIDTH * stats.in_flight / most)
    waiting = round(_BAR_WIDTH * (stats.in_flight + stats.queued) / most) - running
    return Text.assemble("  ", ("━" * running, "cyan"), ("━" * waiting, "dim"))
