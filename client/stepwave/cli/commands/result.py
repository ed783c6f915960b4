"""`stepwave result` and `stepwave cancel`: print the result of a run, and cancel a run."""

import asyncio
from typing import Annotated

import typer

from stepwave._model.results import Run, RunResult
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import print_failures, print_json, print_message, print_outputs, print_raw_outputs
from stepwave.cli.display.text import PAUSED_TEXT, missing_line, plural
from stepwave.cli.exit_codes import CommandError, code_of_run
from stepwave.cli.options import Format, FormatOption, InsecureOption, RawOption, RunArgument, ServerOption
from stepwave.exceptions import FailedPrecondition

__all__ = ["cancel", "result"]


def result(
    run: RunArgument,
    output: FormatOption = Format.TEXT,
    raw: RawOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Print the result of a run: its outputs to standard output, its failures to standard error.

    With --output json, print the whole result, with every step. The exit codes are those of `stepwave run`.
    """
    if raw and output is Format.JSON:
        raise CommandError("--raw prints outputs as texts, --output json the whole result: leave out one of them")
    fetched = asyncio.run(_result(Target(server, insecure), run))
    if output is Format.JSON:
        print_json(fetched.to_dict())
    else:
        print_failures(fetched, verbose=True)
        (print_raw_outputs if raw else print_outputs)(fetched)
    raise typer.Exit(code_of_run(fetched.state))


async def _result(target: Target, prefix: str) -> RunResult:
    async with target.open() as client:
        run = await find_run(client, prefix)
        try:
            result = await client.result(run.run_id)
        except FailedPrecondition as error:
            raise CommandError(_not_ended(run)) from error
    if run.rerun_of:
        print_message(_rerun_note(run, result))
    return result


def _not_ended(run: Run) -> str:
    if run.paused:
        return f"{run.run_id} is {PAUSED_TEXT}"
    state = (
        f"{run.run_id} {missing_line(run.missing_actions)}" if run.missing_actions else f"{run.run_id} has not ended"
    )
    return f"{state}; see it: stepwave watch {run.run_id}"


def _rerun_note(run: Run, result: RunResult) -> str:
    reused = sum(1 for step in result.steps.values() if step.reused_from)
    return f"{run.run_id} is a rerun of {run.rerun_of}" + (f"; {plural(reused, 'step')} taken over" if reused else "")


def cancel(
    run: RunArgument,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="The reason, for the run's result.", show_default=False)
    ] = "",
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Cancel a run: no more steps start, and running steps are interrupted. An ended run does not change."""
    before, after = asyncio.run(_cancel(Target(server, insecure), run, reason))
    if before.state.ended:
        print_message(f"{before.run_id} has already ended: {before.state}")
    elif after.state.ended:  # no step was running
        print_message(f"cancelled {after.run_id}")
    else:
        print_message(f"cancelling {after.run_id}; see it end: stepwave watch {after.run_id}")


async def _cancel(target: Target, prefix: str, reason: str) -> tuple[Run, Run]:
    """Cancel the run, and return it as it was before and after."""
    async with target.open() as client:
        run = await find_run(client, prefix)
        return run, await client.cancel(run.run_id, reason)
