"""Journals, which keep the events of runs: the protocol, and the journals in memory and in SQLite."""

from stepwave_server.journal.base import Ended, Header, Journal, JournalError, Listing, Position, Unfinished
from stepwave_server.journal.memory import MemoryJournal
from stepwave_server.journal.retention import Retention
from stepwave_server.journal.sqlite import SqliteJournal, backup, check_place

__all__ = [
    "Ended",
    "Header",
    "Journal",
    "JournalError",
    "Listing",
    "MemoryJournal",
    "Position",
    "Retention",
    "SqliteJournal",
    "Unfinished",
    "backup",
    "check_place",
]
