"""`stepwave report`: where a run's time went, as a picture, a table and a few sums."""

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
from stepwave.cli.display.output import answer_width, columns, print_json, print_text
from stepwave.cli.display.text import duration_text, plural
from stepwave.cli.display.waterfall import seen, shown_steps, waterfall
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import Format, FormatOption, InsecureOption, ServerOption
from stepwave.exceptions import InvalidExport

__all__ = ["report"]

_NUMBER = 9  # cells of a column of the table: seven of a duration, and two before it
_LEAST_NAME = 8


def report(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|FILE",
            help="The run's id, or a beginning that only it has; or a file of `stepwave export`, without a server.",
            show_default=False,
        ),
    ],
    output: FormatOption = Format.TEXT,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Say where a run's time went: its critical path, what it was spent on, and what could be saved.

    Of a run under way, so far. A file is what has a dot or a slash in its name.

    ```
    stepwave report briefing
    stepwave export briefing --to run.json; stepwave report run.json
    ```
    """
    found = _read(run) if _is_file(run) else asyncio.run(_ask(Target(server, insecure), run))
    if output is Format.JSON:
        print_json(found.to_dict())
        return
    for text in _page(found, answer_width()):
        print_text(text)


def _is_file(run: str) -> bool:
    """Say whether a file is meant: no run's id has a dot or a slash."""
    return "." in run or os.sep in run


def _read(path: str) -> RunReport:
    try:
        return RunExport.load(path).report()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}") from error
    except InvalidExport as error:
        raise CommandError(str(error)) from error


async def _ask(target: Target, beginning: str) -> RunReport:
    async with target.open() as client:
        return await client.report((await find_run(client, beginning)).run_id)


def _page(report: RunReport, width: int) -> Iterator[Text]:
    so_far = "" if report.state.ended else " so far"
    title = f"{report.run_id}  {report.workflow_name}  {report.state}{so_far}  {duration_text(report.makespan)}"
    yield Text(title, style="bold", overflow="ellipsis")
    yield Text()
    yield from waterfall(report, width=width)
    if report.path:
        yield Text()
        yield from map(Text, _table(report, width))
    yield Text()
    for line in _sums(report):
        yield from map(Text, wrap(line, width, subsequent_indent="  "))


def _table(report: RunReport, width: int) -> Iterator[str]:
    """Lay out what each step of the path spent its time on."""
    kinds = [kind for kind in PhaseKind if kind is PhaseKind.WORK or seen(getattr(report.path_parts, kind))]
    room = max(width - _NUMBER * (len(kinds) + 1), _LEAST_NAME)
    steps = [step for step in shown_steps(report) if step.on_path]
    rows = [_row(_cut(step.step_id, room), step.parts, kinds) for step in steps]
    if len(steps) < len(report.path):
        rows.append([f"{len(report.path) - len(steps):,} more", *_rest(report, steps, kinds)])
    rows.append(_row("in all", report.path_parts, kinds))
    headings = ["PATH", "TIME", *(kind.upper() for kind in kinds)]
    yield from columns([headings, *rows], right_aligned=range(1, len(headings)))


def _row(name: str, parts: TimeParts, kinds: list[PhaseKind]) -> list[str]:
    spent = (getattr(parts, kind) for kind in kinds)
    return [name, duration_text(parts.total), *(duration_text(time) if seen(time) else "" for time in spent)]


def _rest(report: RunReport, shown: list[StepReport], kinds: list[PhaseKind]) -> Iterator[str]:
    """Yield what the steps of the path that are not shown spent, in all and by kind."""
    ids = {step.step_id for step in shown}
    others = [report.steps[step_id].parts for step_id in report.path if step_id not in ids]
    yield duration_text(sum((parts.total for parts in others), timedelta()))
    for kind in kinds:
        yield duration_text(sum((getattr(parts, kind) for parts in others), timedelta()))


def _sums(report: RunReport) -> Iterator[str]:
    """Yield the run's sums in sentences."""
    parts = [f"{duration_text(time)} {kind}" for kind in PhaseKind if seen(time := getattr(report.path_parts, kind))]
    yield f"makespan: {duration_text(report.makespan)}" + (f" = {' + '.join(parts)}" if parts else "")
    if report.speed_up is not None:
        sequential = f"{report.speed_up:.2f} over one step after the other ({duration_text(report.sequential)})"
        yield f"speed-up: {sequential}; at most {plural(report.peak, 'attempt')} at once"
    yield f"had nothing waited: {_shorter(report, report.without_waiting)}{_bound(report)}"
    if seen(report.without_waiting - report.without_barriers):
        yield f"nor been any barrier: {_shorter(report, report.without_barriers)}"


def _shorter(report: RunReport, makespan: timedelta) -> str:
    saved = report.makespan - makespan
    return f"{duration_text(makespan)}, {duration_text(saved)} shorter" if seen(saved) else "as long"


def _bound(report: RunReport) -> str:
    if not report.max_parallelism:
        return ""
    return f"; max_parallelism is {report.max_parallelism:,}, and was {'' if report.bounded else 'not '}reached"


def _cut(name: str, width: int) -> str:
    text = Text(name)
    text.truncate(width, overflow="ellipsis")
    return text.plain
