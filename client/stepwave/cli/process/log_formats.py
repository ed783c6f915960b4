"""The formats of log records on standard error: text for people, and lines of JSON for machines."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

__all__ = ["LogFormat", "start_logging"]

_IDS = ("run_id", "step_id", "attempt")
_FACTS = ("state", "duration")
_VISIBLE = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}
"""Escapes for control characters, but for line breaks and tabs."""

_LIBRARIES = ("httpx2", "mcp")
"""Loggers of libraries that log requests, ids of sessions and bad answers, which the failures of steps report."""


class LogFormat(StrEnum):
    """The format of log records."""

    CONSOLE = "console"
    JSON = "json"


def start_logging(level: str, log_format: str = LogFormat.CONSOLE) -> None:
    """Write log records of at least a level, `debug` to `error`, to standard error, in a `LogFormat`."""
    handler = logging.StreamHandler(sys.stderr)
    json_lines = log_format == LogFormat.JSON
    text = _IdFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonFormatter() if json_lines else text)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    if level != "debug":
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.CRITICAL)


class _IdFormatter(logging.Formatter):
    """Appends the ids of a record to its message, such as `run_id=briefing-7k3f9q2m`.

    Control characters become visible: hosts and MCP servers elsewhere write texts, and a terminal obeys escapes.
    """

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).translate(_VISIBLE)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        ids = [f"{name}={getattr(record, name)}" for name in _IDS if hasattr(record, name)]
        return " ".join([super().formatMessage(record), *ids])


class _JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON: its time, level, logger and message, and its ids if it has any.

    The time is in UTC. A record without ids has those of the attempt, and of the trace, in whose context it is logged.
    """

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= _attempt_ids(record)
        line |= {name: getattr(record, name) for name in (*_IDS, *_FACTS) if hasattr(record, name)}
        if trace_id := getattr(record, "trace_id", "") or _current_trace():
            line["trace_id"] = trace_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def _attempt_ids(record: logging.LogRecord) -> Mapping[str, object]:
    """Return the ids of the attempt that logs a record, by name; empty: none does."""
    from stepwave_server.actions.logs import ids_of

    return ids_of(record)


def _current_trace() -> str:
    """Return the id of the current trace in hexadecimal digits; empty: no span is current."""
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else ""
