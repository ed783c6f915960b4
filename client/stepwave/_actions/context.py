"""The context of an attempt, and the explicit answer of a streaming action."""

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepwave._values.payload import JSON, Blob

__all__ = ["Answer", "Context"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The explicit answer of a streaming action; without one, a stream's chunks are its answer.

    Yield it last: `yield Answer({"words": 12})`. What is yielded after it is an error.
    """

    value: JSON | Blob


class Context:
    """What an attempt knows of itself, and its line back to the run's watchers.

    An action gets it by annotating a parameter: `async def search(query: str, context: Context)`. Every method may be
    called from any thread, and none blocks.

    Attributes:
        run_id: The run.
        step_id: The step.
        attempt: The attempt, from 1.
        idempotency_key: Equal for all attempts of the step, and unique to it: hand it to services that take one. A
            fallback has one of its own.
        deadline: When the attempt's timeout passes, in UTC; `None` if it has none.
        logger: A logger whose records carry `run_id`, `step_id` and `attempt`.
    """

    __slots__ = ("_emit", "_progress", "attempt", "deadline", "idempotency_key", "logger", "run_id", "step_id")

    def __init__(
        self,
        *,
        run_id: str,
        step_id: str,
        attempt: int = 1,
        idempotency_key: str = "",
        deadline: datetime | None = None,
        emit: Callable[[JSON | Blob], None] | None = None,
        progress: Callable[[float | None, str], None] | None = None,
    ) -> None:
        self.run_id = run_id
        self.step_id = step_id
        self.attempt = attempt
        self.idempotency_key = idempotency_key or f"default/{run_id}/{step_id}"
        self.deadline = deadline
        self._emit = emit
        self._progress = progress
        facts = {"run_id": run_id, "step_id": step_id, "attempt": attempt}
        self.logger = _AttemptLogger(logging.getLogger("stepwave.action"), facts)

    def emit(self, chunk: JSON | Blob) -> None:
        """Send a part of the answer to whoever watches. Chunks are not kept, and a slow watcher may miss some.

        Raises:
            ValueError: JSON cannot hold the chunk.
        """
        if self._emit is not None:
            self._emit(chunk)

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Say how much is done, from 0 to 1 (`None`: unknown), and in a few words what is going on.

        Raises:
            ValueError: The fraction is not between 0 and 1.
            TypeError: The fraction is no number, or the message no text.
        """
        share = None if fraction is None else float(fraction)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
        if not isinstance(message, str):
            raise TypeError(f"message must be a string, got {type(message).__name__}")
        if self._progress is not None:
            self._progress(share, message)


class _AttemptLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the attempt's ids to every record, beside what the caller adds."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs
