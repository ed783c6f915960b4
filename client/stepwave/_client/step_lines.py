"""A stream of JSON Lines, one step a line, cut into texts anywhere."""

from collections.abc import Iterator

from stepwave._files import FileProblem, LoadedStep, Place, WorkflowFileError, parse_step

__all__ = ["StepLines"]

_MAX_LINE = 3 << 20
"""Characters in a line. A longer one is no step that a server takes."""


class StepLines:
    """Puts texts together to lines, and reads them. Blank lines and fences are skipped.

    Args:
        source: The name of the stream in error messages.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._line = 0
        self._parts: list[str] = []
        self._size = 0

    def push(self, text: str) -> Iterator[LoadedStep]:
        """Yield the steps of the lines that a text completes.

        Raises:
            WorkflowFileError: A line is not a step, or too long.
        """
        *complete, rest = text.split("\n")
        for part in complete:
            yield from self._read("".join((*self._parts, part)))
            self._parts.clear()
            self._size = 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
            if self._size > _MAX_LINE:
                problem = FileProblem(Place(self._line + 1, 1), f"a line of more than {_MAX_LINE:,} characters")
                raise WorkflowFileError(self._source, [problem])

    def end(self) -> Iterator[LoadedStep]:
        """Yield the step of a last line without a line break, if there is one.

        Raises:
            WorkflowFileError: It is not a step. It may be cut off.
        """
        yield from self.push("\n")

    def _read(self, line: str) -> Iterator[LoadedStep]:
        self._line += 1
        text = line.strip()
        if text and not text.startswith("```"):
            yield parse_step(text, self._source, self._line)
