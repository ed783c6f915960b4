"""`stepwave export` and `stepwave delete`: write a run to a file, and delete runs."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from stepwave._reports.export import RunExport
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import print_line, print_message
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
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Write a run as one JSON document: its workflow and input, then its events, one on each line.

    `stepwave.testing.replay` turns the document into a test: today's scheduler has to make the same decisions.
    """
    if to is not None:
        _check_target(to, force=force)
    exported = asyncio.run(_export(Target(server, insecure), run))
    if to is None:
        print_line(exported.to_json().rstrip("\n"))
        return
    try:
        exported.save(to)
    except OSError as error:
        raise CommandError(f"cannot write {to}: {error.strerror}") from error
    print_message(f"wrote {to}: {exported.run_id}, {plural(len(exported.events), 'event')}")


def _check_target(file: Path, *, force: bool) -> None:
    if file.is_dir():
        raise CommandError(f"{file} is a folder")
    if file.is_file() and not force:  # a device or a pipe, such as /dev/stdout, loses nothing
        raise CommandError(f"{file} already exists; overwrite it with --force")


async def _export(target: Target, prefix: str) -> RunExport:
    async with target.open() as client:
        return await client.export((await find_run(client, prefix)).run_id)


def delete(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN…", help="The ids of runs, unique prefixes of them, or @last.", show_default=False),
    ],
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Delete ended runs: their events, results and outputs. All runs are looked up before the first is deleted."""
    asyncio.run(_delete(Target(server, insecure), runs))


async def _delete(target: Target, prefixes: list[str]) -> None:
    errors = []
    async with target.open() as client:
        run_ids = [(await find_run(client, prefix)).run_id for prefix in prefixes]
        for run_id in dict.fromkeys(run_ids):
            try:
                await client.delete(run_id)
            except FailedPrecondition:
                errors.append(f"{run_id} has not ended; cancel it first: stepwave cancel {run_id}")
            else:
                print_message(f"deleted {run_id}")
    if errors:
        raise CommandError("\n".join(errors))
