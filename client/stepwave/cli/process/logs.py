"""The server's log on standard error: one line for each record, with the ids of what it is about."""

import logging
import sys

__all__ = ["start_logging"]

_IDS = ("run_id", "step_id", "attempt")


def start_logging(level: str) -> None:
    """Write records of at least this level (`debug` … `error`) to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_IdFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _IdFormatter(logging.Formatter):
    """Appends the ids that a record carries, as `run_id=briefing-7k3f9q2m`."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        ids = [f"{name}={getattr(record, name)}" for name in _IDS if hasattr(record, name)]
        return " ".join([super().formatMessage(record), *ids])
