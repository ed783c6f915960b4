"""A copy of a journal as it stands at one moment, made while a server uses it."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from stepwave_server.journal.base import JournalError
from stepwave_server.journal.sqlite.database import APPLICATION_ID, open_reader
from stepwave_server.journal.sqlite.storage_errors import NotAJournal, explain

__all__ = ["backup"]


def backup(source: Path, target: Path) -> None:
    """Copy a journal. The copy is whole or not there, readable for its owner alone, and replaces an older one.

    Args:
        source: The file of the journal; a server may be using it.
        target: The file to write.

    Raises:
        JournalError: There is no journal, or the copy cannot be written.
    """
    if not source.is_file():
        raise JournalError(f"there is no journal at {source}")
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise JournalError(f"cannot write {target}: {error.strerror}") from error
    try:
        _copy(source, draft)
        _settle(draft, target)
    except sqlite3.Error as error:
        raise explain(source, error) from error
    except OSError as error:
        raise JournalError(f"cannot write {target}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _copy(source: Path, draft: Path) -> None:
    with closing(open_reader(source)) as journal:
        (application,) = journal.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION_ID:
            raise NotAJournal(source)
        with closing(sqlite3.connect(draft)) as copy:
            journal.backup(copy)  # all pages in one go: a writer would make a copy in parts begin anew
            copy.execute("PRAGMA journal_mode = DELETE")  # so that the copy is one file


def _settle(draft: Path, target: Path) -> None:
    """Make the copy safe on the disk, and give it its name."""
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    draft.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
