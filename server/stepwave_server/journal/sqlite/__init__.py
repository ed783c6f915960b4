"""The journal in SQLite."""

from stepwave_server.journal.sqlite.backup import backup
from stepwave_server.journal.sqlite.database import check_place
from stepwave_server.journal.sqlite.journal import SqliteJournal

__all__ = ["SqliteJournal", "backup", "check_place"]
