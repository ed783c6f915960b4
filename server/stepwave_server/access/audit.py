"""The audit log: who changed what, in JSON Lines."""

import json
import logging
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path

from stepwave_server.access.roles import AccessError, Caller

__all__ = ["AuditLog"]

logger = logging.getLogger(__name__)


class _File(WatchedFileHandler):
    """The file, which reports in the server's log that it cannot be written."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        logger.error("the audit log %s cannot be written: %s", self.baseFilename, sys.exc_info()[1])


class AuditLog:
    """Appends a line for each call that changes something, and for each that was refused.

    The file is opened again when it was rotated.

    Args:
        path: The file; `None`: nothing is written.

    Raises:
        AccessError: It cannot be opened.
    """

    def __init__(self, path: Path | None) -> None:
        self._handler: WatchedFileHandler | None = None
        if path is None:
            return
        try:
            self._handler = _File(path, encoding="utf-8")
        except OSError as error:
            raise AccessError(f"the audit log {path} cannot be opened: {error.strerror}") from error
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def write(
        self,
        *,
        call: str,
        caller: Caller | None,
        peer: str,
        namespace: str = "",
        run_id: str = "",
        step_id: str = "",
        outcome: str,
    ) -> None:
        """Append a line.

        Args:
            call: The name of the call.
            caller: Who made it; `None`: not known.
            peer: The caller's address.
            namespace: The namespace that it named.
            run_id: The run that it named.
            step_id: The step that it named.
            outcome: `STARTED`, a run was started or joined; `OK`; `CANCELLED`; or the reason of the error.
        """
        if self._handler is None:
            return
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "call": call,
            "caller": None if caller is None else caller.name,
            "peer": peer,
            "namespace": namespace,
            "run_id": run_id,
            "step_id": step_id,
            "outcome": outcome,
        }
        text = json.dumps({key: value for key, value in line.items() if value != ""}, ensure_ascii=False)
        self._handler.emit(logging.LogRecord("audit", logging.INFO, "", 0, "%s", (text,), None))

    def close(self) -> None:
        """Close the file."""
        if self._handler is not None:
            self._handler.close()
