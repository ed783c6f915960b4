"""`stepwave export` and `delete`: runs that are kept, taken out and thrown away."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stepwave._reports.export import RunExport
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import note, print_line
from stepwave.cli.display.text import plural
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import InsecureOption, RunArgument, ServerOption
from stepwave.exceptions import FailedPrecondition

__all__ = ["delete", "export"]


def export(
    run: RunArgument,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="Where to write it. Default: standard output.", show_default=False),
    ] = None,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Write all that is kept of a run as one JSON document: what it was given, then its events, one a line.

    `stepwave.testing.replay` makes of it a test that the run would be decided alike today.
    """
    exported = asyncio.run(_export(Target(server, insecure), run))
    if to is None:
        print_line(exported.to_json().rstrip("\n"))
        return
    try:
        exported.save(to)
    except OSError as error:
        raise CommandError(f"cannot write {to}: {error.strerror}") from error
    note(f"wrote {to}: {exported.run_id}, {plural(len(exported.events), 'event')}")


async def _export(target: Target, beginning: str) -> RunExport:
    async with target.open() as client:
        return await client.export((await find_run(client, beginning)).run_id)


def delete(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Ids, or beginnings that only one run has.", show_default=False)
    ],
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Forget runs that have ended: their events, results and outputs. All are looked up before the first is deleted."""
    asyncio.run(_delete(Target(server, insecure), runs))


async def _delete(target: Target, beginnings: list[str]) -> None:
    under_way = []
    async with target.open() as client:
        found = [(await find_run(client, beginning)).run_id for beginning in beginnings]
        for run_id in dict.fromkeys(found):
            try:
                await client.delete(run_id)
            except FailedPrecondition:
                under_way.append(f"{run_id} has not ended; end it first: stepwave cancel {run_id}")
            else:
                note(f"deleted {run_id}")
    if under_way:
        raise CommandError("\n".join(under_way))
