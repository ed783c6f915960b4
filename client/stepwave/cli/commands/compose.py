"""`stepwave compose`: run steps while a planner still writes them."""

import asyncio
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import typer

from stepwave._building.action_types import OpenRunOptions
from stepwave._client.aio import AsyncClient
from stepwave._client.open_runs import OpenRun
from stepwave._model.results import Run
from stepwave._values.payload import JSON
from stepwave.cli.connect import Target
from stepwave.cli.display.displays import Display
from stepwave.cli.exit_codes import CommandError, ExitCode
from stepwave.cli.options import (
    ActionsOption,
    InsecureOption,
    LocalOption,
    OutputOption,
    RawOption,
    ServerOption,
    VerboseOption,
    choice_metavar,
    choice_parser,
    parse_input,
    parse_labels,
    parse_seconds,
)
from stepwave.cli.process.shutdown import run_with_actions
from stepwave.cli.process.text_stream import read_texts
from stepwave.cli.runs import ShowOptions, cancelled_on_interrupt, follow, print_result, report_existing
from stepwave.exceptions import InvalidWorkflow, StepwaveError, Unsupported

__all__ = ["compose"]

_MAX_PARALLELISM = 2**32 - 1  # the contract has a uint32


class Policy(StrEnum):
    """The effect of a failure on other steps."""

    FAIL_FAST = "fail_fast"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class _Request:
    """The arguments of one composed run.

    Attributes:
        source: The file with the steps, or `-`.
        name: The name of the workflow.
        input: The run's input.
        run_id: The run's id; `None`: a new one.
        idle_timeout: Seconds that the run may wait for steps; `None`: the server's default.
        timeout: Seconds until the run is cancelled; `None`: no limit.
        options: Options of the workflow.
        show: How to show the run.
        kept: Whether the run can be fetched after the command.
    """

    source: str
    name: str
    input: JSON
    run_id: str | None
    idle_timeout: float | None
    timeout: float | None
    options: OpenRunOptions
    show: ShowOptions
    kept: bool


def compose(
    steps: Annotated[
        str, typer.Argument(metavar="FILE|-", help="A file of steps, or - for standard input.", show_default=False)
    ],
    actions: ActionsOption = None,
    local: LocalOption = False,
    input_text: Annotated[
        str | None,
        typer.Option("--input", metavar="JSON|@FILE", help="The run's input. Default: null.", show_default=False),
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="The name of the workflow.")] = "plan",
    policy: Annotated[
        Policy,
        typer.Option(
            "--policy",
            parser=choice_parser(Policy),
            metavar=choice_metavar(Policy),
            help="Whether a failure ends the run, or the steps that still can continue.",
        ),
    ] = Policy.FAIL_FAST,
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
    idle_timeout: Annotated[
        str | None,
        typer.Option(
            "--idle-timeout",
            metavar="DURATION",
            help="How long the run may wait for steps. Default: that of the server, 10m.",
            show_default=False,
        ),
    ] = None,
    run_id: Annotated[
        str | None,
        typer.Option(
            "--run-id",
            metavar="ID",
            help="The run's id. If that run exists, it goes on: steps that it has already are no error.",
            show_default=False,
        ),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option("--timeout", metavar="DURATION", help="Cancel the run after this time, such as 90s or 5m."),
    ] = None,
    output: OutputOption = None,
    raw: RawOption = False,
    server: ServerOption = None,
    insecure: InsecureOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run steps while a planner still writes them: each as soon as its line is complete. Ctrl-C cancels the run.

    A line has one step as JSON, in the form of a workflow file. Steps may depend on steps of later lines. The end of
    the input seals the run. A line that is not a step, such as a last line that is cut off, cancels the run, and so
    does a step that the server refuses: the exit code is 2 then. Output and other exit codes are those of
    `stepwave run`.

    ```
    my_planner | stepwave compose - --actions tools
    stepwave compose steps.jsonl --input '{"city": "Oslo"}' | jq .brief
    ```
    """
    if (steps, input_text) == ("-", "@-"):
        raise CommandError("standard input cannot be both the steps and the run's input")
    target = Target(server, insecure, tuple(actions or ()), local, "stepwave compose … --actions MODULE")
    request = _Request(
        source=steps,
        name=name,
        input=parse_input(input_text),
        run_id=run_id,
        idle_timeout=parse_seconds("--idle-timeout", idle_timeout),
        timeout=parse_seconds("--timeout", timeout),
        options=OpenRunOptions(
            failure_policy=policy.value,
            labels=parse_labels("--label", label),
            max_parallelism=max_parallelism or 0,
        ),
        show=ShowOptions(mode=output, verbose=verbose, raw=raw),
        kept=not target.in_process,
    )
    raise typer.Exit(run_with_actions(_compose(target, request)))


async def _compose(target: Target, request: _Request) -> ExitCode:
    async with target.open() as client:
        return await _run(client, request)


async def _run(client: AsyncClient, request: _Request) -> ExitCode:
    plan = client.compose(
        request.name,
        request.input,
        run_id=request.run_id,
        idle_timeout=request.idle_timeout,
        check=False,
        **request.options,
    )
    with closing(request.show.make_display({}, in_process=not request.kept)) as display:
        if request.run_id is not None:
            await report_existing(client, request.run_id, display.show_message)
        composing = _Composing(plan)
        async with plan, cancelled_on_interrupt(composing, display, request.timeout):
            await composing.feed_and_follow(request.source, display)
    code = print_result(plan.result, request.show, kept=request.kept)
    if composing.problem is not None:
        raise composing.problem
    return code


class _Composing:
    """A plan that is composed. The user may cancel its run, and an error of its source does.

    Attributes:
        run_id: The id of its run.
        cancelled: Whether the user cancelled it.
        problem: The problem of its source; `None`: it has none.
    """

    def __init__(self, plan: OpenRun) -> None:
        self.run_id = plan.run_id
        self.cancelled = False
        self.problem: CommandError | None = None
        self._plan = plan

    async def cancel(self, reason: str) -> Run:
        """Cancel the run, as the user wants."""
        self.cancelled = True
        return await self._plan.cancel(reason)

    async def feed_and_follow(self, source: str, display: Display) -> None:
        """Add the steps of a source, and show the run to its end. It may end before the source does."""
        feeding = asyncio.create_task(self._feed(source))
        try:
            await follow(self._plan.events(), display)
        finally:
            feeding.cancel()
            await asyncio.wait({feeding})

    async def _feed(self, source: str) -> None:
        """Add the steps of a source, and seal the run. If the source has a problem, cancel the run."""
        try:
            await self._plan.feed(read_texts(source), source)
            await self._plan.seal()
        except (InvalidWorkflow, Unsupported, CommandError) as error:
            if not self.cancelled:
                self.problem = error if isinstance(error, CommandError) else CommandError(str(error))
                await self._plan.cancel("its plan has an error")
        except StepwaveError:  # the run has ended, or the server was lost: following the run says so
            pass
