"""Draws frames in place on a terminal: each replaces the one before, also after the terminal was resized.

Most terminals wrap the lines on the screen when they become narrower, so a frame then takes more rows than it has
lines. The next frame erases all of them.
"""

from collections.abc import Sequence
from math import ceil

from rich.console import Console, ConsoleOptions, ConsoleRenderable, Group, RenderResult
from rich.live import Live
from rich.segment import ControlType, Segment
from rich.text import Text

__all__ = ["Drawing"]

# DEC private mode 2026: the terminal shows nothing between the two. Terminals that do not know the mode ignore it.
_BEGIN_UPDATE = "\x1b[?2026h"
_END_UPDATE = "\x1b[?2026l"
_ERASE_BELOW = "\x1b[J"


class Drawing(Live):
    """A frame on the terminal. Messages that are printed while it is shown appear above it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console=console, auto_refresh=False)
        self._lines: Sequence[Text] = ()
        self._drawn: Sequence[Text] = ()
        self._drawn_width = 0

    def draw(self, lines: Sequence[Text]) -> None:
        """Replace the frame."""
        for line in lines:  # a message may be printed after a resize, before the next frame
            line.no_wrap, line.overflow = True, "ellipsis"
        self._lines = lines
        self.update(Group(*lines), refresh=True)

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Add the frame to what is printed, after erasing the one before. Called by the console."""
        width, height = self.console.size
        processed = super().process_renderables(renderables)
        if self.console.is_interactive:
            if self._drawn and width < self._drawn_width:  # the base class moves up by the number of lines
                processed[0] = _Escapes(_erasing(min(_wrapped_rows(self._drawn, self._drawn_width, width), height)))
            self._drawn, self._drawn_width = self._lines, width
        if self.console.file.isatty():
            return [_Escapes(_BEGIN_UPDATE), *processed, _Escapes(_END_UPDATE)]
        return processed


def _wrapped_rows(lines: Sequence[Text], drawn_width: int, width: int) -> int:
    """Return the number of rows of lines that were drawn at one width, once the terminal has another."""
    return sum(max(ceil(min(line.cell_len, drawn_width) / width), 1) for line in lines)


def _erasing(rows: int) -> str:
    """Return the escape sequences that erase the rows above the cursor, and its own."""
    up = f"\x1b[{rows - 1}A" if rows > 1 else ""
    return f"\r{up}{_ERASE_BELOW}"


class _Escapes:
    """Escape sequences, written as they are."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Segment(self._text, None, [(ControlType.CARRIAGE_RETURN,)])  # without a code, it would have a width
