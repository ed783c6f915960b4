"""Captures what actions log. Each attempt has a sink, which accepts log records until the attempt ends.

Records reach the sink of their attempt in two ways. The logger of the attempt's `Context` hands them over itself. With
`capture_logs`, a handler of the root logger hands over the records of all other loggers, by a context variable that
threads of the action inherit. A server in a user's process does without this handler: it would turn
`logging.basicConfig` off.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from stepwave._actions.context import KEPT
from stepwave_server.actions.failures import cut, text_of, traceback_of, traceback_text
from stepwave_server.actions.redaction import redact_record
from stepwave_server.telemetry.redaction import Redact
from stepwave_server.wire.events.encode import LogEntry, LogLevel

__all__ = ["LogSink", "capture_logs", "ids_of", "is_captured"]

MAX_MESSAGE = 8_192
"""Maximum size of a message in bytes, without the text of an exception."""

MAX_NAME = 256
"""Maximum length of a logger's name in characters."""

_ELLIPSIS = "…"

_OWN_LOGGERS = "stepwave_server."
"""The prefix of the server's own loggers. It may log while the context variables of an attempt are set."""

_LEVELS = (
    (logging.CRITICAL, LogLevel.CRITICAL),
    (logging.ERROR, LogLevel.ERROR),
    (logging.WARNING, LogLevel.WARNING),
    (logging.INFO, LogLevel.INFO),
)

logger = logging.getLogger(__name__)

_sink: ContextVar["LogSink | None"] = ContextVar("stepwave_log_sink", default=None)

_forks = 0
"""Number of forks between the first process and this one."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


class LogSink:
    """Accepts the log records of one attempt, on any thread, until the attempt ends.

    Context variables and loggers may outlive the attempt. They refer to its sink alone, which then refers to nothing
    but how texts are redacted: a thread of the action may still log.

    Attributes:
        redact: Redacts texts; `None`: the attempt has no secrets.

    Args:
        keep: Called with each entry.
        tracebacks: Whether an entry has the traceback of a logged exception.
        ids: Returns the ids of the attempt by name, for the log of the server; `None`: there are none.
    """

    __slots__ = ("_forks", "_ids", "_keep", "_tracebacks", "redact")

    def __init__(
        self,
        keep: Callable[[LogEntry], None],
        *,
        tracebacks: bool,
        ids: Callable[[], Mapping[str, str | int]] | None = None,
    ) -> None:
        self._ids = ids
        self._keep: Callable[[LogEntry], None] | None = keep
        self._tracebacks = tracebacks
        self._forks = _forks
        self.redact: Redact | None = None

    def enter(self) -> None:
        """Make this the sink of the current context, and of contexts that are copied from it."""
        _sink.set(self)

    @property
    def is_open(self) -> bool:
        """Whether it accepts records. A forked process has the memory of the server, but not the server."""
        return self._keep is not None and self._forks == _forks

    def take(self, record: logging.LogRecord) -> bool:
        """Accept a record, unless the attempt has ended. An error never reaches the action.

        Returns:
            Whether it was accepted.
        """
        if self.redact is not None:  # the record may come from a thread without the context of the attempt
            redact_record(record, self.redact)
        keep = self._keep
        if keep is None or not self.is_open:
            return False
        try:
            keep(_entry(record, tracebacks=self._tracebacks))
        except Exception:
            logger.exception("a log record of an action was lost")
            return False
        return True

    def ids(self) -> Mapping[str, str | int]:
        """Return the ids of the attempt by name; empty: it has ended, or has none."""
        ids = self._ids
        return {} if ids is None else ids()

    def close(self) -> None:
        """Accept no more records, and drop the references to the attempt."""
        self._keep = self._ids = None


@contextmanager
def capture_logs() -> Iterator[None]:
    """Hand over the records of all loggers to the sinks of their attempts while inside."""
    handler = _CaptureHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def ids_of(record: logging.LogRecord) -> Mapping[str, str | int]:
    """Return the ids of the attempt that logs a record, by name; empty: none does. Call it where it is logged."""
    sink = _sink_of(record)
    return {} if sink is None else sink.ids()


def is_captured(record: logging.LogRecord) -> bool:
    """Return whether a record is taken while inside `capture_logs`. Call it where the record is logged."""
    return hasattr(record, KEPT) or _sink_of(record) is not None


class _CaptureHandler(logging.Handler):
    """Hands over the records that are logged in the context of an attempt."""

    def emit(self, record: logging.LogRecord) -> None:
        sink = None if hasattr(record, KEPT) else _sink_of(record)
        if sink is not None:
            sink.take(record)


def _sink_of(record: logging.LogRecord) -> LogSink | None:
    """Return the sink for a record that is logged in the current context; `None`: no attempt logs it."""
    sink = _sink.get()
    if sink is None or not sink.is_open or record.name.startswith(_OWN_LOGGERS):
        return None
    return sink


def _entry(record: logging.LogRecord, *, tracebacks: bool) -> LogEntry:
    """Return the entry of a record, with as much of it as can be read."""
    parts = [_shortened(text_of(record.getMessage, MAX_MESSAGE))]
    if tracebacks:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, BaseException):
            parts.append(traceback_text(error, traceback_of(error)).rstrip())
        elif record.exc_text:  # a traceback that was redacted
            parts.append(_shortened(record.exc_text, keep_end=True))
        elif record.stack_info:
            parts.append(_shortened(record.stack_info, keep_end=True))
    return LogEntry(_level(record.levelno), cut(record.name, MAX_NAME), "\n".join(parts))


def _level(number: int) -> LogLevel:
    return next((level for least, level in _LEVELS if number >= least), LogLevel.DEBUG)


def _shortened(text: str, *, keep_end: bool = False) -> str:
    """Shorten a text to `MAX_MESSAGE` bytes. Its beginning is kept, or its end."""
    data = text.encode(errors="replace")
    if len(data) <= MAX_MESSAGE:
        return text
    most = MAX_MESSAGE - len(_ELLIPSIS.encode())
    if keep_end:
        return _ELLIPSIS + data[-most:].decode(errors="ignore")
    return data[:most].decode(errors="ignore") + _ELLIPSIS
