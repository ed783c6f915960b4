"""The text of one step: its chunks as strings, made from the events of its run."""

from collections.abc import AsyncIterator
from typing import Self

from stepwave._model.events import AnyEvent, RunFinished, RunStarted, StepChunk, StepFinished, StepRetrying
from stepwave._model.results import State, StepResult
from stepwave._values.numbers import show_json
from stepwave._values.plain import plain_payload

from .runs import WatchedRun

__all__ = ["TEXT_KINDS", "StepText", "TextChunk", "read_text"]

TEXT_KINDS = frozenset({"step_chunk", "step_retrying", "step_finished"})
"""The kinds of events that a step's text is made from."""


class TextChunk(str):
    """A chunk of a step's text.

    Attributes:
        restarts: Whether the text begins anew with this chunk. All earlier chunks of the step are void: another
            attempt, or the step's fallback, took the place of the one that sent them.
    """

    __slots__ = ("restarts",)

    restarts: bool

    def __new__(cls, text: str = "", *, restarts: bool = False) -> Self:
        chunk = super().__new__(cls, text)
        chunk.restarts = restarts
        return chunk


class StepText:
    """Makes the text of a step from the events of its run.

    The server may drop chunks for a slow reader, and keeps only the newest ones for a late one. After a gap, the rest
    of the text is taken from the step's output.

    Attributes:
        step_id: The step.
        ended: Whether the text has ended.
        found: Whether the step's result or output was read.
        result: The step's result; `None` until its end was read.
    """

    def __init__(self, step_id: str) -> None:
        self.step_id = step_id
        self.ended = False
        self.found = False
        self.result: StepResult | None = None
        self._attempt = 0
        self._texts: list[str] = []  # of the current attempt
        self._next_index = 0
        self._has_gap = False
        self._restarts = False

    def take(self, event: AnyEvent) -> TextChunk | None:
        """Process the next event of the run. Return its chunk of the step's text; `None`: it has none."""
        match event:
            case StepChunk(step_id=self.step_id):
                return self._take_chunk(event)
            case StepRetrying(step_id=self.step_id):
                self._begin(event.attempt + 1)
            case StepFinished(result=result) if result.step_id == self.step_id:
                return self.end(result)
            case RunFinished(result=run):
                self.ended = True
                if self.step_id in run.outputs:  # the step ended before the watch began
                    self.found = True
                    return self._emit(_text_of(run.outputs[self.step_id]))
        return None

    def end(self, result: StepResult) -> TextChunk | None:
        """End the text with the step's result, and return the part of its output that was not sent in chunks."""
        self.ended, self.found, self.result = True, True, result
        if result.state is not State.SUCCEEDED:
            return None
        sent, output = "".join(self._texts), result.output
        is_list_of_chunks = self._next_index > 0 and isinstance(output, list)
        whole = "".join(map(_text_of, output)) if is_list_of_chunks else _text_of(output)
        if whole.startswith(sent):
            rest = whole[len(sent) :]
            return self._emit(rest) if rest or self._restarts else None
        if not self._has_gap:  # an explicit answer, other than the chunks
            return None
        self._restarts = True
        return self._emit(whole)

    def _take_chunk(self, event: StepChunk) -> TextChunk | None:
        if event.attempt < self._attempt:
            return None
        self._begin(event.attempt)
        self._has_gap = self._has_gap or event.index != self._next_index
        self._next_index = event.index + 1
        return None if self._has_gap else self._emit(_text_of(event.value))

    def _begin(self, attempt: int) -> None:
        """Begin an attempt, unless it has begun."""
        if attempt <= self._attempt:
            return
        self._restarts = self._restarts or bool(self._texts)
        self._attempt, self._texts, self._next_index, self._has_gap = attempt, [], 0, False

    def _emit(self, text: str) -> TextChunk:
        chunk = TextChunk(text, restarts=self._restarts)
        self._restarts = False
        self._texts.append(text)
        return chunk


async def read_text(
    text: StepText, events: AsyncIterator[AnyEvent], run: WatchedRun, *, result: StepResult | None, check: bool
) -> AsyncIterator[TextChunk]:
    """Read events up to the step's end, and yield its text.

    Args:
        text: The text of the step.
        events: The run's events that have not been read.
        run: The run.
        result: The step's result, if its end has been read; else `None`.
        check: Whether to raise if neither the step nor the run succeeds.

    Raises:
        ValueError: The run has no such step, or its end came before the events that the run is watched from.
        RunFailed, RunCancelled: The step did not succeed, the run ended so, and `check` is true.
    """
    if result is not None and (rest := text.end(result)) is not None:
        yield rest
    while not text.ended and (event := await anext(events, None)) is not None:
        if isinstance(event, RunStarted):
            run.check_step(text.step_id)
        if (chunk := text.take(event)) is not None:
            yield chunk
    if not text.found:
        raise ValueError(f"the run has no step {text.step_id!r} that ended while it was watched")
    if check and text.result is not None and text.result.state is not State.SUCCEEDED:
        while run.result is None:
            await anext(events)
        run.checked(run.result)


def _text_of(value: object) -> str:
    """Return a chunk or an output as text: a string as it is, anything else as JSON."""
    return value if isinstance(value, str) else show_json(plain_payload(value))
