"""The context of an attempt, and the explicit answer of a streaming action."""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from stepwave._values.payload import JSON, Blob

__all__ = ["KEPT", "Answer", "Context"]

KEPT = "_stepwave_kept"
"""The attribute of records that the logger of a context has handed over, so that no handler does it again."""

AddSteps: TypeAlias = Callable[[object, bool], Awaitable[None]]
"""Adds steps to the run of an attempt, and seals it if the second argument is true."""

TakeRecord: TypeAlias = Callable[[logging.LogRecord], bool]
"""Takes a record for the run's logs, and returns whether it did. May be called from any thread, and does not raise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The explicit answer of a streaming action. Without it, the answer is made of the stream's chunks.

    Yield it last: `yield Answer({"words": 12})`. To yield anything after it is an error.
    """

    value: JSON | Blob


class HasSteps(Protocol):
    """A workflow under construction."""

    def to_proto(self) -> Any:
        """Return it as a message of the contract."""
        ...


class Context:
    """The ids and deadline of an attempt, and its way to send chunks and progress to the run's watchers.

    An action gets it by annotating a parameter: `async def search(query: str, context: Context)`. All methods may be
    called from any thread, and none blocks. `add_steps` may be awaited on any event loop.

    Attributes:
        run_id: The run.
        step_id: The step.
        attempt: The attempt, from 1.
        idempotency_key: A key for services that take one. It is the same for all attempts of the step, and unique to
            the step. A fallback has a key of its own.
        deadline: The time of the attempt's timeout, in UTC; `None`: no timeout.
    """

    __slots__ = (
        "_add_steps",
        "_emit",
        "_log",
        "_logger",
        "_progress",
        "attempt",
        "deadline",
        "idempotency_key",
        "run_id",
        "step_id",
    )

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
        log: TakeRecord | None = None,
        add_steps: AddSteps | None = None,
    ) -> None:
        self.run_id = run_id
        self.step_id = step_id
        self.attempt = attempt
        self.idempotency_key = idempotency_key or f"default/{run_id}/{step_id}"
        self.deadline = deadline
        self._emit = emit
        self._progress = progress
        self._log = log
        self._add_steps = add_steps
        self._logger: _AttemptLogger | None = None

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose records have `run_id`, `step_id` and `attempt`. It logs as the logger `stepwave.action`.

        The server keeps its messages of level INFO and above for the run's watchers and for `stepwave logs`, at
        whatever level the process logs. It keeps messages of a lower level if the process logs them.
        """
        if self._logger is None:
            logger = logging.getLogger("stepwave.action")
            ids = {"run_id": self.run_id, "step_id": self.step_id, "attempt": self.attempt}
            self._logger = _AttemptLogger(logger if self._log is None else _KeepingLogger(logger, self._log), ids)
        return self._logger

    def emit(self, chunk: JSON | Blob) -> None:
        """Send a chunk of the answer to the run's watchers. Chunks are not kept, and a slow watcher may miss some.

        Raises:
            ValueError: JSON cannot hold the chunk.
        """
        if self._emit is not None:
            self._emit(chunk)

    async def add_steps(self, steps: HasSteps | Iterable[Mapping[str, object]], *, seal: bool = False) -> None:
        """Add steps to the run of this attempt. The run must be open: `client.run(…, open=True)`, or `client.compose`.

            await context.add_steps([{"id": "a", "action": "fetch", "input": {"url": url}}], seal=True)

        They may depend on any step of the run, also on this one. What is ready, runs at once. Another attempt may add
        the same steps again: those that the run has already are no error.

        Args:
            steps: Steps as mappings of the form that a workflow file has, or the steps of a `Workflow`.
            seal: Whether the run gets no more steps. An open run that nobody seals fails when it is idle for too long.

        Raises:
            stepwave.InvalidWorkflow: Steps cannot be added. Nothing has changed.
            stepwave.FailedPrecondition: The run takes no more steps, or was never open.
            ValueError, TypeError: The steps are not steps.
            RuntimeError: The context belongs to no run, as in a test that calls the action itself.
        """
        if self._add_steps is None:
            raise RuntimeError("this context belongs to no run that steps could be added to")
        await self._add_steps(steps, seal)

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Report progress to the run's watchers.

        Args:
            fraction: The part that is done, from 0 to 1; `None`: unknown.
            message: A few words for a person.

        Raises:
            ValueError: The fraction is not between 0 and 1.
            TypeError: The fraction is not a number, or the message not a string.
        """
        share = None if fraction is None else float(fraction)
        if share is not None and not 0 <= share <= 1:
            raise ValueError(f"fraction must be between 0 and 1, got {fraction}")
        if not isinstance(message, str):
            raise TypeError(f"message must be a string, got {type(message).__name__}")
        if self._progress is not None:
            self._progress(share, message)


class _AttemptLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the attempt's ids to the `extra` of every record."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


class _KeepingLogger(logging.Logger):
    """Logs as another logger, and first hands over each record that passes that logger's filters.

    Args:
        logger: The other logger.
        take: Takes the records.
    """

    def __init__(self, logger: logging.Logger, take: TakeRecord) -> None:
        super().__init__(logger.name)
        self.parent = logger
        self._real = logger
        self._take = take

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the library's name, as below
        return level >= logging.INFO or self._real.isEnabledFor(level)

    def setLevel(self, level: int | str) -> None:  # noqa: N802
        self._real.setLevel(level)

    def handle(self, record: logging.LogRecord) -> None:
        passed: object = self._real.filter(record)  # from Python 3.12 on, a filter may replace the record
        if not passed:
            return
        if isinstance(passed, logging.LogRecord):
            record = passed
        if self._take(record):
            setattr(record, KEPT, True)
        if self._real.isEnabledFor(record.levelno):
            self._real.callHandlers(record)
