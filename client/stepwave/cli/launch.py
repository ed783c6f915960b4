"""How commands start a run: held and shown while it lasts, or left to itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass

from stepwave._building.requests import Rerun, Startable
from stepwave._client.aio import AsyncClient
from stepwave._client.streams import RunHandle
from stepwave._model.results import RunResult
from stepwave._values.payload import JSON
from stepwave.exceptions import StepwaveError

from .connect import Target
from .display.displays import Display, OutputMode, make_display
from .display.output import note, print_line
from .exit_codes import CommandError, ExitCode
from .follow import follow, report
from .process.interrupts import on_interrupt
from .source import Source

__all__ = ["Manner", "Work", "launch"]


@dataclass(frozen=True, slots=True)
class Work:
    """What to run.

    Attributes:
        definition: The workflow, or an earlier run.
        input: The run's input.
        source: Where the workflow was found; `None` for an earlier run.
    """

    definition: Startable
    input: JSON = None
    source: Source | None = None

    def located(self) -> AbstractContextManager[None]:
        """Give what a server blames in the body its place in the file, if there is one."""
        return nullcontext() if self.source is None else self.source.located()

    def display(self, mode: OutputMode | None) -> Display:
        """Make a display that knows what is known before the run starts."""
        actions = None if self.source is None else self.source.actions
        earlier = self.definition.run_id if isinstance(self.definition, Rerun) else ""
        return make_display(mode, actions, rerun_of=earlier)


@dataclass(frozen=True, slots=True)
class Manner:
    """How to run something, and how to show it.

    Attributes:
        run_id: The run's id; `None`: one is made.
        timeout: Seconds after which it is cancelled; `None`: never.
        mode: How to show it; `None`: as the terminal allows.
        verbose: Whether to show tracebacks.
        detach: Whether to leave it to itself, and show nothing.
    """

    run_id: str | None
    timeout: float | None
    mode: OutputMode | None
    verbose: bool
    detach: bool

    def check(self, target: Target) -> None:
        """Check that it makes sense for a target.

        Raises:
            CommandError: It does not.
        """
        if not self.detach:
            return
        if target.in_process:
            raise CommandError("--detach needs a server: this process ends with the command")
        if self.timeout is not None:
            raise CommandError("--detach leaves nobody to watch --timeout: give the workflow a `timeout`")
        if self.mode is not None or self.verbose:
            raise CommandError("--detach shows nothing of the run: leave --output and --verbose to stepwave watch")


async def launch(client: AsyncClient, work: Work, manner: Manner) -> ExitCode:
    """Start a run, and show it to its end unless it is detached; return the exit code."""
    if manner.detach:
        return await _start(client, work, manner)
    with work.located(), closing(work.display(manner.mode)) as display:
        result = await _follow(client, work, manner, display)
    return report(result, manner.mode, verbose=manner.verbose)


async def _start(client: AsyncClient, work: Work, manner: Manner) -> ExitCode:
    with work.located():
        started = await client.start(work.definition, work.input, run_id=manner.run_id)
    print_line(started.run_id)
    note(f"see it: stepwave watch {started.run_id}")
    return ExitCode.SUCCEEDED


async def _follow(client: AsyncClient, work: Work, manner: Manner, display: Display) -> RunResult:
    handle = client.run(work.definition, work.input, run_id=manner.run_id)
    async with handle, _cancelled_when_due(handle, display, manner.timeout):
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
