"""Starting a run, following its events to the end, and printing its result."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager, nullcontext
from dataclasses import dataclass

from stepwave._building.requests import Rerun, Startable
from stepwave._client.aio import AsyncClient
from stepwave._client.streams import RunHandle
from stepwave._model.events import Event, RunFinished
from stepwave._model.results import RunResult
from stepwave._values.payload import JSON
from stepwave.exceptions import ServerUnavailable, StepwaveError

from .connect import Target
from .display.displays import Display, OutputMode, make_display
from .display.output import print_failures, print_line, print_message, print_outputs
from .exit_codes import CommandError, ExitCode, code_of_run
from .process.shutdown import on_interrupt
from .source import Source

__all__ = ["RunOptions", "RunRequest", "connection_messages", "follow", "print_result", "start_run"]


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A request to run a workflow.

    Attributes:
        definition: The workflow, or the earlier run to repeat.
        input: The run's input.
        source: Where the workflow was found; `None` for a rerun.
    """

    definition: Startable
    input: JSON = None
    source: Source | None = None

    def locate_errors(self) -> AbstractContextManager[None]:
        """Add the place in the workflow file to the server's errors, if there is a file."""
        return nullcontext() if self.source is None else self.source.locate_errors()

    def make_display(self, mode: OutputMode | None) -> Display:
        """Make a display that knows the steps' actions before they start, if the workflow is known here."""
        actions = None if self.source is None else self.source.actions
        rerun_of = self.definition.run_id if isinstance(self.definition, Rerun) else ""
        return make_display(mode, actions, rerun_of=rerun_of)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a workflow, and how to show the run.

    Attributes:
        run_id: The run's id; `None`: a new id.
        timeout: Seconds until the run is cancelled; `None`: no limit.
        mode: How to show the run; `None`: live on a terminal, else text.
        verbose: Whether to show tracebacks.
        detach: Whether to start the run and exit, without showing it.
        kept: Whether the run can be fetched after the command: it runs on a server.
    """

    run_id: str | None
    timeout: float | None
    mode: OutputMode | None
    verbose: bool
    detach: bool
    kept: bool = True

    def check(self, target: Target) -> None:
        """Check that the options work together, and with a target.

        Raises:
            CommandError: They do not.
        """
        if not self.detach:
            return
        if target.in_process:
            raise CommandError("--detach needs a server: a run in this process ends with the command")
        if self.timeout is not None:
            raise CommandError("--detach does not work with --timeout: set the workflow's `timeout`")
        if self.mode is not None or self.verbose:
            raise CommandError("--detach does not show the run: give --output and --verbose to stepwave watch")


async def start_run(client: AsyncClient, request: RunRequest, options: RunOptions) -> ExitCode:
    """Start a run and return the exit code. Unless it is detached, show it to its end."""
    if options.detach:
        return await _start_detached(client, request, options)
    with request.locate_errors(), closing(request.make_display(options.mode)) as display:
        result = await _run_to_end(client, request, options, display)
    return print_result(result, options.mode, verbose=options.verbose, kept=options.kept)


async def _start_detached(client: AsyncClient, request: RunRequest, options: RunOptions) -> ExitCode:
    with request.locate_errors():
        run = await client.start(request.definition, request.input, run_id=options.run_id)
    print_line(run.run_id)
    print_message(f"see it: stepwave watch {run.run_id}")
    return ExitCode.SUCCEEDED


async def _run_to_end(client: AsyncClient, request: RunRequest, options: RunOptions, display: Display) -> RunResult:
    handle = client.run(request.definition, request.input, run_id=options.run_id)
    async with handle, _cancelled_on_interrupt(handle, display, options.timeout):
        return await follow(handle, display)


@asynccontextmanager
async def _cancelled_on_interrupt(handle: RunHandle, display: Display, seconds: float | None) -> AsyncIterator[None]:
    """Cancel the run at the first interrupt or after some seconds. The body continues, and sees the run end."""
    interrupted = asyncio.Event()
    canceller = asyncio.create_task(_cancel_run(interrupted, handle, display, seconds))
    try:
        with on_interrupt(interrupted.set, display.close):
            yield
    finally:
        canceller.cancel()
        await asyncio.wait({canceller})


async def _cancel_run(interrupted: asyncio.Event, handle: RunHandle, display: Display, seconds: float | None) -> None:
    try:
        await asyncio.wait_for(interrupted.wait(), seconds)
        reason, hint = "Ctrl-C", "Ctrl-C again exits at once"
    except TimeoutError:
        reason = hint = f"its --timeout of {seconds:g} s has passed"
    display.show_message(f"cancelling {handle.run_id}; {hint}")
    try:
        await handle.cancel(reason)
    except StepwaveError as error:
        display.show_message(f"could not cancel {handle.run_id}: {error}")


async def follow(events: AsyncIterator[Event], display: Display) -> RunResult:
    """Show events up to the last one, and return its result.

    Raises:
        CommandError: The server was lost, or the run was deleted, before the run's end.
    """
    connected = False
    try:
        with connection_messages(display):
            async for event in events:
                connected = True
                display.show(event)
                if isinstance(event, RunFinished):
                    return event.result
    except ServerUnavailable as error:
        if connected and not error.reason:
            raise CommandError(str(error), ExitCode.NO_SERVER) from error
        raise
    raise CommandError("the event stream ended before the run", ExitCode.NO_SERVER)


@contextmanager
def connection_messages(display: Display) -> Iterator[None]:
    """Show the SDK's log messages about the connection in the body: it is lost, it is back."""
    logger, handler = logging.getLogger("stepwave.connection"), _DisplayHandler(display)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _DisplayHandler(logging.Handler):
    """Writes log messages about the connection to a display. A warning reports that it is lost."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.show_message(record.getMessage())
        self._display.show_connection(lost=record.levelno >= logging.WARNING)


def print_result(result: RunResult, mode: OutputMode | None, *, verbose: bool, kept: bool = True) -> ExitCode:
    """Print a run's failures and outputs, unless its events went to standard output; return the exit code.

    Args:
        result: The run's result.
        mode: How the run was shown.
        verbose: Whether to print all failures, with their tracebacks.
        kept: Whether the run can be fetched after the command.
    """
    if mode is not OutputMode.JSON:
        print_failures(result, verbose=verbose, kept=kept)
        if result.outputs or mode is OutputMode.RESULT:
            print_outputs(result)
    return code_of_run(result.state)
