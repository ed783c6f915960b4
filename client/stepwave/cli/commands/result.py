"""`stepwave result` and `stepwave cancel`: one run's outcome, and its end."""

import asyncio
from typing import Annotated

import typer

from stepwave._model.results import Run, RunResult
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.outcome import print_failures, print_outputs
from stepwave.cli.display.output import note, print_json
from stepwave.cli.display.text import missing_line, plural
from stepwave.cli.exit_codes import CommandError, code_of_run
from stepwave.cli.options import Format, FormatOption, InsecureOption, RunArgument, ServerOption
from stepwave.exceptions import FailedPrecondition

__all__ = ["cancel", "result"]


def result(
    run: RunArgument, output: FormatOption = Format.TEXT, server: ServerOption = None, insecure: InsecureOption = False
) -> None:
    """Print what a run came to: its outputs to standard output, its failures to standard error.

    With --output json, all of it: every step's result, times and failures. Exits as `stepwave run` does.
    """
    found = asyncio.run(_result(Target(server, insecure), run))
    if output is Format.JSON:
        print_json(found.to_dict())
    else:
        print_failures(found, verbose=True)
        print_outputs(found)
    raise typer.Exit(code_of_run(found.state))


async def _result(target: Target, beginning: str) -> RunResult:
    async with target.open() as client:
        run = await find_run(client, beginning)
        try:
            result = await client.result(run.run_id)
        except FailedPrecondition as error:
            raise CommandError(_not_ended(run)) from error
    if run.rerun_of:
        note(_repeats(run, result))
    return result


def _not_ended(run: Run) -> str:
    if run.paused:
        return f"{run.run_id} is paused: its server leaves it alone"
    why = f"{run.run_id} {missing_line(run.missing_actions)}" if run.missing_actions else f"{run.run_id} has not ended"
    return f"{why}; see it: stepwave watch {run.run_id}"


def _repeats(run: Run, result: RunResult) -> str:
    taken = sum(1 for step in result.steps.values() if step.reused_from)
    return f"{run.run_id} is a rerun of {run.rerun_of}" + (f"; {plural(taken, 'step')} taken over" if taken else "")


def cancel(
    run: RunArgument,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the run's result.", show_default=False)] = "",
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Cancel a run: nothing more starts, and what runs is interrupted. A run that has ended stays as it is."""
    before, after = asyncio.run(_cancel(Target(server, insecure), run, reason))
    if before.state.ended:
        note(f"{before.run_id} has ended already: {before.state}")
    elif after.state.ended:  # nothing of it was running
        note(f"cancelled {after.run_id}")
    else:
        note(f"cancelling {after.run_id}; see it end: stepwave watch {after.run_id}")


async def _cancel(target: Target, beginning: str, reason: str) -> tuple[Run, Run]:
    """Return the run as it stood before and after."""
    async with target.open() as client:
        run = await find_run(client, beginning)
        return run, await client.cancel(run.run_id, reason)
