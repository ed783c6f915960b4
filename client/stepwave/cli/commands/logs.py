"""`stepwave logs`: show what the actions of a run have logged, and follow what they log."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated

import typer
from rich.cells import cell_len

from stepwave._client.aio import AsyncClient
from stepwave._model.events import LogLevel, StepLog
from stepwave._model.results import Run
from stepwave.cli.connect import Target, find_run
from stepwave.cli.display.displays import QuietDisplay
from stepwave.cli.display.output import print_json, print_message, print_text
from stepwave.cli.display.text import log_text, one_line, plural
from stepwave.cli.exit_codes import CommandError
from stepwave.cli.options import (
    Format,
    FormatOption,
    InsecureOption,
    RunArgument,
    ServerOption,
    choice_metavar,
    choice_parser,
)
from stepwave.cli.process.shutdown import until_interrupted
from stepwave.cli.process.standard_streams import output_stream
from stepwave.cli.runs import connection_messages

__all__ = ["logs"]

_FOLLOWED_KINDS = ("step_log", "step_started")
_MAX_STEP_WIDTH = 32


class Level(StrEnum):
    """The lowest level of messages to show."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


_RANKS = {str(level): rank for rank, level in enumerate(Level)}


@dataclass(frozen=True, slots=True)
class _Filter:
    """The messages to show.

    Attributes:
        step_id: Only messages of this step, and of steps within it; empty: all.
        level: The lowest level.
    """

    step_id: str
    level: Level

    def matches(self, event: StepLog) -> bool:
        """Return whether to show a message. A level of a newer server is shown."""
        is_high = event.level is LogLevel.UNKNOWN or _RANKS[event.level] >= _RANKS[self.level]
        is_within = event.step_id.startswith((f"{self.step_id}[", f"{self.step_id}/"))
        return is_high and (self.step_id in {"", event.step_id} or is_within)


def logs(
    run: RunArgument,
    step: Annotated[
        str,
        typer.Option(
            "--step", metavar="ID", help="Only messages of this step and of steps within it.", show_default=False
        ),
    ] = "",
    level: Annotated[
        Level,
        typer.Option(
            "--level",
            parser=choice_parser(Level),
            metavar=choice_metavar(Level),
            help="Only messages of this level and above.",
        ),
    ] = Level.DEBUG,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Also show new messages as they are logged, until the run ends.")
    ] = False,
    output: FormatOption = Format.TEXT,
    server: ServerOption = None,
    insecure: InsecureOption = False,
) -> None:
    """Show what the actions of a run have logged: by `context.logger`, and by other loggers at the server's log level.

    The server keeps the newest messages in memory: at most 1,000 messages and 256 KiB of a run, and 64 MiB of all runs.
    They are deleted with their run, and they do not outlive the server. With `--output json`, each message is a line.

    ```
    stepwave logs @last --level warning
    stepwave logs briefing-7k3f9q2m --step search --follow
    ```
    """
    show = _print_json if output is Format.JSON else _TextPrinter().show
    asyncio.run(_logs(Target(server, insecure), run, _Filter(step, level), show, follow=follow))


async def _logs(target: Target, prefix: str, wanted: _Filter, show: Callable[[StepLog], None], *, follow: bool) -> None:
    async with target.open() as client:
        run = await find_run(client, prefix)
        reader = _Reader(client, run, wanted, show)
        if follow and not run.state.ended:
            with connection_messages(_ConnectionDisplay(reader)):
                await until_interrupted(reader.follow(), output_stream().flush)
        else:
            await reader.read()
        if not reader.shown:
            print_message(reader.why_nothing())


class _Reader:
    """Reads the messages of a run, each once and in order, and shows those that match.

    Args:
        client: The client.
        run: The run.
        wanted: The messages to show.
        show: Shows a message.

    Attributes:
        shown: The number of messages that were shown.
        is_behind: Whether the stream may have missed messages.
    """

    def __init__(self, client: AsyncClient, run: Run, wanted: _Filter, show: Callable[[StepLog], None]) -> None:
        self.shown = 0
        self.is_behind = False
        self._client = client
        self._run_id = run.run_id
        self._sequence = run.last_sequence
        self._wanted = wanted
        self._show = show
        self._read = 0
        self._checked = False
        # Of the last message. A restarted server counts from 1 again, at later times.
        self._time = datetime.min.replace(tzinfo=UTC)
        self._index = 0

    async def read(self) -> None:
        """Read the kept messages that have not been read."""
        self.is_behind = False
        async for event in self._client.logs(self._run_id):
            self._take(event)
        if not (self.shown or self._checked):
            await self._check_step()

    async def follow(self) -> None:
        """Read messages until the run ends. Those that the stream misses are read from the kept ones.

        A restarted server starts the running attempts again. The events of these starts show that it is back, even if
        nothing more is logged.
        """
        # A stream after a number is confirmed at once. It is then resumed as long as that of a run.
        async with self._client.watch(self._run_id, after=self._sequence, kinds=_FOLLOWED_KINDS) as events:
            await self.read()
            self.is_behind = True  # the stream may have begun after that
            async for event in events:
                if self.is_behind or (isinstance(event, StepLog) and event.index != self._index + 1):
                    await self.read()
                if isinstance(event, StepLog):
                    self._take(event)
        await self.read()

    def why_nothing(self) -> str:
        """Return why no message was shown."""
        if self._read:
            return f"of {plural(self._read, 'message')} kept, none matches --step and --level"
        return (
            f"nothing is kept of what {self._run_id} logged: its actions logged nothing, "
            "the server was restarted since, or messages of newer runs took their place"
        )

    def _take(self, event: StepLog) -> None:
        if (event.time, event.index) <= (self._time, self._index):
            return
        before = self._index if event.index > self._index else 0
        if missed := event.index - before - 1:
            print_message(f"{plural(missed, 'message')} no longer kept")
        self._time, self._index = event.time, event.index
        self._read += 1
        if self._wanted.matches(event):
            self.shown += 1
            self._show(event)

    async def _check_step(self) -> None:
        """Check that the run has the wanted step.

        Raises:
            CommandError: It does not.
        """
        wanted, self._checked = self._wanted.step_id, True
        if not wanted:
            return
        known = [step.step_id async for step in self._client.steps(self._run_id)]
        if wanted not in known:
            near = get_close_matches(wanted, known, 1)
            hint = f'; did you mean "{near[0]}"?' if near else ""
            raise CommandError(f'{self._run_id} has no step "{one_line(wanted)}"{hint}')


class _ConnectionDisplay(QuietDisplay):
    """Shows messages about the connection. While it is lost, the stream may miss messages of the run."""

    def __init__(self, reader: _Reader) -> None:
        super().__init__()
        self._reader = reader

    def show_connection(self, *, lost: bool) -> None:
        """Note that messages may be missed."""
        self._reader.is_behind = True


class _TextPrinter:
    """Prints messages for people. The column of steps is as wide as the longest so far."""

    def __init__(self) -> None:
        self._width = 0

    def show(self, event: StepLog) -> None:
        """Print a message."""
        self._width = min(max(self._width, cell_len(event.step_id)), _MAX_STEP_WIDTH)
        print_text(log_text(event, step_width=self._width, time=True), whole=True)
        output_stream().flush()


def _print_json(event: StepLog) -> None:
    print_json(event.to_dict(), pretty=False)
