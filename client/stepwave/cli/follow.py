"""How a run is followed: its events shown while it lasts, with what becomes of the connection; then what it came to."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from stepwave._model.events import Event, RunFinished
from stepwave._model.results import RunResult
from stepwave.exceptions import ServerUnavailable

from .display.displays import Display, OutputMode
from .display.outcome import print_failures, print_outputs
from .exit_codes import CommandError, ExitCode, code_of_run

__all__ = ["follow", "report"]


async def follow(events: AsyncIterator[Event], display: Display) -> RunResult:
    """Show events to the last one, and return the result that it holds.

    Raises:
        CommandError: The server was lost, or the run was deleted, before the run's end.
    """
    heard = False
    try:
        with _connection_told(display):
            async for event in events:
                heard = True
                display.show(event)
                if isinstance(event, RunFinished):
                    return event.result
    except ServerUnavailable as error:
        if heard and not error.reason:
            raise CommandError(str(error), ExitCode.NO_SERVER) from error
        raise
    raise CommandError("the events ended before the run did", ExitCode.NO_SERVER)


def report(result: RunResult, mode: OutputMode | None, *, verbose: bool) -> ExitCode:
    """Say what a run came to, unless the events on standard output said it; return the exit code."""
    if mode is not OutputMode.JSON:
        print_failures(result, verbose=verbose)
        if result.outputs or mode is OutputMode.RESULT:
            print_outputs(result)
    return code_of_run(result.state)


@contextmanager
def _connection_told(display: Display) -> Iterator[None]:
    """Say meanwhile when the connection is lost, and when there is one again."""
    logger, teller = logging.getLogger("stepwave.connection"), _Teller(display)
    logger.addHandler(teller)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(teller)


class _Teller(logging.Handler):
    """Says what is logged."""

    def __init__(self, display: Display) -> None:
        super().__init__()
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        self._display.say(record.getMessage())
