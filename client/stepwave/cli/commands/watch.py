"""`stepwave watch`: shows a run, from its beginning, until it ends or the watcher leaves."""

import asyncio
from collections.abc import Coroutine
from contextlib import closing

import typer

from stepwave._client.aio import AsyncClient
from stepwave._model.results import Run, RunResult
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.displays import Display, OutputMode, make_display
from stepwave.cli.display.output import note
from stepwave.cli.exit_codes import ExitCode
from stepwave.cli.follow import follow, report
from stepwave.cli.options import InsecureOption, OutputOption, RunArgument, ServerOption, VerboseOption
from stepwave.cli.process.interrupts import on_interrupt

__all__ = ["watch"]


def watch(
    run: RunArgument,
    output: OutputOption = None,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a run from its beginning until it ends; Ctrl-C leaves it running.

    Prints and exits as `stepwave run` does; with 0 when left before the end.
    """
    raise typer.Exit(asyncio.run(_watch(Target(server, insecure), run, output, verbose=verbose)))


async def _watch(target: Target, beginning: str, mode: OutputMode | None, *, verbose: bool) -> ExitCode:
    async with target.open() as client:
        run = await find_run(client, beginning)
        run_id, paused_at = run.run_id, run.last_sequence if run.paused else None
        actions = await _missing(client, run)
        with closing(make_display(mode, actions, rerun_of=run.rerun_of, paused_at=paused_at)) as display:
            async with client.watch(run_id) as events:
                result = await _unless_left(follow(events, display), display)
    if result is None:
        note(f"left {run_id} running; come back: stepwave watch {run_id}")
        return ExitCode.SUCCEEDED
    return report(result, mode, verbose=verbose)


async def _missing(client: AsyncClient, run: Run) -> dict[str, str]:
    """Return the actions of a run's steps by step id, if some wait for theirs: events name only what has started."""
    return {step.step_id: step.action async for step in client.steps(run.run_id)} if run.missing_actions else {}


async def _unless_left(following: Coroutine[None, None, RunResult], display: Display) -> RunResult | None:
    """Await the run's end; `None` if an interrupt came first."""
    task = asyncio.create_task(following)

    def leave() -> None:
        task.cancel()

    try:
        with on_interrupt(leave, display.close):
            await asyncio.wait({task})
    finally:
        task.cancel()
    return None if task.cancelled() else task.result()
