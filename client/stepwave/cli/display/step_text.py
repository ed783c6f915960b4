"""The text of one step, written to standard output as it comes."""

from collections.abc import AsyncIterator

from rich.console import Console

from stepwave._client.text import TextChunk
from stepwave.cli.process.standard_streams import output_stream

from .displays import QuietDisplay

__all__ = ["StepTextDisplay"]


class StepTextDisplay(QuietDisplay):
    """Writes the chunks of a step's text to standard output as they are, and messages to standard error.

    A line that the text has not ended is ended before the text begins anew; on a terminal also before a message, and at
    the end of the text.

    Args:
        step_id: The step.
    """

    def __init__(self, step_id: str, console: Console | None = None) -> None:
        super().__init__(console)
        self.step_id = step_id
        self._in_line = False

    async def write(self, chunks: AsyncIterator[TextChunk]) -> None:
        """Write the text to its end, each chunk at once."""
        async for chunk in chunks:
            if chunk.restarts:
                self._end_line()
                self.show_message(f"{self.step_id}: the text begins anew; everything before is void")
            self._write(chunk)
        self.close()

    def show_message(self, message: str) -> None:
        """Write the message to standard error, on a line of its own."""
        self.close()
        super().show_message(message)

    def close(self) -> None:
        """End the line on a terminal."""
        if output_stream().isatty():
            self._end_line()

    def _end_line(self) -> None:
        if self._in_line:
            self._write("\n")

    def _write(self, text: str) -> None:
        output_stream().write(text)
        output_stream().flush()
        self._in_line = not text.endswith("\n") if text else self._in_line
