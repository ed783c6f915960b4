"""`stepwave run`: starts a workflow, shows it while it lasts, and prints its outputs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Annotated

import typer

from stepwave import AsyncClient, RunHandle
from stepwave._payload import JSON
from stepwave._results import RunResult
from stepwave.exceptions import StepwaveError

from .connect import Target
from .displays import Display, OutputMode, make_display
from .errors import CommandError, ExitCode
from .follow import follow, report
from .interrupts import on_interrupt
from .leaving import run_with_actions
from .options import (
    ActionsOption,
    InsecureOption,
    OutputOption,
    ServerOption,
    VerboseOption,
    WorkflowArgument,
    parse_input,
    parse_seconds,
)
from .output import note, print_line
from .source import Source, find_workflow

__all__ = ["run"]


@dataclass(frozen=True, slots=True)
class _Order:
    """What to run and how to show it."""

    source: Source
    input: JSON
    run_id: str | None
    timeout: float | None
    mode: OutputMode | None
    verbose: bool


def run(
    workflow: WorkflowArgument,
    actions: ActionsOption = None,
    given: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE|@-", help="The run's input. Default: null.", show_default=False),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The run's id; a run of that id and content is joined.", show_default=False),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Cancel the run after this time, as 90s or 5m.", show_default=False),
    ] = None,
    output: OutputOption = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, print its id, and leave it running.")] = False,
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
    stepwave run flow.yaml --input '{"city": "Oslo"}' | jq .brief
    ```
    """
    target = Target(server, insecure, tuple(actions or ()))
    order = _Order(
        find_workflow(workflow), parse_input(given), run_id, parse_seconds("--timeout", timeout), output, verbose
    )
    if detach:
        _check_detached(target, order)
        asyncio.run(_start(target, order))
    else:
        raise typer.Exit(run_with_actions(_run(target, order)))


def _check_detached(target: Target, order: _Order) -> None:
    if target.actions:
        raise CommandError("--detach needs a server: this process and its --actions end with the command")
    if order.timeout is not None:
        raise CommandError("--detach leaves nobody to watch --timeout: give the workflow a `timeout`")
    if order.mode is not None or order.verbose:
        raise CommandError("--detach shows nothing of the run: leave --output and --verbose to stepwave watch")


async def _start(target: Target, order: _Order) -> None:
    async with target.open() as client:
        with order.source.located():
            started = await client.start(order.source.definition, order.input, run_id=order.run_id)
    print_line(started.run_id)
    note(f"see it: stepwave watch {started.run_id}")


async def _run(target: Target, order: _Order) -> ExitCode:
    async with target.open() as client:
        with order.source.located(), closing(make_display(order.mode, order.source.actions)) as display:
            result = await _follow(client, order, display)
    return report(result, order.mode, verbose=order.verbose)


async def _follow(client: AsyncClient, order: _Order, display: Display) -> RunResult:
    handle = client.run(order.source.definition, order.input, run_id=order.run_id)
    async with handle, _cancelled_when_due(handle, display, order.timeout):
        return await follow(handle, display)


@asynccontextmanager
async def _cancelled_when_due(handle: RunHandle, display: Display, within: float | None) -> AsyncIterator[None]:
    """Cancel the run at the first interrupt or after a timeout, and go on with the body, which sees it end."""
    asked = asyncio.Event()
    canceller = asyncio.create_task(_cancel_when_due(asked, handle, display, within))
    try:
        with on_interrupt(asked.set, display.close):
            yield
    finally:
        canceller.cancel()
        await asyncio.wait({canceller})


async def _cancel_when_due(asked: asyncio.Event, handle: RunHandle, display: Display, within: float | None) -> None:
    try:
        await asyncio.wait_for(asked.wait(), within)
        why, hint = "Ctrl-C", "Ctrl-C again leaves at once"
    except TimeoutError:
        why = hint = f"its --timeout of {within:g} s has passed"
    display.say(f"cancelling {handle.run_id}; {hint}")
    try:
        await handle.cancel(why)
    except StepwaveError as error:
        display.say(f"could not cancel {handle.run_id}: {error}")
