"""Events at rest: what a journal is, and the journals there are."""

from stepwave_server.journal.base import Header, Journal, Kept, Listing
from stepwave_server.journal.memory import MemoryJournal, Retention

__all__ = ["Header", "Journal", "Kept", "Listing", "MemoryJournal", "Retention"]
