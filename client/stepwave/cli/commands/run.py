"""`stepwave run` and `stepwave rerun`: run a workflow, show its progress, and print its outputs."""

import asyncio
from dataclasses import replace
from typing import Annotated, TypeAlias

import typer

from stepwave._building.requests import Rerun
from stepwave._values.ids import rerun_id
from stepwave._values.payload import JSON
from stepwave.cli.connect import Target, find_run
from stepwave.cli.exit_codes import CommandError, ExitCode
from stepwave.cli.options import (
    ActionsOption,
    FollowOption,
    InsecureOption,
    LocalOption,
    OutputOption,
    RawOption,
    RunArgument,
    ServerOption,
    VerboseOption,
    WorkflowArgument,
    parse_input,
    parse_labels,
    parse_seconds,
)
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.runs import RunOptions, RunRequest, ShowOptions, start_run
from stepwave.cli.source import Source, find_workflow

__all__ = ["rerun", "run"]

_MAX_PARALLELISM = 2**32 - 1  # the contract has a uint32
_INPUT_FORMS = "JSON|@FILE|@-"
_RunIdOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--run-id",
        metavar="ID",
        help="The run's id. If that run exists, with the same workflow and input, it is followed.",
        show_default=False,
    ),
]
_TimeoutOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--timeout", metavar="DURATION", help="Cancel the run after this time, such as 90s or 5m."),
]
_DetachOption: TypeAlias = Annotated[bool, typer.Option("--detach", help="Start the run, print its id, and exit.")]


def run(
    workflow: WorkflowArgument,
    actions: ActionsOption = None,
    local: LocalOption = False,
    input_text: Annotated[
        str | None,
        typer.Option("--input", metavar=_INPUT_FORMS, help="The run's input. Default: null.", show_default=False),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="KEY=VALUE", help="Add this label to the run. Repeatable.", show_default=False),
    ] = None,
    max_parallelism: Annotated[
        int | None,
        typer.Option(
            "--max-parallelism",
            metavar="N",
            min=1,
            max=_MAX_PARALLELISM,
            help="The largest number of steps that run at once.",
            show_default=False,
        ),
    ] = None,
    run_id: _RunIdOption = None,
    timeout: _TimeoutOption = None,
    output: OutputOption = None,
    follow: FollowOption = None,
    raw: RawOption = False,
    detach: _DetachOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a workflow and show its progress. Ctrl-C cancels the run.

    The outputs go to standard output as one JSON object, everything else to standard error. Exit codes: 0 the run
    succeeded, 1 it failed, 130 it was cancelled, 2 the workflow or an option is invalid, 3 there is no server or the
    run was lost with it.

    ```
    stepwave run flow.yaml --actions tools
    stepwave run flow.yaml --local
    stepwave run flow.yaml --input '{"city": "Oslo"}' | jq .brief
    stepwave run flow.yaml --follow brief
    stepwave run flow.yaml --raw > brief.txt
    ```
    """
    if (workflow, input_text) == ("-", "@-"):
        raise CommandError("standard input cannot be both the workflow and its input")
    source = find_workflow(workflow)
    source.change(parse_labels("--label", label), max_parallelism)
    target = Target(server, insecure, tuple(actions or ()), local, source.local_command("run"))
    request = RunRequest(source.definition, parse_input(input_text), source)
    options = RunOptions(
        run_id=run_id,
        timeout=parse_seconds("--timeout", timeout),
        show=ShowOptions(mode=output, verbose=verbose, raw=raw, step_id=follow),
        detach=detach,
        kept=not target.in_process,
    )
    options.check(target)
    raise typer.Exit(run_with_actions(_run(target, request, options)))


async def _run(target: Target, request: RunRequest, options: RunOptions) -> ExitCode:
    async with target.open() as client:
        return await start_run(client, request, options)


def rerun(
    run: RunArgument,
    from_failed: Annotated[
        bool, typer.Option("--from-failed", help="Reuse the outputs of steps that succeeded, and run only the others.")
    ] = False,
    input_text: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar=_INPUT_FORMS,
            help="Another input. This starts a new run of the same workflow: every step runs. Not with --from-failed.",
            show_default=False,
        ),
    ] = None,
    run_id: _RunIdOption = None,
    timeout: _TimeoutOption = None,
    output: OutputOption = None,
    follow: FollowOption = None,
    raw: RawOption = False,
    detach: _DetachOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run the workflow of an earlier run again with the same input or another one, as a new run.

    With `--input`, the new run is independent: the earlier one may still be under way.

    The output and the exit codes are those of `stepwave run`.

    ```
    stepwave rerun briefing-7k3f9q2m --from-failed
    stepwave rerun @last --input '{"city": "Oslo"}'
    ```
    """
    if from_failed and input_text is not None:
        raise CommandError("--from-failed does not work with --input: another input may change every step's output")
    target = Target(server, insecure)
    show = ShowOptions(mode=output, verbose=verbose, raw=raw, step_id=follow)
    options = RunOptions(run_id=run_id, timeout=parse_seconds("--timeout", timeout), show=show, detach=detach)
    options.check(target)
    if input_text is None:
        raise typer.Exit(asyncio.run(_rerun(target, run, options, from_failed=from_failed)))
    raise typer.Exit(asyncio.run(_run_again(target, run, parse_input(input_text), options)))


async def _rerun(target: Target, prefix: str, options: RunOptions, *, from_failed: bool) -> ExitCode:
    async with target.open() as client:
        earlier = await find_run(client, prefix)
        return await start_run(client, RunRequest(Rerun(earlier.run_id, from_failed)), options)


async def _run_again(target: Target, prefix: str, input: JSON, options: RunOptions) -> ExitCode:
    """Start a new run of an earlier run's workflow. The contract's rerun takes no other input."""
    async with target.open() as client:
        earlier = await find_run(client, prefix)
        workflow = (await client.export(earlier.run_id)).workflow
        named = replace(options, run_id=options.run_id or rerun_id(earlier.run_id))
        return await start_run(client, RunRequest(workflow, input, Source(workflow)), named)
