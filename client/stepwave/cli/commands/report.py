"""`stepwave report`: show where a run's time went, as a chart, a table and totals."""

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from textwrap import wrap
from typing import Annotated

import typer
from rich.text import Text

from stepwave._model.report import PhaseKind, RunReport, StepReport, TimeParts
from stepwave._reports.export import RunExport
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import columns, output_width, print_json, print_text
from stepwave.cli.display.text import duration_text, plural
from stepwave.cli.display.waterfall import is_visible, shown_steps, waterfall
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import Format, FormatOption, InsecureOption, ServerOption
from stepwave.exceptions import InvalidExport

__all__ = ["report"]

_NUMBER_WIDTH = 9  # cells of a column of the table: seven for a duration, and two before it
_MIN_NAME_WIDTH = 8


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE",
            help="The run's id, a unique prefix of it, @last: the newest run, or a file of "
            "`stepwave export`, which needs no server.",
            show_default=False,
        ),
    ],
    output: FormatOption = Format.TEXT,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show where a run's time went: its critical path, how the time was spent, and what could be saved.

    The report of a running run covers its time so far. A name with a dot or a slash is a file.

    ```
    stepwave report briefing
    stepwave export briefing --to run.json; stepwave report run.json
    ```
    """
    fetched = _load(run) if _is_file(run) else asyncio.run(_fetch(Target(server, insecure), run))
    if output is Format.JSON:
        print_json(fetched.to_dict())
        return
    for text in _lines(fetched, output_width()):
        print_text(text)


def _is_file(run: str) -> bool:
    """Return whether the argument is a file. No run id has a dot or a slash."""
    return "." in run or os.sep in run


def _load(path: str) -> RunReport:
    try:
        return RunExport.load(path).report()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except InvalidExport as error:
        raise CommandError(str(error)) from error


async def _fetch(target: Target, prefix: str) -> RunReport:
    async with target.open() as client:
        return await client.report((await find_run(client, prefix)).run_id)


def _lines(report: RunReport, width: int) -> Iterator[Text]:
    so_far = "" if report.state.ended else " so far"
    title = f"{report.run_id}  {report.workflow_name}  {report.state}{so_far}  {duration_text(report.makespan)}"
    yield Text(title, style="bold", overflow="ellipsis")
    yield Text()
    yield from waterfall(report, width=width)
    if report.path:
        yield Text()
        yield from map(Text, _table(report, width))
    yield Text()
    for line in _totals(report):
        yield from map(Text, wrap(line, width, subsequent_indent="  "))


def _table(report: RunReport, width: int) -> Iterator[str]:
    """Yield a table of how each step of the critical path spent its time."""
    kinds = [kind for kind in PhaseKind if kind is PhaseKind.WORK or is_visible(getattr(report.path_parts, kind))]
    name_width = max(width - _NUMBER_WIDTH * (len(kinds) + 1), _MIN_NAME_WIDTH)
    steps = [step for step in shown_steps(report) if step.on_path]
    rows = [_row(_truncate(step.step_id, name_width), step.parts, kinds) for step in steps]
    if len(steps) < len(report.path):
        rows.append([f"{len(report.path) - len(steps):,} more", *_hidden_times(report, steps, kinds)])
    rows.append(_row("total", report.path_parts, kinds))
    headings = ["PATH", "TIME", *(kind.upper() for kind in kinds)]
    yield from columns([headings, *rows], right_aligned=range(1, len(headings)))


def _row(name: str, parts: TimeParts, kinds: list[PhaseKind]) -> list[str]:
    times = (getattr(parts, kind) for kind in kinds)
    return [name, duration_text(parts.total), *(duration_text(time) if is_visible(time) else "" for time in times)]


def _hidden_times(report: RunReport, shown: list[StepReport], kinds: list[PhaseKind]) -> Iterator[str]:
    """Yield the time of the steps of the critical path that are not shown: in total, then by kind."""
    shown_ids = {step.step_id for step in shown}
    hidden = [report.steps[step_id].parts for step_id in report.path if step_id not in shown_ids]
    yield duration_text(sum((parts.total for parts in hidden), timedelta()))
    for kind in kinds:
        yield duration_text(sum((getattr(parts, kind) for parts in hidden), timedelta()))


def _totals(report: RunReport) -> Iterator[str]:
    """Yield the makespan, the speed-up and the possible savings, one on each line."""
    parts = [
        f"{duration_text(time)} {kind}" for kind in PhaseKind if is_visible(time := getattr(report.path_parts, kind))
    ]
    yield f"makespan: {duration_text(report.makespan)}" + (f" = {' + '.join(parts)}" if parts else "")
    if report.speed_up is not None:
        speed_up = f"{report.speed_up:.2f} over one step at a time ({duration_text(report.sequential)})"
        yield f"speed-up: {speed_up}; at most {plural(report.peak, 'attempt')} at once"
    yield f"without waiting: {_saving(report, report.without_waiting)}{_parallelism(report)}"
    if is_visible(report.without_waiting - report.without_barriers):
        yield f"without barriers too: {_saving(report, report.without_barriers)}"


def _saving(report: RunReport, makespan: timedelta) -> str:
    saved = report.makespan - makespan
    return f"{duration_text(makespan)}, {duration_text(saved)} shorter" if is_visible(saved) else "no shorter"


def _parallelism(report: RunReport) -> str:
    if not report.max_parallelism:
        return ""
    return f"; max_parallelism is {report.max_parallelism:,}, and was {'' if report.bounded else 'not '}reached"


def _truncate(name: str, width: int) -> str:
    text = Text(name)
    text.truncate(width, overflow="ellipsis")
    return text.plain
