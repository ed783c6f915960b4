"""Chunks and logs of attempts on their way from hosts to servers."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from stepwave_server.core.info import RunKey
from stepwave_server.core.model import Payload
from stepwave_server.engine.base import LogPage
from stepwave_server.wire.events.encode import LogEntry, encode_log

__all__ = ["NO_TRANSIENTS", "Chunk", "LogMessage", "RunStreams", "Source", "TransientSink", "log_page"]


class RunStreams(NamedTuple):
    """The names of the streams that have the chunks and logs of a run.

    Attributes:
        key: The run.
        execution: Temporal's id of its workflow's execution. A later run with the same id has another one.
    """

    key: RunKey
    execution: str


class Source(NamedTuple):
    """An attempt that shows something."""

    run: RunStreams
    step_id: str
    attempt: int


class Chunk(NamedTuple):
    """A chunk of an attempt; `number` counts from 0."""

    step_id: str
    attempt: int
    number: int
    payload: Payload


class LogMessage(NamedTuple):
    """A message that an attempt logged.

    Attributes:
        number: The number of the message in the run, from 1.
        time: When it was logged, in nanoseconds since the epoch.
        step_id: The step.
        attempt: The number of the attempt.
        entry: The message.
    """

    number: int
    time: int
    step_id: str
    attempt: int
    entry: LogEntry


def log_page(run_id: str, messages: Sequence[LogMessage], step_id: str, after: int, most: int) -> LogPage:
    """Return at most `most` messages of a run after a number; with a step, only messages of this step.

    Args:
        run_id: The id of the run.
        messages: What is kept of the run, in order.
        step_id: The step; empty: all steps.
        after: The number.
        most: Maximum number of messages.
    """
    found: list[bytes] = []
    time = last = 0
    for message in messages:
        time = max(time, message.time)  # the clocks of hosts differ, and the times of a run never go back
        if message.number <= after or step_id not in {"", message.step_id}:
            continue
        if len(found) == most:
            return LogPage(found, messages[0].number - 1, last)
        last = message.number
        found.append(encode_log(run_id, time, last, message.step_id, message.attempt, message.entry))
    return LogPage(found, messages[0].number - 1 if messages else 0, 0)


class TransientSink(Protocol):
    """Takes what attempts show. It never blocks: what it cannot take is dropped."""

    def chunk(self, source: Source, index: int, chunk: Payload) -> None:
        """Take a chunk; `index` counts from 0."""
        ...

    def log(self, source: Source, entry: LogEntry) -> None:
        """Take what an attempt logged. It may be called from any thread."""
        ...

    async def flush(self, run: RunStreams) -> None:
        """Wait until what was taken of a run was passed on, for a moment at most."""
        ...

    async def close(self) -> None:
        """Pass on what was taken, within a second, and take no more."""
        ...


class _NoTransients:
    """Drops everything: there is no way from hosts to servers."""

    def chunk(self, source: Source, index: int, chunk: Payload) -> None:
        """Drop a chunk."""

    def log(self, source: Source, entry: LogEntry) -> None:
        """Drop what an attempt logged."""

    async def flush(self, run: RunStreams) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


NO_TRANSIENTS: TransientSink = _NoTransients()
