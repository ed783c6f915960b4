"""`stepwave report`: show where a run's time went, as a chart, a table and totals."""

import asyncio
import os
from typing import Annotated

import typer
from rich.text import Text

from stepwave._model.report import RunReport, report_lines
from stepwave._model.report_chart import Line, Role
from stepwave._model.results import State
from stepwave._model.step_report import PhaseKind
from stepwave._reports.export import RunExport
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import output_width, print_json, print_text
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import Format, FormatOption, InsecureOption, ServerOption
from stepwave.exceptions import InvalidExport

__all__ = ["report"]

_STYLES = {
    Role.TITLE: "bold",
    Role.PATH: "bold",
    Role.NOTE: "dim",
    PhaseKind.WORK: "green",
    PhaseKind.WAITING: "yellow",
    PhaseKind.BACKOFF: "magenta",
    PhaseKind.BARRIER: "blue",
    PhaseKind.PLANNING: "dim",
    PhaseKind.EXTERNAL: "cyan",
    PhaseKind.NESTED: "dim",
    State.FAILED: "red",
    State.CANCELLED: "yellow",
    State.RUNNING: "cyan",
    State.PENDING: "dim",
    State.SKIPPED: "dim",
    State.UNKNOWN: "dim",
}


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
    for line in report_lines(fetched, output_width()):
        print_text(_styled(line))


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


def _styled(line: Line) -> Text:
    return Text.assemble(*((span.text, _STYLES.get(span.role, "")) for span in line), overflow="ellipsis")
