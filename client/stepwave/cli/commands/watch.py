"""`stepwave watch`: show a run from its start until it ends or the user stops watching."""

import asyncio
from contextlib import closing

import typer

from stepwave._client.aio import AsyncClient
from stepwave._model.results import Run
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.displays import OutputMode, make_display
from stepwave.cli.display.output import print_message
from stepwave.cli.exit_codes import ExitCode
from stepwave.cli.options import InsecureOption, OutputOption, RunArgument, ServerOption, VerboseOption
from stepwave.cli.process.shutdown import until_interrupted
from stepwave.cli.runs import follow, print_result

__all__ = ["watch"]


def watch(
    run: RunArgument,
    output: OutputOption = None,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a run from its start until it ends. Ctrl-C stops watching, and the run continues.

    The output and the exit codes are those of `stepwave run`. After Ctrl-C the exit code is 0.
    """
    raise typer.Exit(asyncio.run(_watch(Target(server, insecure), run, output, verbose=verbose)))


async def _watch(target: Target, prefix: str, mode: OutputMode | None, *, verbose: bool) -> ExitCode:
    async with target.open() as client:
        run = await find_run(client, prefix)
        run_id, paused_at = run.run_id, run.last_sequence if run.paused else None
        actions = await _actions(client, run)
        with closing(make_display(mode, actions, rerun_of=run.rerun_of, paused_at=paused_at)) as display:
            async with client.watch(run_id) as events:
                result = await until_interrupted(follow(events, display), display.close)
    if result is None:
        print_message(f"{run_id} continues; to watch it again: stepwave watch {run_id}")
        return ExitCode.SUCCEEDED
    return print_result(result, mode, verbose=verbose)


async def _actions(client: AsyncClient, run: Run) -> dict[str, str]:
    """Return the steps' actions by step id if some are missing. Events name the actions of started steps only."""
    return {step.step_id: step.action async for step in client.steps(run.run_id)} if run.missing_actions else {}
