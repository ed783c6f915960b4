"""Backup: a consistent copy of a journal, made while a server may use it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from stepwave_server.journal.base import JournalError
from stepwave_server.journal.sqlite.database import APPLICATION_ID, open_reader
from stepwave_server.journal.sqlite.storage_errors import NotAJournal, explain

__all__ = ["backup"]


def backup(source: Path, target: Path) -> None:
    """Copy a journal. The copy is complete or absent, readable by its owner only, and replaces an older one.

    Args:
        source: The journal's file; a server may be using it.
        target: The file to write.

    Raises:
        JournalError: There is no journal at `source`, or the copy cannot be written.
    """
    if not source.is_file():
        raise JournalError(f"there is no journal at {source}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise JournalError(f"cannot write {target}: {error.strerror}") from error
    try:
        _copy(source, temporary)
        _publish(temporary, target)
    except sqlite3.Error as error:
        raise explain(source, error) from error
    except OSError as error:
        raise JournalError(f"cannot write {target}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy(source: Path, temporary: Path) -> None:
    with closing(open_reader(source)) as journal:
        (application,) = journal.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise NotAJournal(source)
        with closing(sqlite3.connect(temporary)) as copy:
            journal.backup(copy)  # all pages at once: a commit restarts a copy in parts
            copy.execute("PRAGMA journal_mode = DELETE")  # so that the copy is a single file


def _publish(temporary: Path, target: Path) -> None:
    """Sync the copy to the disk, and give it its final name."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
