"""Errors of opening, reading and writing a journal in SQLite."""

import sqlite3
from pathlib import Path

from stepwave_server.journal.base import JournalError

__all__ = [
    "JournalBroken",
    "JournalCorrupt",
    "JournalInUse",
    "JournalIsFolder",
    "JournalTaken",
    "JournalTooNew",
    "NotAJournal",
    "explain",
]


class JournalInUse(JournalError):
    """Raised when another server has the journal open.

    Attributes:
        owner: The process that has it open, such as `process 4711 on host`; empty if unknown.
    """

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"the journal {path} is in use by {owner or 'another server'}")
        self.owner = owner


class JournalTaken(JournalError):
    """Raised when another server has taken over the journal. This server writes nothing any more.

    Attributes:
        owner: The process that has taken it over.
    """

    lasting = True

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(f"the journal {path} was taken over by {owner}")
        self.owner = owner


class JournalTooNew(JournalError):
    """Raised when a later version of Stepwave wrote the journal.

    Attributes:
        version: The version of the journal's schema.
        known: The latest schema that this version of Stepwave knows.
    """

    def __init__(self, path: Path, version: int, known: int) -> None:
        super().__init__(
            f"the journal {path} was written by a later version of Stepwave: its schema is {version}, "
            f"and this version knows up to {known}"
        )
        self.version = version
        self.known = known


class NotAJournal(JournalError):
    """Raised when a file is not a journal."""

    lasting = True

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} is no journal of Stepwave; it is left as it is")


class JournalIsFolder(JournalError):
    """Raised when the journal's path is a folder."""

    lasting = True

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"cannot open the journal {path}: it is a folder; name a file in it, as in sqlite:{path / 'journal.db'}"
        )


class JournalCorrupt(JournalError):
    """Raised when a journal's file is damaged."""

    lasting = True

    def __init__(self, path: Path) -> None:
        super().__init__(f"the journal {path} is damaged; restore a back-up, or move it away")


class JournalBroken(JournalError):
    """Raised when a defect of the journal has stopped it. Nothing is written any more."""

    lasting = True

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(f"the journal {path} met a defect: {type(error).__name__}: {error}")


_FILES = ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")


def explain(path: Path, error: sqlite3.Error | OSError) -> JournalError:
    """Return the journal's error for one of SQLite or of the operating system."""
    if isinstance(error, OSError):
        return JournalError(f"cannot open the journal {path}: {error.strerror or error}")
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_NOTADB"):
        return NotAJournal(path)
    if name.startswith("SQLITE_CORRUPT"):
        return JournalCorrupt(path)
    if name.startswith("SQLITE_FULL"):
        return JournalError(f"cannot write the journal {path}: the disk is full")
    if name.startswith(_FILES):
        return JournalError(f"cannot write the journal {path}: it or its folder is read-only")
    return JournalError(f"the journal {path} fails: {error}")
