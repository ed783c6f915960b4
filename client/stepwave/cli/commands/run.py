"""`stepwave run` and `rerun`: start a workflow, show it while it lasts, and print its outputs."""

import asyncio
from typing import Annotated, TypeAlias

import typer

from stepwave._building.requests import Rerun
from stepwave.cli.connect import Target, find_run
from stepwave.cli.exit_codes import ExitCode
from stepwave.cli.launch import Manner, Work, launch
from stepwave.cli.options import (
    ActionsOption,
    InsecureOption,
    LocalOption,
    OutputOption,
    RunArgument,
    ServerOption,
    VerboseOption,
    WorkflowArgument,
    parse_input,
    parse_seconds,
)
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.source import find_workflow

__all__ = ["rerun", "run"]

_RunIdOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--run-id", metavar="ID", help="The run's id; a run of that id and content is joined.", show_default=False
    ),
]
_TimeoutOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--timeout", metavar="DURATION", help="Cancel the run after this time, as 90s or 5m."),
]
_DetachOption: TypeAlias = Annotated[
    bool, typer.Option("--detach", help="Start it, print its id, and leave it running.")
]


def run(
    workflow: WorkflowArgument,
    actions: ActionsOption = None,
    local: LocalOption = False,
    given: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE|@-", help="The run's input. Default: null.", show_default=False),
    ] = None,
    run_id: _RunIdOption = None,
    timeout: _TimeoutOption = None,
    output: OutputOption = None,
    detach: _DetachOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a workflow and show it while it lasts; Ctrl-C cancels it.

    The outputs go to standard output, everything else to standard error. Exits with 0 if the run succeeded, 1 if it
    failed, 130 if it was cancelled; 2 if the workflow or an option is wrong, 3 if there is no server, or
    the run was lost with it.

    ```
    stepwave run flow.yaml --actions tools
    stepwave run flow.yaml --local
    stepwave run flow.yaml --input '{"city": "Oslo"}' | jq .brief
    ```
    """
    source = find_workflow(workflow)
    target = Target(server, insecure, tuple(actions or ()), local, source.without_server("run"))
    work = Work(source.definition, parse_input(given), source)
    manner = Manner(run_id, parse_seconds("--timeout", timeout), output, verbose, detach)
    manner.check(target)
    raise typer.Exit(run_with_actions(_run(target, work, manner)))


async def _run(target: Target, work: Work, manner: Manner) -> ExitCode:
    async with target.open() as client:
        return await launch(client, work, manner)


def rerun(
    run: RunArgument,
    from_failed: Annotated[
        bool, typer.Option("--from-failed", help="Take over what succeeded, with its outputs; run only the rest.")
    ] = False,
    run_id: _RunIdOption = None,
    timeout: _TimeoutOption = None,
    output: OutputOption = None,
    detach: _DetachOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run an earlier run's workflow again, on the same input, as a new run; shows it and exits as `stepwave run` does.

    ```
    stepwave rerun briefing-7k3f9q2m --from-failed
    ```
    """
    target = Target(server, insecure)
    manner = Manner(run_id, parse_seconds("--timeout", timeout), output, verbose, detach)
    manner.check(target)
    raise typer.Exit(asyncio.run(_rerun(target, run, manner, from_failed=from_failed)))


async def _rerun(target: Target, beginning: str, manner: Manner, *, from_failed: bool) -> ExitCode:
    async with target.open() as client:
        earlier = await find_run(client, beginning)
        return await launch(client, Work(Rerun(earlier.run_id, from_failed)), manner)
