"""`stepwave watch`: show a run from its start until it ends or the user stops watching."""

import asyncio
from contextlib import closing

import typer

from stepwave._client.aio import AsyncClient
from stepwave._model.results import Run
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.output import print_message
from stepwave.cli.exit_codes import ExitCode
from stepwave.cli.options import (
    FollowOption,
    InsecureOption,
    OutputOption,
    RawOption,
    RunArgument,
    ServerOption,
    VerboseOption,
)
from stepwave.cli.process.shutdown import until_interrupted
from stepwave.cli.runs import ShowOptions, follow, print_result, text_writer

__all__ = ["watch"]


def watch(
    run: RunArgument,
    output: OutputOption = None,
    follow: FollowOption = None,
    raw: RawOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a run from its start until it ends. Ctrl-C stops watching, and the run continues.

    The output and the exit codes are those of `stepwave run`. After Ctrl-C the exit code is 0.
    """
    options = ShowOptions(mode=output, verbose=verbose, raw=raw, step_id=follow)
    raise typer.Exit(asyncio.run(_watch(Target(server, insecure), run, options)))


async def _watch(target: Target, prefix: str, options: ShowOptions) -> ExitCode:
    async with target.open() as client:
        run = await find_run(client, prefix)
        run_id, paused_at = run.run_id, run.last_sequence if run.paused else None
        actions = await _actions(client, run)
        with closing(options.make_display(actions, rerun_of=run.rerun_of, paused_at=paused_at)) as display:
            async with client.watch(run_id) as events:
                following = follow(events, display, text_writer(events, display))
                result = await until_interrupted(following, display.close)
    if result is None:
        print_message(f"{run_id} continues; to watch it again: stepwave watch {run_id}")
        return ExitCode.SUCCEEDED
    return print_result(result, options)


async def _actions(client: AsyncClient, run: Run) -> dict[str, str]:
    """Return the steps' actions by step id if some are missing. Events name the actions of started steps only."""
    return {step.step_id: step.action async for step in client.steps(run.run_id)} if run.missing_actions else {}
