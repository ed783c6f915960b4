"""The displays of a run's progress: live on a terminal, as lines of text, as JSON events, or none."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from rich.console import Console
from rich.text import Text

from stepwave._model.events import Event, StepLog

from .drawing import Drawing
from .frames import frame
from .lines import EventLines
from .output import has_live_terminal, print_json, stderr_console
from .run_view import RunView
from .text import PAUSED_TEXT, log_text, plural

__all__ = ["Display", "JsonDisplay", "LiveDisplay", "OutputMode", "QuietDisplay", "TextDisplay", "make_display"]

_FRAME_INTERVAL = 0.1  # seconds
_MAX_LOGS = 200  # log messages between two frames; of more, the newest are shown
_PAUSE_FACTOR = 10  # the pause after a frame, in draw times: drawing takes less than a tenth of the time


class OutputMode(StrEnum):
    """How `run` and `watch` show a run."""

    LIVE = "live"
    TEXT = "text"
    JSON = "json"
    RESULT = "result"


class Display(Protocol):
    """Shows the progress of a run."""

    def show(self, event: Event) -> None:
        """Show the run's next event. Called on the running loop."""

    def show_message(self, message: str) -> None:
        """Show a message that is not an event."""

    def show_connection(self, *, lost: bool) -> None:
        """Show that the connection to the server is lost, or is back. Called on the running loop."""

    def close(self) -> None:
        """Restore the terminal. It can be called again, and from a signal handler."""


def make_display(
    mode: OutputMode | None,
    actions: Mapping[str, str] | None = None,
    *,
    rerun_of: str = "",
    paused_at: int | None = None,
    in_process: bool = False,
) -> Display:
    """Make the display of a mode.

    Args:
        mode: The mode; `None`: live on a terminal, else text.
        actions: The steps' actions that are known before the steps start, by step id.
        rerun_of: The id of the run that this run repeats; empty: none.
        paused_at: The sequence number of a paused run's last event; `None`: the run is not paused.
        in_process: Whether the run is in this process, where no other command finds it.
    """
    match mode or (OutputMode.LIVE if has_live_terminal() else OutputMode.TEXT):
        case OutputMode.LIVE:
            return LiveDisplay(RunView(actions, rerun_of=rerun_of, paused_at=paused_at, in_process=in_process))
        case OutputMode.TEXT:
            display = TextDisplay(actions=actions, in_process=in_process)
            if rerun_of:
                display.show_message(f"rerun of {rerun_of}")
            if paused_at is not None:
                display.show_message(PAUSED_TEXT)
            return display
        case OutputMode.JSON:
            return JsonDisplay()
        case OutputMode.RESULT:
            return QuietDisplay()


class QuietDisplay:
    """Shows messages only."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or stderr_console()

    def show(self, event: Event) -> None:
        """Ignore the event."""

    def show_message(self, message: str) -> None:
        """Write the message to standard error."""
        self._console.print(message, soft_wrap=True)

    def show_connection(self, *, lost: bool) -> None:
        """Do nothing: there is a message too."""

    def close(self) -> None:
        """Do nothing."""


class TextDisplay(QuietDisplay):
    """Writes a line for each event to standard error."""

    def __init__(
        self, console: Console | None = None, *, actions: Mapping[str, str] | None = None, in_process: bool = False
    ) -> None:
        super().__init__(console)
        self._lines = EventLines(actions, in_process=in_process)

    def show(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        line = self._lines.line(event)
        if line is not None:
            self.show_message(line)


class JsonDisplay(QuietDisplay):
    """Writes each event to standard output, as a line of JSON."""

    def show(self, event: Event) -> None:
        """Write the event."""
        print_json(event.to_dict(), pretty=False)


class LiveDisplay(QuietDisplay):
    """Redraws a run in place on standard error.

    It draws at most ten times a second, and spends at most a tenth of the time on it. Log messages are printed above
    the next frame.
    """

    def __init__(
        self,
        view: RunView,
        console: Console | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(console)
        self._view = view
        self._now = now
        self._drawing = Drawing(self._console)
        self._timer: asyncio.Handle | None = None
        self._logs: deque[Text] = deque(maxlen=_MAX_LOGS)
        self._left_out = 0

    def show(self, event: Event) -> None:
        """Show the event in the next frame."""
        self._view.apply(event)
        if isinstance(event, StepLog):
            self._left_out += len(self._logs) == _MAX_LOGS
            self._logs.append(log_text(event))
        if self._timer is None:
            self._drawing.start()
            self._timer = asyncio.get_running_loop().call_soon(self._draw_and_repeat)

    def show_connection(self, *, lost: bool) -> None:
        """Show in the next frame that the connection is lost, or is back."""
        self._view.lost_time = self._now() if lost else None

    def close(self) -> None:
        """Draw the last frame and leave it on the screen."""
        if self._drawing.is_started and self._timer is not None:
            self._timer.cancel()
            self._draw()
            self._drawing.stop()

    def _draw_and_repeat(self) -> None:
        start = time.perf_counter()
        self._draw()
        pause = max(_FRAME_INTERVAL, _PAUSE_FACTOR * (time.perf_counter() - start))
        self._timer = asyncio.get_running_loop().call_later(pause, self._draw_and_repeat)

    def _draw(self) -> None:
        self._print_logs()
        width, height = self._console.size
        self._drawing.draw(frame(self._view, width=width, height=height, now=self._now()))

    def _print_logs(self) -> None:
        if self._left_out:
            self.show_message(f"{plural(self._left_out, 'log message')} left out")
        if self._logs:
            self._console.print(Text("\n").join(self._logs), soft_wrap=True)
        self._left_out = 0
        self._logs.clear()
