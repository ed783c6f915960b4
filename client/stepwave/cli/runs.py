"""Starting a run, following its events to the end, and printing its result."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol

from stepwave._building.requests import Rerun, Startable
from stepwave._client.aio import AsyncClient
from stepwave._client.streams import EventStream, RunHandle
from stepwave._model.events import Event, RunFinished, RunStarted
from stepwave._model.results import Run, RunResult
from stepwave._values.payload import JSON
from stepwave.exceptions import NotFound, RunFailed, ServerUnavailable, StepwaveError

from .connect import Target
from .display.displays import Display, OutputMode, make_display
from .display.output import print_failures, print_line, print_message, print_outputs, print_raw_outputs
from .display.step_text import StepTextDisplay
from .display.text import PAUSED_TEXT, skip_line
from .exit_codes import CommandError, ExitCode, code_of_run
from .process.shutdown import on_interrupt
from .source import Source

__all__ = [
    "RunOptions",
    "RunRequest",
    "ShowOptions",
    "cancelled_on_interrupt",
    "connection_messages",
    "follow",
    "print_result",
    "report_existing",
    "start_run",
    "text_writer",
]


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """How to show a run, and what to print of it.

    Attributes:
        mode: How to show the run; `None`: live on a terminal, else text.
        verbose: Whether to show tracebacks.
        raw: Whether to print outputs as texts.
        step_id: The step whose text is written, instead of the run and its outputs; `None`: none.
    """

    mode: OutputMode | None = None
    verbose: bool = False
    raw: bool = False
    step_id: str | None = None

    def __post_init__(self) -> None:
        """Check that the options work together.

        Raises:
            CommandError: They do not.
        """
        if self.step_id is not None and self.mode is not None:
            raise CommandError("--follow writes the text of a step only: leave out --output")
        if self.step_id is not None and self.raw:
            raise CommandError("--follow prints no outputs: leave out --raw")
        if self.raw and self.mode is OutputMode.JSON:
            raise CommandError("--raw prints outputs as texts, --output json events as JSON: leave out one of them")

    @property
    def given(self) -> bool:
        """Whether there is any option."""
        return self != ShowOptions()

    def make_display(
        self,
        actions: Mapping[str, str] | None,
        *,
        rerun_of: str = "",
        paused_at: int | None = None,
        in_process: bool = False,
    ) -> Display:
        """Make the display for these options. Arguments as for `make_display`."""
        if self.step_id is not None:
            display = StepTextDisplay(self.step_id)
            if paused_at is not None:
                display.show_message(PAUSED_TEXT)
            return display
        return make_display(self.mode, actions, rerun_of=rerun_of, paused_at=paused_at, in_process=in_process)


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

    def make_display(self, options: ShowOptions, *, in_process: bool = False) -> Display:
        """Make a display that knows the steps' actions before they start, if the workflow is known here."""
        actions = None if self.source is None else self.source.actions
        rerun_of = self.definition.run_id if isinstance(self.definition, Rerun) else ""
        return options.make_display(actions, rerun_of=rerun_of, in_process=in_process)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run a workflow, and how to show the run.

    Attributes:
        run_id: The run's id; `None`: a new id.
        timeout: Seconds until the run is cancelled; `None`: no limit.
        show: How to show the run.
        detach: Whether to start the run and exit, without showing it.
        kept: Whether the run can be fetched after the command: it runs on a server.
    """

    run_id: str | None
    timeout: float | None
    show: ShowOptions
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
        if self.show.given:
            shown = "--output, --follow, --raw and --verbose"
            raise CommandError(f"--detach does not show the run: give {shown} to stepwave watch")


async def start_run(client: AsyncClient, request: RunRequest, options: RunOptions) -> ExitCode:
    """Start a run and return the exit code. Unless it is detached, show it to its end."""
    if options.detach:
        return await _start_detached(client, request, options)
    made = request.make_display(options.show, in_process=not options.kept)
    with request.locate_errors(), closing(made) as display:
        if options.run_id is not None:
            await report_existing(client, options.run_id, display.show_message)
        result = await _run_to_end(client, request, options, display)
    return print_result(result, options.show, kept=options.kept)


async def report_existing(client: AsyncClient, run_id: str, report: Callable[[str], None]) -> None:
    """Report that there is a run with this id already. The server starts none then, if the content is the same."""
    with suppress(NotFound):
        run = await client.get(run_id)
        report(f"{run_id} exists already ({run.state}): it is shown, and nothing is started")


async def _start_detached(client: AsyncClient, request: RunRequest, options: RunOptions) -> ExitCode:
    with request.locate_errors():
        if options.run_id is not None:
            await report_existing(client, options.run_id, print_message)
        run = await client.start(request.definition, request.input, run_id=options.run_id)
    print_line(run.run_id)
    print_message(f"see it: stepwave watch {run.run_id}")
    return ExitCode.SUCCEEDED


async def _run_to_end(client: AsyncClient, request: RunRequest, options: RunOptions, display: Display) -> RunResult:
    handle = client.run(request.definition, request.input, run_id=options.run_id, check=False)
    write_text = text_writer(handle, display)  # before the run starts: it may refuse the step
    async with handle, cancelled_on_interrupt(handle, display, options.timeout):
        return await follow(handle, display, write_text)


def text_writer(run: RunHandle | EventStream, display: Display) -> Callable[[], Awaitable[None]] | None:
    """Return a function that writes the text of the display's step to its end; `None`: the display shows no text.

    Raises:
        CommandError: The run has no such step. The function raises it too, once it knows the run's plan.
    """
    if not isinstance(display, StepTextDisplay):
        return None
    with _unknown_step():
        run.text(display.step_id)

    async def write_text() -> None:
        with _unknown_step():
            await display.write(run.text(display.step_id))

    return write_text


@contextmanager
def _unknown_step() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error


class Cancellable(Protocol):
    """A run that a user may cancel."""

    @property
    def run_id(self) -> str:
        """The run's id."""

    async def cancel(self, reason: str) -> Run:
        """Cancel the run, and return its current state."""


@asynccontextmanager
async def cancelled_on_interrupt(handle: Cancellable, display: Display, seconds: float | None) -> AsyncIterator[None]:
    """Cancel the run at the first interrupt or after some seconds. The body continues, and sees the run end."""
    interrupted = asyncio.Event()
    canceller = asyncio.create_task(_cancel_run(interrupted, handle, display, seconds))
    try:
        with on_interrupt(lambda _: interrupted.set(), display.close):
            yield
    finally:
        canceller.cancel()
        await asyncio.wait({canceller})


async def _cancel_run(interrupted: asyncio.Event, handle: Cancellable, display: Display, seconds: float | None) -> None:
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


async def follow(
    events: AsyncIterator[Event], display: Display, write_text: Callable[[], Awaitable[None]] | None = None
) -> RunResult:
    """Show events up to the last one, and return its result.

    Args:
        events: The events from the first one on.
        display: Where to show them.
        write_text: Reads events and writes the text of a step. It is called once the first event is read.

    Raises:
        CommandError: The server was lost, or the run was deleted, before the run's end.
    """
    connected = False
    try:
        with connection_messages(display):
            async for event in events:
                connected = True
                display.show(event)
                if isinstance(event, RunStarted) and write_text is not None:
                    await write_text()
                if isinstance(event, RunFinished):
                    return event.result
    except RunFailed as error:  # its step did not succeed, and neither did the run
        return error.result
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


def print_result(result: RunResult, options: ShowOptions, *, kept: bool = True) -> ExitCode:
    """Print a run's failures and outputs, unless other things went to standard output; return the exit code.

    Args:
        result: The run's result.
        options: How the run was shown.
        kept: Whether the run can be fetched after the command.
    """
    if options.mode is not OutputMode.JSON:
        print_failures(result, verbose=options.verbose, kept=kept)
    if options.step_id is not None:
        _print_skip(result, options.step_id)
    elif options.raw:
        print_raw_outputs(result)
    elif options.mode is OutputMode.RESULT or (result.outputs and options.mode is not OutputMode.JSON):
        print_outputs(result)
    return code_of_run(result.state)


def _print_skip(result: RunResult, step_id: str) -> None:
    """Print why a step without a text was skipped. Its failure would be one of the run's."""
    step = result.steps.get(step_id)
    if step is not None and step.skip_reason is not None:
        print_message(f"{step_id}: {skip_line(step.skip_reason)}")
